//! The graph in every format. The images were inspected after rendering them with `rsvg-convert`.

use std::collections::BTreeMap;

use super::{CHAIN, SWEEP, built};
use crate::graph::Graph;
use crate::graph::render::{Annotation, Drawing};

fn drawn(graph: &Graph, annotations: &[(&str, &str, &str)], draw: fn(&Drawing<'_>) -> String) -> String {
    let annotations: BTreeMap<_, _> = annotations
        .iter()
        .map(|&(name, status, reason)| {
            let reason = (!reason.is_empty()).then(|| reason.to_owned());
            (graph.find(name).unwrap(), Annotation { status: Some(status.to_owned()), reason })
        })
        .collect();
    draw(&Drawing { graph, stages: &graph.order, annotations: &annotations })
}

const NOTES: [(&str, &str, &str); 4] = [
    ("source", "fresh", ""),
    ("clean", "cached", ""),
    ("pack", "stale", "`rows.csv` changed"),
    ("fit", "pending", "`pack` is \"stale\" & <odd>"),
];

#[test]
fn the_tree_shows_every_stage_once() {
    let graph = built(CHAIN);
    assert_eq!(
        drawn(&graph, &NOTES, |drawing| drawing.tree()),
        "\
source          fresh
├─ clean        cached
└─ pack         stale    `rows.csv` changed
   └─ fit       pending  `pack` is \"stale\" & <odd>  (also reads clean)
      └─ judge
"
    );
    assert_eq!(
        drawn(&graph, &[], |drawing| drawing.tree()),
        "\
source
├─ clean
└─ pack
   └─ fit       (also reads clean)
      └─ judge
"
    );
}

#[test]
fn the_tree_abbreviates_all_combinations_of_a_matrix() {
    let graph = built(SWEEP);
    let all = drawn(&graph, &[], |drawing| drawing.tree());
    assert_eq!(
        all,
        "\
source
└─ pack
   ├─ fit[lr=10]
   │  └─ judge[lr=10]
   ├─ fit[lr=9]
   │  └─ judge[lr=9]
   └─ fit[lr=0.001]
      └─ judge[lr=0.001]
         └─ all           (also reads fit[lr=9], judge[*])
"
    );
}

#[test]
fn a_selection_is_drawn_without_other_stages() {
    let graph = built(CHAIN);
    let stages = graph.select(&["pack".to_owned(), "fit".to_owned()]).unwrap();
    let drawing = Drawing { graph: &graph, stages: &stages, annotations: &BTreeMap::new() };
    assert_eq!(drawing.tree(), "pack\n└─ fit\n");
    assert_eq!(drawing.mermaid(), "flowchart LR\n  n0[\"pack\"]\n  n1[\"fit\"]\n  n0 -->|\"shards\"| n1\n");
}

#[test]
fn graphviz_names_are_quoted() {
    let graph = built(CHAIN);
    assert_eq!(
        drawn(&graph, &NOTES, |drawing| drawing.dot()),
        r##"digraph pipeline {
  rankdir=LR;
  node [fontname="sans-serif", shape=box, style="rounded,filled"];
  edge [fontname="sans-serif", fontsize=10];
  "inputs.rows" [label="inputs.rows", shape=folder, style=solid];
  "source" [label="source\nfresh", fillcolor="#e6f4ea", color="#1e7a44"];
  "clean" [label="clean\nmap\ncached", fillcolor="#e3effb", color="#1b62a5"];
  "pack" [label="pack\nstale\n`rows.csv` changed", fillcolor="#fdf0d5", color="#96590a"];
  "fit" [label="fit\npending\n`pack` is \"stale\" & <odd>", fillcolor="#efeff3", color="#5b6072"];
  "judge" [label="judge\ngather", fillcolor="#ffffff", color="#4a5060"];
  "inputs.rows" -> "source";
  "source" -> "clean" [label="table"];
  "source" -> "pack" [label="table"];
  "clean" -> "fit" [label="table"];
  "pack" -> "fit" [label="shards"];
  "fit" -> "judge" [label="metrics, model"];
}
"##
        .replace("is \"stale\"", "is \\\"stale\\\"")
    );
}

#[test]
fn mermaid_texts_are_escaped_and_statuses_are_classes() {
    let graph = built(CHAIN);
    let text = drawn(&graph, &NOTES, |drawing| drawing.mermaid());
    assert!(text.starts_with("flowchart LR\n  n0([\"inputs.rows\"])\n  n1[\"source<br>fresh\"]\n"), "{text}");
    assert!(text.contains("  n4[\"fit<br>pending<br>`pack` is #quot;stale#quot; & #lt;odd#gt;\"]\n"), "{text}");
    assert!(text.contains("  n4 -->|\"metrics, model\"| n5\n"), "{text}");
    assert!(
        text.ends_with("  classDef sstale fill:#fdf0d5,stroke:#96590a,color:#1c2030\n  class n3 sstale\n"),
        "{text}"
    );
}

#[test]
fn json_lists_the_inputs_and_outputs_of_every_stage() {
    let graph = built(SWEEP);
    let text = drawn(&graph, &[("pack", "stale", "why")], |drawing| drawing.json());
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["inputs"], serde_json::json!([{ "name": "rows", "paths": ["rows.csv"] }]));
    let stages = value["stages"].as_array().unwrap();
    let stage = |name: &str| stages.iter().find(|stage| stage["name"] == name).unwrap();
    assert_eq!((&stage("pack")["status"], &stage("pack")["reason"]), (&"stale".into(), &"why".into()));
    assert_eq!(stage("pack")["outputs"][1]["path"], "shards/index.parquet");
    assert_eq!(stage("fit[lr=9]")["axes"], serde_json::json!({ "lr": "9" }));
    let gathered = serde_json::json!({ "from": "judge[lr=9].metrics", "labels": { "lr": "9" }, "port": "metrics" });
    assert_eq!(stage("all")["inputs"][1], gathered);
}

#[test]
fn the_svg_is_deterministic_and_escaped() {
    let graph = built(CHAIN);
    let picture = drawn(&graph, &NOTES, |drawing| drawing.svg());
    assert_eq!(picture, drawn(&graph, &NOTES, |drawing| drawing.svg()));
    for name in ["inputs.rows", "source", "clean", "pack", "fit", "judge", "cached", "stale", "pending"] {
        assert!(picture.contains(&format!(">{name}</text>")), "{name}");
    }
    assert!(picture.contains("`pack` is &quot;stale&quot; &amp; &lt;odd&gt;"), "{picture}");
    assert_eq!(picture.matches("marker-end").count(), 6, "one arrow per edge");
}

#[test]
fn an_empty_drawing_is_valid() {
    let graph = built(CHAIN);
    let drawing = Drawing { graph: &graph, stages: &[], annotations: &BTreeMap::new() };
    assert_eq!(drawing.tree(), "");
    assert!(drawing.svg().ends_with("</svg>\n"));
}
