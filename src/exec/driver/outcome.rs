//! Reports, records and counts the outcomes of stages.

use std::collections::BTreeMap;
use std::time::Instant;

use hamflow_stage_api::{ErrorCategory, StageError};

use super::Driver;
use super::lookup::outputs_by_name;
use super::work::StageWork;
use crate::config::Location;
use crate::digest::Digest;
use crate::exec::RunEvent;
use crate::exec::busy_time::{BusyTime, milliseconds};
use crate::exec::event::Done;
use crate::exec::queue::{ENDED, QueuedTask};
use crate::exec::record::{Outcome, StageRecord};
use crate::graph::StageId;
use crate::plan::StaleReason;
use crate::store::ActionKey;

/// The end of a stage.
struct Ending {
    outcome: Outcome,
    /// Empty if the stage never had a key.
    key: String,
    reasons: Vec<StaleReason>,
    outputs: BTreeMap<String, Digest>,
    error: Option<StageError>,
}

impl Driver<'_> {
    /// Reports the start of a stage that has jobs.
    pub(super) fn announce(&mut self, id: StageId) {
        let Some(work) = self.stages.get(&id) else { return };
        // A resumed stage has already reported its start.
        if work.parts.ran > 0 {
            return;
        }
        let (parts, parts_cached) = (work.parts.parts.len(), work.parts.cached);
        let reasons = if self.setting.is_rebuild() {
            Vec::new()
        } else {
            self.report.journal.save_soon();
            self.reasons(work)
        };
        let stage = self.name(id).to_owned();
        (self.report.events)(RunEvent::StageStarted { stage, reasons, parts, parts_cached });
    }

    /// Finishes a stage: its result is known and, except in a rebuild, in `out/`.
    pub(super) fn finish(&mut self, id: StageId, done: Done) {
        let Some(work) = self.stages.remove(&id) else { return };
        let (Some(check), Some(result)) = (&work.check, work.result.clone()) else { return };
        if self.setting.is_rebuild() {
            self.results.insert(id, result);
            return;
        }
        self.planner.write(check);
        if !check.unhashed().is_empty() {
            self.locks.unhashed.push((id, check.clone()));
        }
        let (name, key) = (self.name(id).to_owned(), check.key);
        if let Ok(locked) = self.locked(&work) {
            self.locks.now.stages.insert(name.clone(), locked);
        }
        let lock = super::lock_name(self.setting.options, self.setting.store);
        self.planner.out().record().set(&name, &lock, &key.hex());
        let outcome = self.count(done, key);
        // Parts built before the key was known count even if another stage then built the result.
        let ahead = self.ahead.remove(&id);
        let reasons = self.reasons(&work);
        let at_work = if work.is_committed { Some(work) } else { ahead };
        if at_work.as_ref().is_none_or(|work| !work.is_committed) {
            self.report.summary.transfers.fetched += usize::from(self.sharing.has_fetched(id, key));
        }
        self.count_parts(at_work.as_ref());
        let ending = Ending { outcome, key: key.hex(), reasons, outputs: outputs_by_name(&result), error: None };
        self.tell(id, ending, at_work.as_ref());
        for message in &result.flaws {
            (self.report.events)(RunEvent::Flaw { stage: name.clone(), message: message.clone() });
        }
        self.results.insert(id, result);
    }

    fn count(&mut self, done: Done, key: ActionKey) -> Outcome {
        let summary = &mut self.report.summary;
        match done {
            Done::Ran => {
                self.seen.executed.insert(key);
                summary.ran += 1;
                Outcome::Ran
            }
            Done::Cached => {
                summary.cached += 1;
                Outcome::Cached
            }
            Done::Fresh => {
                summary.fresh += 1;
                Outcome::Fresh
            }
        }
    }

    fn count_parts(&mut self, work: Option<&StageWork>) {
        if let Some(StageWork { parts, .. }) = work {
            let summary = &mut self.report.summary;
            summary.parts_ran += parts.ran;
            summary.part_files_ran += parts.ran_amount.files;
            summary.parts_cached += parts.cached;
        }
    }

    /// Records a stage failure.
    pub(super) fn fail(&mut self, id: StageId, mut error: StageError) {
        let ahead = self.ahead.remove(&id);
        let work = self.stages.remove(&id).or(ahead);
        self.locate(id, &mut error);
        let error = self.report.redactor.redact_error(error);
        let category = error.category;
        let worst = self.report.summary.failures.worst.map_or(category, |known| worse(known, category));
        self.report.summary.failures.worst = Some(worst);
        self.report.summary.failed += 1;
        if self.setting.is_rebuild() {
            self.report.summary.failures.rebuild = Some(error);
            return;
        }
        // The last output lines of the program are already in the log.
        let text = error.render();
        let said: Vec<&str> = text.lines().filter(|line| !line.starts_with("  | ")).collect();
        let name = self.name(id);
        self.report.journal.log(name, &format!("error: {}", said.join("\n")));
        self.tell_unfinished(id, Outcome::Failed, work, Some(error));
    }

    /// Adds the location in the pipeline file of what the user must change.
    fn locate(&self, id: StageId, error: &mut StageError) {
        // The fix is in the stage's parameters or its inputs; the stage's table declares both.
        let pipeline = &self.setting.graph.pipeline;
        if error.category == ErrorCategory::Input
            && error.place.is_none()
            && let Some(Location { file, line, column, .. }) =
                pipeline.sources.locate(self.setting.graph.stage(id).span)
        {
            *error = error.clone().at(file, line as u64, column as u64);
        }
        // Paths below the project are relative to its root, as a user there would write them.
        if let Some(place) = &mut error.place
            && let Ok(below) = std::path::Path::new(&place.path).strip_prefix(&pipeline.root)
        {
            place.path = below.display().to_string();
        }
    }

    /// Records a stage that had work when the user ended the run.
    pub(super) fn interrupt(&mut self, id: StageId) {
        let is_queued = self.queues.is_leaving && self.jobs.values().any(|job| job.stage == id && job.is_remote);
        self.report.summary.skipped += 1;
        self.report.summary.begun.unfinished += 1;
        let work = self.stages.remove(&id);
        self.count_parts(work.as_ref());
        let outcome = if is_queued { Outcome::Queued } else { Outcome::Interrupted };
        self.tell_unfinished(id, outcome, work, None);
    }

    /// Records a stage that was not reached.
    pub(super) fn skip(&mut self, id: StageId) {
        self.report.summary.skipped += 1;
        self.tell_unfinished(id, Outcome::Skipped, None, None);
    }

    /// Reopens a finished stage for another lookup; removes its counts and its record.
    pub(super) fn reopen(&mut self, id: StageId) {
        self.warn(Some(id), "its files in the cache were damaged; it is rebuilt".to_owned());
        self.seen.remade.insert(id);
        self.results.remove(&id);
        self.sharing.forget(id);
        let name = self.name(id);
        let stages = &mut self.report.journal.record.stages;
        let last = stages.iter().rposition(|record| record.stage == name);
        if let Some(record) = last.map(|place| stages.remove(place)) {
            match record.outcome {
                Outcome::Ran => self.report.summary.ran -= 1,
                Outcome::Cached => self.report.summary.cached -= 1,
                _ => self.report.summary.fresh -= 1,
            }
        }
    }

    /// Discards the progress and copies of a stage that starts over; what is stored stays in the store.
    pub(super) fn abandon(&mut self, id: StageId) {
        self.jobs.retain(|_, job| job.stage != id);
        self.stages.remove(&id);
        self.copies.forget(id.index());
    }

    fn tell_unfinished(&mut self, id: StageId, outcome: Outcome, work: Option<StageWork>, error: Option<StageError>) {
        if self.setting.is_rebuild() {
            return;
        }
        let check = work.as_ref().and_then(|work| work.check.as_ref());
        let key = check.map(|check| check.key.hex()).unwrap_or_default();
        let reasons = work.as_ref().map(|work| self.reasons(work)).unwrap_or_default();
        self.tell(id, Ending { outcome, key, reasons, outputs: BTreeMap::new(), error }, work.as_ref());
    }

    /// Why a stage is stale, without secrets.
    fn reasons(&self, work: &StageWork) -> Vec<StaleReason> {
        work.reasons.iter().map(|reason| reason.clone().redacted(&self.report.redactor)).collect()
    }

    /// The time in which a stage was worked on so far.
    pub(super) fn busy_time(&self, id: StageId, work: &StageWork) -> BusyTime {
        let mut busy = work.busy.clone();
        let running = self.jobs.values().filter(|job| job.stage == id && job.took.is_none());
        running.for_each(|job| busy.add(Instant::now(), job.started.elapsed()));
        busy
    }

    /// The tasks of a stage in a queue, at its end.
    fn ended_tasks(&mut self, id: StageId, outcome: Outcome) -> Vec<QueuedTask> {
        let name = self.name(id).to_owned();
        let mut tasks = self.queues.tasks.remove(&name).unwrap_or_default();
        if outcome == Outcome::Interrupted {
            for task in tasks.iter_mut().filter(|task| task.state != ENDED) {
                task.state = "cancelled".to_owned();
                task.reason.clear();
            }
        }
        tasks
    }

    /// Reports and records the end of a stage.
    fn tell(&mut self, id: StageId, ending: Ending, work: Option<&StageWork>) {
        let Ending { outcome, key, reasons, outputs, error } = ending;
        let record = StageRecord {
            stage: self.name(id).to_owned(),
            outcome,
            key,
            reasons,
            parts_ran: work.map_or(0, |work| work.parts.ran),
            parts_cached: work.map_or(0, |work| work.parts.cached),
            wall_ms: work.map_or(0, |work| self.busy_time(id, work).milliseconds()),
            peak_memory: work.map_or(0, |work| work.peak_memory),
            work_ms: work.map_or(0, |work| milliseconds(work.work_time)),
            tasks: self.ended_tasks(id, outcome),
            device: work.and_then(|work| work.device.clone()),
            outputs,
            error,
        };
        (self.report.events)(RunEvent::StageFinished {
            stage: record.stage.clone(),
            outcome,
            reasons: record.reasons.clone(),
            parts_ran: record.parts_ran,
            parts_cached: record.parts_cached,
            wall_ms: record.wall_ms,
            error: record.error.clone(),
        });
        self.report.journal.close_log(&record.stage);
        self.report.journal.record.stages.push(record);
        if !matches!(outcome, Outcome::Fresh | Outcome::Skipped) {
            self.report.journal.save_soon();
        }
    }
}

/// Returns the more severe category: internal errors, then disk errors, then user errors, then stage failures.
fn worse(a: ErrorCategory, b: ErrorCategory) -> ErrorCategory {
    let rank = |category| match category {
        ErrorCategory::Bug => 4,
        ErrorCategory::Disk => 3,
        ErrorCategory::Input => 2,
        ErrorCategory::InputChanged => 1,
        ErrorCategory::Failed => 0,
    };
    if rank(b) > rank(a) { b } else { a }
}
