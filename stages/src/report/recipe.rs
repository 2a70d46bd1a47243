//! The recipe of the model, and the pipeline that made everything on the page.

use std::collections::BTreeMap;

use hamflow_stage_api::{Lineage, LineageSource, LineageStage};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::facts::facts;
use super::figure;
use crate::plot::{GraphNode, PipelineGraphPlot};

/// The kinds that make a model.
const TRAINING: [&str; 2] = ["train", "search"];

/// The ports of the page at which the training or its model is connected.
const PORTS: [&str; 2] = ["training", "model"];

/// Pipelines with more stages are not drawn.
const MAX_STAGES: usize = 60;

/// The parameters of the training, if the page knows them.
pub fn model(lineage: &Lineage) -> Option<Markup> {
    let training = training(lineage)?;
    let mut upstream = training.inputs.iter().filter_map(|input| stage(lineage, input.from));
    let preprocess = upstream.find(|stage| stage.kind == "preprocess");
    Some(html! {
        h3 { "Recipe" }
        p { "The parameters of the training, and how its images were prepared. Those that are zero, false or none are omitted; "
            "all are listed under " a href="#provenance" { "Provenance" } "." }
        (parameters(training))
        @if let Some(preprocess) = preprocess { h4 { "Images" } (parameters(preprocess)) }
    })
}

/// The entries of a summary of the training that only repeat its parameters.
pub fn repeated<'a>(lineage: &'a Lineage, summary: &Value) -> Vec<&'a str> {
    let params = training(lineage).into_iter().flat_map(|training| &training.params);
    params.filter(|(name, value)| summary.get(name.as_str()) == Some(value)).map(|(name, _)| name.as_str()).collect()
}

/// The stage that made the model of the page.
fn training(lineage: &Lineage) -> Option<&LineageStage> {
    let page = lineage.stages.last()?;
    let read = |port: &&str| stage(lineage, page.inputs.iter().find(|input| input.port == *port)?.from);
    PORTS.iter().find_map(read).filter(|training| TRAINING.contains(&&training.kind[..]))
}

/// The stage that an edge starts at; `None` for an input from outside.
fn stage(lineage: &Lineage, from: LineageSource) -> Option<&LineageStage> {
    match from {
        LineageSource::Stage(place) => lineage.stages.get(place),
        LineageSource::Outside(_) => None,
    }
}

/// The parameters that are set and not off, and the seed.
fn parameters(stage: &LineageStage) -> Markup {
    let mut shown: Map<String, Value> = stage
        .params
        .iter()
        .filter(|(_, value)| !is_off(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(seed) = stage.seed {
        shown.insert("seed".to_owned(), seed.to_string().into());
    }
    facts(&Value::Object(shown), &[])
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_off),
        Value::Bool(true) => false,
    }
}

/// The graph of the pipeline up to the page, with the parameters of each stage; nothing if the page does not know it.
pub fn pipeline(lineage: &Lineage) -> Option<Markup> {
    if lineage.stages.len() < 2 {
        return None;
    }
    Some(html! {
        h3 { "Pipeline" }
        @if lineage.stages.len() <= MAX_STAGES { (figure::drawn(&graph(lineage), "pipeline-graph", "The pipeline")) }
        details {
            summary { "Parameters of every stage" }
            @for stage in lineage.stages.iter().filter(|stage| !stage.params.is_empty()) {
                h4 { (stage.label) }
                (facts(&Value::Object(stage.params.clone()), &[]))
            }
        }
    })
}

/// The graph: inputs from outside, each named by the first port that reads it, then the stages.
fn graph(lineage: &Lineage) -> PipelineGraphPlot {
    let mut outside: BTreeMap<usize, &str> = BTreeMap::new();
    for input in lineage.stages.iter().flat_map(|stage| &stage.inputs) {
        if let LineageSource::Outside(number) = input.from {
            outside.entry(number).or_insert(&input.port);
        }
    }
    let places: BTreeMap<usize, usize> = outside.keys().copied().zip(0..).collect();
    let node = |label: &str, outside| GraphNode { label: label.to_owned(), outside };
    let mut nodes: Vec<GraphNode> = outside.values().map(|port| node(port, true)).collect();
    nodes.extend(lineage.stages.iter().map(|stage| node(&stage.label, false)));
    let mut edges = Vec::new();
    for (place, stage) in lineage.stages.iter().enumerate() {
        for input in &stage.inputs {
            let from = match input.from {
                LineageSource::Stage(stage) => outside.len() + stage,
                LineageSource::Outside(number) => places[&number],
            };
            if !edges.contains(&(from, outside.len() + place)) {
                edges.push((from, outside.len() + place));
            }
        }
    }
    PipelineGraphPlot { title: "From the data to this page".to_owned(), nodes, edges }
}

