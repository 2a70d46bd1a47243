//! A run with nothing to do according to a valid seal.

use std::path::Path;
use std::time::Instant;

use hamflow_stage_api::StageError;

use super::driver::milliseconds;
use super::record::{Outcome, run_name};
use super::{RunEvent, RunGuard, RunSummary};
use crate::fs::{self, disk_error};
use crate::out;
use crate::plan::Seal;

/// A run of a project with a valid seal.
pub struct SealedRun<'a> {
    /// The seal.
    pub seal: &'a Seal,
    /// The project directory.
    pub root: &'a Path,
    /// The run lock; `None` on a read-only cache, where leftovers of killed runs remain.
    pub guard: Option<&'a RunGuard>,
    /// When the command started.
    pub started: Instant,
}

/// Reports the same events as a [`run`](super::run) in which every stage is fresh, and removes leftovers of killed runs.
pub fn run_sealed(run: SealedRun<'_>, events: &mut dyn FnMut(RunEvent)) -> Result<RunSummary, StageError> {
    let SealedRun { seal, root, guard, started } = run;
    events(RunEvent::RunStarted { run: run_name(), stages: seal.stages.len() });
    out::check(root, &root.join("out"))?;
    if guard.is_some() {
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
    let wall_ms = milliseconds(started);
    let summary = RunSummary { fresh: seal.stages.len(), wall_ms, ..RunSummary::default() };
    events(RunEvent::RunFinished(summary.clone()));
    Ok(summary)
}
