//! How stages end: done, failed, not reached, or to be made again because the cache was damaged.

use std::collections::BTreeSet;
use std::sync::Arc;

use hamflow_stage_api::{ErrorCategory, StageError};

use super::{Active, Scheduler, State, milliseconds};
use crate::config::Location;
use crate::exec::RunEvent;
use crate::exec::record::{Outcome, StageRecord};
use crate::graph::{Source, StageId};
use crate::lock::LockedStage;
use crate::plan::{Check, StaleReason, expected_files};
use crate::store::ActionResult;

impl Scheduler<'_> {
    /// If blobs that a stage reads are damaged, lets the stages that made them make them again, and the stage begin anew.
    pub(super) fn heal(&mut self, id: StageId) -> bool {
        let mut damaged = BTreeSet::new();
        let mut remade = false;
        for source in self.graph.edges[id.index()].iter().flat_map(|binding| &binding.sources) {
            let Source::Artifact { stage, .. } = source else { continue };
            // Another stage that reads it may have noticed first.
            remade |= self.remade.contains(stage);
            let Some(result) = self.results.get(stage) else { continue };
            let files = expected_files(self.store, result);
            // Every blob is looked at, so that all damaged ones are dropped at once.
            let whole = files
                .is_some_and(|files| files.values().filter(|digest| !self.store.content.check(digest)).count() == 0);
            if !whole && self.states[stage.index()] == State::Done {
                damaged.insert(*stage);
            }
        }
        for upstream in &damaged {
            let message = "bytes of it were damaged in the cache; it is made again".to_owned();
            let stage = Some(self.name(*upstream).to_owned());
            (self.events)(RunEvent::Warning { stage, message });
            self.forget(*upstream);
            self.remade.insert(*upstream);
        }
        if damaged.is_empty() && !remade {
            return false;
        }
        // What its other jobs still say is about a plan that is no longer.
        let others: Vec<u64> =
            self.running.iter().filter(|(_, running)| running.stage == id).map(|(job, _)| *job).collect();
        for job in others {
            self.take_running(job);
        }
        self.committing.retain(|_, committing| committing.stage != id);
        self.drop_queued(id);
        self.active.remove(&id);
        self.copies.forget(id);
        self.states[id.index()] = State::Waiting;
        self.candidates.insert(self.rank[id.index()]);
        true
    }

    /// Puts a stage that is done back to the waiting ones, and out of the counts.
    fn forget(&mut self, id: StageId) {
        self.states[id.index()] = State::Waiting;
        self.candidates.insert(self.rank[id.index()]);
        self.results.remove(&id);
        // The remote may have what is damaged here.
        self.asked.retain(|(asked, _), _| *asked != id);
        let name = self.name(id);
        let last = self.journal.record.stages.iter().rposition(|record| record.stage == name);
        if let Some(record) = last.map(|place| self.journal.record.stages.remove(place)) {
            match record.outcome {
                Outcome::Ran => self.summary.ran -= 1,
                Outcome::Cached => self.summary.cached -= 1,
                _ => self.summary.fresh -= 1,
            }
        }
    }

    pub(super) fn drop_queued(&mut self, id: StageId) {
        let rank = self.rank[id.index()];
        self.queue.retain(|(found, _, _)| *found != rank);
    }

    pub(super) fn fail(&mut self, id: StageId, mut error: StageError) {
        if self.states[id.index()] == State::Failed {
            return;
        }
        // What the user must change is the stage's parameters or what it reads: the table is where both are said.
        let pipeline = &self.graph.pipeline;
        if error.category == ErrorCategory::Input
            && error.place.is_none()
            && let Some(Location { file, line, column, .. }) = pipeline.sources.locate(self.graph.stage(id).span)
        {
            error = error.at(file, line as u64, column as u64);
        }
        // Below the project as a user there would write it.
        if let Some(place) = &mut error.place
            && let Ok(below) = std::path::Path::new(&place.path).strip_prefix(&pipeline.root)
        {
            place.path = below.display().to_string();
        }
        let error = self.secrets.hide_in_error(error);
        self.states[id.index()] = State::Failed;
        self.wake(id);
        self.drop_queued(id);
        let ahead = self.ahead.remove(&id);
        let active = self.active.remove(&id).or(ahead);
        let gravest = self.summary.failure.map_or(error.category, |known| graver(known, error.category));
        self.summary.failure = Some(gravest);
        self.summary.failed += 1;
        // What the program said last stands in the log already.
        let text = error.to_string();
        let said: Vec<&str> = text.lines().filter(|line| !line.starts_with("  | ")).collect();
        let name = self.graph.pipeline.stages[id.index()].name.as_str();
        self.journal.log(name, &format!("error: {}", said.join("\n")));
        let key =
            active.as_ref().and_then(|active| active.check.as_ref()).map(|check| check.key.hex()).unwrap_or_default();
        let reasons = active.as_ref().map(|active| active.reasons.clone()).unwrap_or_default();
        self.note(id, Outcome::Failed, key, reasons, active.as_ref(), None, Some(error));
        if !self.options.keep_going {
            self.stop();
        }
    }

    /// Begins nothing more.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.queue.clear();
        if let Some(committer) = &self.committer {
            committer.stop_copying();
        }
    }

    /// A stage was at work when the user ended the run.
    pub(super) fn interrupt(&mut self, id: StageId) {
        self.states[id.index()] = State::Skipped;
        self.summary.skipped += 1;
        self.summary.unfinished += 1;
        let active = self.active.remove(&id);
        if let Some(active) = &active {
            self.summary.parts_ran += active.ran;
            self.summary.part_files_ran += active.ran_amount.files;
            self.summary.parts_cached += active.cached;
        }
        let check = active.as_ref().and_then(|active| active.check.as_ref());
        let key = check.map(|check| check.key.hex()).unwrap_or_default();
        let reasons = active.as_ref().map(|active| active.reasons.clone()).unwrap_or_default();
        self.note(id, Outcome::Interrupted, key, reasons, active.as_ref(), None, None);
    }

    pub(super) fn skip(&mut self, id: StageId) {
        self.states[id.index()] = State::Skipped;
        self.wake(id);
        self.summary.skipped += 1;
        self.note(id, Outcome::Skipped, String::new(), Vec::new(), None, None, None);
    }

    pub(super) fn finish(
        &mut self,
        id: StageId,
        check: &Check,
        result: Arc<ActionResult>,
        outcome: Outcome,
        reasons: Vec<StaleReason>,
        active: Option<&Active>,
    ) {
        let outputs = result.outputs.artifacts().iter().map(|output| (output.name.clone(), output.digest)).collect();
        let device = check.fingerprint.device.clone();
        let locked = LockedStage { key: check.key.hex(), device, inputs: check.locked_inputs(), outputs };
        let expected = self.planner.lock().stages.get(self.name(id));
        if self.options.locked && !expected.is_some_and(|expected| expected.agrees_with(&locked)) {
            let error = StageError::input("its outputs or inputs differ from `pipeline.lock`");
            return self.fail(id, error.hint("run without `--locked` and commit the new lock"));
        }
        // What was made ahead for a result that another stage then made is done all the same.
        let ahead = self.ahead.remove(&id);
        let active = active.or(ahead.as_ref());
        check.store_texts(self.store);
        if !check.unread().is_empty() {
            self.unlocked.push((id, check.clone()));
        }
        self.states[id.index()] = State::Done;
        self.wake(id);
        match outcome {
            Outcome::Ran => {
                self.executed.insert(check.key);
                self.summary.ran += 1;
            }
            Outcome::Cached => self.summary.cached += 1,
            _ => self.summary.fresh += 1,
        }
        if let Some(active) = active {
            self.summary.parts_ran += active.ran;
            self.summary.part_files_ran += active.ran_amount.files;
            self.summary.parts_cached += active.cached;
        }
        let (name, lock) = (self.name(id).to_owned(), self.lock_name());
        self.planner.laid().set(&name, &lock, &check.key.hex());
        self.lock.stages.insert(name, locked);
        self.note(id, outcome, check.key.hex(), reasons, active, Some(&result), None);
        let stage = self.name(id);
        for message in &result.flaws {
            (self.events)(RunEvent::Flaw { stage: stage.to_owned(), message: message.clone() });
        }
        self.results.insert(id, result);
    }

    /// Tells and records how a stage ended.
    #[expect(clippy::too_many_arguments, reason = "one private place where every ending comes together")]
    fn note(
        &mut self,
        id: StageId,
        outcome: Outcome,
        key: String,
        reasons: Vec<StaleReason>,
        active: Option<&Active>,
        result: Option<&ActionResult>,
        error: Option<StageError>,
    ) {
        let record = StageRecord {
            stage: self.name(id).to_owned(),
            outcome,
            key,
            reasons,
            parts_ran: active.map_or(0, |active| active.ran),
            parts_cached: active.map_or(0, |active| active.cached),
            wall_ms: active.map_or(0, |active| milliseconds(active.started)),
            peak_memory: active.map_or(0, |active| active.peak_memory),
            device: active.and_then(|active| active.device.clone()),
            outputs: result
                .map(|result| {
                    result.outputs.artifacts().iter().map(|output| (output.name.clone(), output.digest)).collect()
                })
                .unwrap_or_default(),
            error,
        };
        (self.events)(RunEvent::StageFinished {
            stage: record.stage.clone(),
            outcome,
            reasons: record.reasons.clone(),
            parts_ran: record.parts_ran,
            parts_cached: record.parts_cached,
            wall_ms: record.wall_ms,
            error: record.error.clone(),
        });
        self.journal.close_log(&record.stage);
        self.journal.record.stages.push(record);
        if !matches!(outcome, Outcome::Fresh | Outcome::Skipped) {
            self.journal.save_soon();
        }
    }
}

/// A bug is graver than the disk, the disk than the user's mistakes, those than a stage's failure.
fn graver(a: ErrorCategory, b: ErrorCategory) -> ErrorCategory {
    let grave = |category| match category {
        ErrorCategory::Bug => 4,
        ErrorCategory::Disk => 3,
        ErrorCategory::Input => 2,
        ErrorCategory::InputChanged => 1,
        ErrorCategory::Failed => 0,
    };
    if grave(b) > grave(a) { b } else { a }
}