#[cfg(test)]
mod tests {
    use hamflow_stage_api::LineageInput;
    use serde_json::json;

    use super::*;

    fn lineage() -> Lineage {
        let stage = |kind: &str, params: Value, inputs: &[(&str, LineageSource)]| LineageStage {
            label: kind.to_owned(),
            kind: kind.to_owned(),
            params: params.as_object().unwrap().clone(),
            seed: (kind == "train").then_some(1234),
            inputs: inputs.iter().map(|(port, from)| LineageInput { port: (*port).to_owned(), from: *from }).collect(),
        };
        let train =
            json!({"model": "<b>", "learning_rate": 0.001, "mixup": 0.0, "cutmix": null, "augment": {"flip": true}});
        Lineage {
            stages: vec![
                stage(
                    "preprocess",
                    json!({"width": 100, "hair_removal": "none"}),
                    &[("images", LineageSource::Outside(0))],
                ),
                stage("train", train, &[("shards", LineageSource::Stage(0)), ("split", LineageSource::Outside(1))]),
                stage(
                    "report",
                    json!({"title": "t"}),
                    &[("model", LineageSource::Stage(1)), ("training", LineageSource::Stage(1))],
                ),
            ],
        }
    }

    #[test]
    fn a_summary_repeats_only_parameters_with_the_same_value() {
        let summary = json!({"model": "<b>", "learning_rate": 0.002, "rows": 7});
        assert_eq!(repeated(&lineage(), &summary), ["model"]);
        assert_eq!(repeated(&Lineage::default(), &summary), [""; 0]);
    }

    #[test]
    fn the_recipe_is_that_of_the_model_on_the_page() {
        let mut lineage = lineage();
        let mut other = lineage.stages[1].clone();
        other.params.insert("batch_size".to_owned(), json!(77));
        // Another training, which a comparison reads, comes first.
        lineage.stages.insert(1, other);
        lineage.stages[3].inputs = vec![
            LineageInput { port: "comparison".to_owned(), from: LineageSource::Stage(1) },
            LineageInput { port: "model".to_owned(), from: LineageSource::Stage(2) },
        ];
        assert!(!model(&lineage).unwrap().into_string().contains("77"));
        lineage.stages[3].inputs.pop();
        assert!(model(&lineage).is_none());
    }

    #[test]
    fn the_recipe_has_what_is_on() {
        let page = model(&lineage()).unwrap().into_string();
        for expected in [
            "<dt>model</dt><dd>&lt;b&gt;</dd>",
            "<dt>learning rate</dt><dd>0.001</dd>",
            "<dt>seed</dt><dd>1234</dd>",
            "<dt>width</dt>",
            "flip",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
        assert!(!page.contains("mixup") && !page.contains("cutmix") && !page.contains("hair removal"), "{page}");
        assert!(model(&Lineage::default()).is_none());
    }

    #[test]
    fn the_graph_has_every_stage_and_each_dependency_once() {
        let plot = graph(&lineage());
        let labels: Vec<&str> = plot.nodes.iter().map(|node| &node.label[..]).collect();
        assert_eq!(labels, ["images", "split", "preprocess", "train", "report"]);
        assert_eq!(plot.edges, [(0, 2), (2, 3), (1, 3), (3, 4)]);
        // Two inputs that are read through ports of the same name are two boxes.
        let mut two = lineage();
        two.stages[1].inputs.push(LineageInput { port: "images".to_owned(), from: LineageSource::Outside(2) });
        assert_eq!(graph(&two).nodes.iter().filter(|node| node.label == "images").count(), 2);
        let page = pipeline(&lineage()).unwrap().into_string();
        assert!(
            page.contains("train reads split, preprocess.") || page.contains("train reads preprocess, split."),
            "{page}"
        );
        assert!(pipeline(&Lineage::default()).is_none());
    }
}
