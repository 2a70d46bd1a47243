//! A run of which a seal says that there is nothing to do.

use std::time::Instant;

use super::record::{Outcome, run_name};
use super::{RunEvent, RunSummary};
use crate::plan::Seal;

/// Tells the same events as [`run`](super::run) would where every stage is fresh; `started` is when the look began.
pub fn run_sealed(seal: &Seal, started: Instant, events: &mut dyn FnMut(RunEvent)) -> RunSummary {
    events(RunEvent::RunStarted { run: run_name(), stages: seal.stages.len() });
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
    summary
}
