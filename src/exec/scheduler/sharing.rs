//! What a run has of a remote, and gives to it.

use hamflow_stage_api::StageError;

use super::{Active, Materialised, Scheduler};
use crate::exec::RunEvent;
use crate::exec::record::Outcome;
use crate::graph::StageId;
use crate::plan::{Check, Verdict};

impl Scheduler<'_> {
    /// Finishes a stage with the result that the remote has of it; false where it has none that is believed.
    pub(super) fn take_from_remote(&mut self, id: StageId, check: &Check) -> Result<bool, StageError> {
        let Some(remote) = self.options.remote.clone() else { return Ok(false) };
        let fetched = remote.fetch(self.store, &check.key.hex());
        self.tell_of_remote();
        if fetched.is_none() {
            return Ok(false);
        }
        let check = self.planner.check(id, &self.results)?;
        let Some((result, files)) = check.result.clone() else { return Ok(false) };
        let outcome = match self.planner.verdict(id, &check)? {
            Verdict::Fresh => Outcome::Fresh,
            Verdict::Cached if self.lay_out(id, &check, &result, &files)? != Materialised::Damaged => Outcome::Cached,
            _ => return Ok(false),
        };
        self.summary.fetched += 1;
        let reasons = self.planner.reasons(id, &check);
        self.finish(id, &check, result, outcome, reasons, None);
        Ok(true)
    }

    /// Brings the results of parts that are not here from the remote, as far as it has them.
    pub(super) fn take_parts_from_remote(&mut self, id: StageId, active: &Active) -> Result<(), StageError> {
        let Some(remote) = self.options.remote.clone() else { return Ok(()) };
        let outputs = &self.graph.pipeline.stages[id.index()].outputs;
        let mut absent = Vec::new();
        for part in &active.parts {
            let key = self.part_key(active, part)?.0;
            if self.known_part(&key, outputs).is_none() {
                absent.push(key.hex());
            }
        }
        remote.fetch_all(self.store, &absent);
        self.tell_of_remote();
        Ok(())
    }

    /// Says what went wrong with the remote, once.
    pub(super) fn tell_of_remote(&mut self) {
        if let Some(message) = self.options.remote.as_ref().and_then(|remote| remote.take_warning()) {
            (self.events)(RunEvent::Warning { stage: None, message: self.secrets.hide(message) });
        }
    }

    /// Waits for what is still on its way to the remote, and returns how many results were given to it; where the user ended the run,
    /// waits for nothing.
    pub(super) fn end_uploads(&mut self, interrupted: bool) -> usize {
        let (results, _) = self.uploads.take().map_or((0, 0), |uploads| uploads.finish(interrupted));
        self.tell_of_remote();
        usize::try_from(results).unwrap_or(usize::MAX)
    }
}
