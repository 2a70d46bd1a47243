//! What a run has of a remote, and gives to it.

use hamflow_stage_api::{Output, StageError};

use super::{KnownPart, Materialised, Scheduler};
use crate::exec::RunEvent;
use crate::exec::record::Outcome;
use crate::graph::StageId;
use crate::plan::{Check, Verdict};
use crate::store::ActionKey;

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

    /// What is known of each part: what the cache has, and what the remote has of the others.
    pub(super) fn known_parts(&mut self, keys: Vec<ActionKey>, outputs: &[Output]) -> Vec<Option<KnownPart>> {
        let mut known: Vec<_> = keys.iter().map(|key| self.known_part(key, outputs)).collect();
        if let Some(remote) = self.options.remote.clone() {
            let absent: Vec<usize> = (0..keys.len()).filter(|number| known[*number].is_none()).collect();
            let names: Vec<String> = absent.iter().map(|number| keys[*number].hex()).collect();
            remote.fetch_all(self.store, &names);
            self.tell_of_remote();
            for number in absent {
                known[number] = self.known_part(&keys[number], outputs);
            }
        }
        known
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
