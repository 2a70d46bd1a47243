//! `hamflow preview`: renders what a stage does to a sample of its inputs, without running it.

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
    /// The stage to preview
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    common: Common,
    /// Number of inputs to show
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    sample: u16,
    /// Image file to write [default: `STAGE-preview.png`]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn execute(arguments: &PreviewArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let (graph, store) = (&opened.graph, &opened.store);
    let selected = graph.select(std::slice::from_ref(&arguments.stage))?;
    let [id] = selected[..] else {
        return Err(CliError::user(format!("`{}` is a matrix of stages", arguments.stage)).hint("choose one of them"));
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
        let are = if waiting.len() == 1 { "is" } else { "are" };
        let message = format!("`{}` depends on {}, which {are} not up to date", stage.name, names.join(" and "));
        return Err(CliError::user(message).hint(format!("run `hamflow run {}` first", waiting.join(" "))));
    }
    let check = planner.check(id, &results)?;
    let inputs = check.read_inputs(store)?;
    let planning = Planning { inputs: &inputs, seed: check.fingerprint.seed };
    let Some(picture) = stage.kind.preview(&stage.params, planning, usize::from(arguments.sample))? else {
        return Err(CliError::user(format!("the kind `{}` has no preview", stage.spec.name)));
    };
    let path = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}-preview.png", stage.base)));
    let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    fs::write(&absolute, &picture, Durability::Relaxed).map_err(|error| match error.source.kind() {
        ErrorKind::StorageFull => error.into(),
        _ => CliError::user(error.to_string()).hint("choose another file with `--out`"),
    })?;
    ui::data(&format!("{}", path.display()));
    Ok(0)
}
