//! `hamflow dag`: shows the dependency graph with the status of each stage.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::graph::render::{Annotation, Drawing};
use crate::graph::{Graph, StageId};
use crate::plan::Planner;
use crate::ui;

/// Arguments of `hamflow dag`.
#[derive(Debug, Args)]
pub struct DagArguments {
    /// Stages to show (`train`, `+train` with upstream, `train+` with downstream) [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,
    /// Do not determine the status of the stages
    #[arg(long)]
    no_status: bool,
    /// Use the digests in the lock file for missing inputs
    #[arg(long)]
    allow_missing: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Text for the terminal
    Tree,
    /// Graphviz
    Dot,
    /// Mermaid, for Markdown on GitHub and GitLab
    Mermaid,
    /// One JSON object
    Json,
    /// An SVG image
    Svg,
}

/// Runs the command.
pub fn execute(arguments: &DagArguments, kinds: Kinds) -> Result<u8, CliError> {
    if arguments.no_status {
        let graph = project::load_graph(&arguments.common, kinds)?;
        let stages = graph.select(&arguments.stages)?;
        draw(&graph, &stages, &BTreeMap::new(), arguments.format);
        return Ok(0);
    }
    let opened = project::open(&arguments.common, kinds)?;
    let stages = opened.graph.select(&arguments.stages)?;
    let mut planner = Planner::new(&opened.graph, &opened.store, &opened.lock, arguments.allow_missing);
    let (verdicts, _) = status::verdicts(&mut planner, &stages);
    let annotations = verdicts
        .into_iter()
        .map(|(id, verdict)| {
            let (status, reason) = match verdict {
                Ok(verdict) => {
                    let (word, text) = status::in_words(&planner, &verdict);
                    (word, text)
                }
                Err(error) => ("missing", error.message),
            };
            let reason = (!reason.is_empty() && status != "cached").then_some(reason);
            (id, Annotation { status: Some(status.to_owned()), reason })
        })
        .collect();
    draw(&opened.graph, &stages, &annotations, arguments.format);
    Ok(0)
}

fn draw(graph: &Graph, stages: &[StageId], annotations: &BTreeMap<StageId, Annotation>, format: Format) {
    let drawing = Drawing { graph, stages, annotations };
    let text = match format {
        Format::Tree => drawing.tree(),
        Format::Dot => drawing.dot(),
        Format::Mermaid => drawing.mermaid(),
        Format::Json => drawing.json(),
        Format::Svg => drawing.svg(),
    };
    ui::data(text.trim_end_matches('\n'));
}
