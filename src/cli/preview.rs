//! `hamflow preview`: what a stage does to some of its inputs, before it is paid for.

use std::io::ErrorKind;
use std::path::PathBuf;

use clap::Args;
use hamflow_stage_api::Planning;

use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::fs::{self, Durability};
use crate::plan::Planner;
use crate::ui;

/// Arguments of `hamflow preview`.
#[derive(Debug, Args)]
pub struct PreviewArguments {
    /// The stage
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    common: Common,
    /// How many of its inputs are shown
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    sample: u16,
    /// The picture's file; by default `STAGE-preview.png`
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn execute(arguments: &PreviewArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let (graph, store) = (&opened.graph, &opened.store);
    let selected = graph.select(std::slice::from_ref(&arguments.stage))?;
    let [id] = selected[..] else {
        return Err(CliError::user(format!("`{}` is several stages\nhint: name one of them", arguments.stage)));
    };
    let mut planner = Planner::new(graph, store, &opened.lock, false);
    let missing = planner.scan(&graph.upstream(&[id]))?;
    if !missing.is_empty() {
        return Err(project::missing_inputs(graph, &missing));
    }
    let stage = graph.stage(id);
    let (verdicts, results) = status::verdicts(&mut planner, &graph.dependencies(id));
    for (_, verdict) in verdicts {
        verdict?;
    }
    let waiting: Vec<&str> = planner.unfinished(id, &results).iter().map(|id| &graph.stage(*id).name[..]).collect();
    if !waiting.is_empty() {
        let names: Vec<String> = waiting.iter().map(|name| format!("`{name}`")).collect();
        let (make, them) = if waiting.len() == 1 { ("makes", "it") } else { ("make", "them") };
        let message = format!("`{}` reads what {} {make}, which is not up to date", stage.name, names.join(" and "));
        return Err(CliError::user(format!("{message}\nhint: `hamflow run {}` makes {them}", waiting.join(" "))));
    }
    let check = planner.check(id, &results)?;
    let inputs = check.read_inputs(store)?;
    let planning = Planning { params: &stage.params, inputs: &inputs, seed: check.fingerprint.seed };
    let Some(picture) = stage.kind.preview(planning, usize::from(arguments.sample))? else {
        return Err(CliError::user(format!("the kind `{}` has no preview", stage.spec.name)));
    };
    let path = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}-preview.png", stage.base)));
    let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    fs::write(&absolute, &picture, Durability::Relaxed).map_err(|error| match error.source.kind() {
        ErrorKind::StorageFull => error.into(),
        _ => CliError::user(format!("{error}\nhint: `--out` names another place for the picture")),
    })?;
    ui::data(&format!("{}", path.display()));
    Ok(0)
}
