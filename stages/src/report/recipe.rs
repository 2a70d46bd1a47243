//! The recipe of the model, and the pipeline that made everything on the page.

use std::collections::BTreeMap;

use hamflow_stage_api::{Lineage, LineageStage};
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
    let page = lineage.stages.last()?;
    let read = |port: &&str| page.inputs.iter().find(|input| input.port == *port)?.stage;
    let stage = PORTS.iter().find_map(read).and_then(|place| lineage.stages.get(place))?;
    if !TRAINING.contains(&&stage.kind[..]) {
        return None;
    }
    let upstream = stage.inputs.iter().filter_map(|input| lineage.stages.get(input.stage?));
    let preprocess = upstream.into_iter().find(|stage| stage.kind == "preprocess");
    Some(html! {
        h3 { "Recipe" }
        p { "The parameters of the training, and how its images were prepared. Those that are zero, false or none are omitted; "
            "all are listed under " a href="#provenance" { "Provenance" } "." }
        (parameters(stage))
        @if let Some(preprocess) = preprocess { h4 { "Images" } (parameters(preprocess)) }
    })
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

/// The graph: inputs from outside, named by the ports that read them, then the stages.
fn graph(lineage: &Lineage) -> PipelineGraphPlot {
    let mut outside: BTreeMap<&str, usize> = BTreeMap::new();
    let external = lineage.stages.iter().flat_map(|stage| &stage.inputs).filter(|input| input.stage.is_none());
    for input in external {
        let next = outside.len();
        outside.entry(&input.port).or_insert(next);
    }
    let mut nodes: Vec<GraphNode> = vec![GraphNode { label: String::new(), outside: true }; outside.len()];
    for (port, place) in &outside {
        (*port).clone_into(&mut nodes[*place].label);
    }
    let first = nodes.len();
    nodes.extend(lineage.stages.iter().map(|stage| GraphNode { label: stage.label.clone(), outside: false }));
    let mut edges = Vec::new();
    for (place, stage) in lineage.stages.iter().enumerate() {
        for input in &stage.inputs {
            let from = input.stage.map_or_else(|| outside[&input.port[..]], |stage| first + stage);
            if !edges.contains(&(from, first + place)) {
                edges.push((from, first + place));
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
        let stage = |kind: &str, params: Value, inputs: &[(&str, Option<usize>)]| LineageStage {
            label: kind.to_owned(),
            kind: kind.to_owned(),
            params: params.as_object().unwrap().clone(),
            seed: (kind == "train").then_some(1234),
            inputs: inputs
                .iter()
                .map(|(port, stage)| LineageInput { port: (*port).to_owned(), stage: *stage })
                .collect(),
        };
        let train =
            json!({"model": "<b>", "learning_rate": 0.001, "mixup": 0.0, "cutmix": null, "augment": {"flip": true}});
        Lineage {
            stages: vec![
                stage("preprocess", json!({"width": 100, "hair_removal": "none"}), &[("images", None)]),
                stage("train", train, &[("shards", Some(0)), ("split", None)]),
                stage("report", json!({"title": "t"}), &[("model", Some(1)), ("training", Some(1))]),
            ],
        }
    }

    #[test]
    fn the_recipe_is_that_of_the_model_on_the_page() {
        let mut lineage = lineage();
        let mut other = lineage.stages[1].clone();
        other.params.insert("batch_size".to_owned(), json!(77));
        // Another training, which a comparison reads, comes first.
        lineage.stages.insert(1, other);
        lineage.stages[3].inputs = vec![
            LineageInput { port: "comparison".to_owned(), stage: Some(1) },
            LineageInput { port: "model".to_owned(), stage: Some(2) },
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
        let page = pipeline(&lineage()).unwrap().into_string();
        assert!(
            page.contains("train reads split, preprocess.") || page.contains("train reads preprocess, split."),
            "{page}"
        );
        assert!(pipeline(&Lineage::default()).is_none());
    }
}
