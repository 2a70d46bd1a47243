//! A run of which a seal says that there is nothing to do.

use std::path::Path;
use std::time::Instant;

use hamflow_stage_api::StageError;

use super::record::{Outcome, run_name};
use super::{RunEvent, RunSummary};
use crate::fs::{self, disk_error};
use crate::out;
use crate::plan::Seal;

/// Does what [`run`](super::run) would do where every stage of the project at `root` is fresh, and tells the same events;
/// `started` is when the look began. Where the caller holds the run lock (`held`), what killed runs left is removed.
pub fn run_sealed(
    seal: &Seal,
    root: &Path,
    held: bool,
    started: Instant,
    events: &mut dyn FnMut(RunEvent),
) -> Result<RunSummary, StageError> {
    events(RunEvent::RunStarted { run: run_name(), stages: seal.stages.len() });
    out::check(root, &root.join("out"))?;
    if held {
        fs::remove(&Seal::store(root).join("tmp")).map_err(|error| disk_error(&error))?;
        out::sweep(&root.join("out"))?;
    }
    for stage in &seal.stages {
        events(RunEvent::StageFinished {
            stage: stage.clone(),
            outcome: Outcome::Fresh,
            reasons: Vec::new(),
            parts_ran: 0,
            parts_cached: 0,
            wall_ms: 0,
            error: None,
        });
    }
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let summary = RunSummary { fresh: seal.stages.len(), wall_ms, ..RunSummary::default() };
    events(RunEvent::RunFinished(summary.clone()));
    Ok(summary)
}
