//! The graph in every format.

use std::collections::BTreeMap;

use super::{CHAIN, built};
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
