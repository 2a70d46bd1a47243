//! Starts jobs and handles the messages of their workers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hamflow_stage_api::{Inputs, JobEvent, JobPart, JobResult, Part, PartOutput, StageError};
use serde_json::Value;

use super::Driver;
use super::work::{JobWork, PartKey, StageWork};
use crate::exec::busy_time::milliseconds;
use crate::exec::commit::{FinishedPart, StagedPart, is_assembled};
use crate::exec::committer::Committer;
use crate::exec::event::{JobId, Piece, SchedulerEvent};
use crate::exec::executor::Placement;
use crate::exec::job::{self, Places};
use crate::exec::throughput::{self, Amount};
use crate::exec::{Message, RunEvent, list_runs, read_run};
use crate::fs;
use crate::graph::StageId;
use crate::plan::StaleReason;
use crate::store::ActionKey;

/// Progress is not told after each part if a stage has this many, since it takes a look at all of them.
const MANY_PARTS: usize = 1000;

/// How often it is told then.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);

/// How many runs are asked how long a part took.
const REMEMBERED_RUNS: usize = 20;

/// Moves what an earlier run wrote beside its result, as far as possible: it is for display.
fn move_entries(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        // The log of this run goes on.
        if entry.file_name() != "log.txt" {
            let _ = fs::rename(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

impl Driver<'_> {
    /// Submits a piece of a stage's work to a worker.
    pub(super) fn submit(
        &mut self,
        number: JobId,
        id: StageId,
        piece: Piece,
        threads: usize,
    ) -> Result<(), StageError> {
        let stage = self.setting.graph.stage(id);
        let work = self.stages.get(&id).ok_or_else(|| StageError::bug("a job of a stage without work"))?;
        let (part, inputs, part_key) = self.work_of(id, work, piece)?;
        let side = self.report.journal.stage_dir(&stage.name);
        if self.seen.started.insert(id) {
            fs::create_dir(&side).map_err(|error| fs::disk_error(&error))?;
        }
        let checkpoint = match piece {
            Piece::Whole => self.checkpoint(id, work),
            Piece::Part(number) => self.part_checkpoint(id, work, &work.parts.parts[number]),
            Piece::Merge => None,
        };
        let placement = self.placement(id, piece);
        let queue = self.executor.folder(&placement);
        let is_queued = queue.is_some();
        let tmp = queue.unwrap_or_else(|| self.setting.target.tmp_dir());
        let own = self.own_paths(id);
        let places = Places {
            store: self.setting.store,
            tmp: &tmp,
            project: &self.setting.graph.pipeline.root,
            own: &own,
            side: &side,
            checkpoint: checkpoint.as_deref(),
            is_queued,
            redactor: &self.report.redactor,
        };
        let lineage = stage.spec.lineage.then(|| self.setting.graph.lineage(id));
        let job = job::make(stage, job::Piece { id: number, part, inputs, lineage, threads }, &places)?;
        let adopted = self.executor.submit(job, &placement).map_err(|error| {
            StageError::failed(format!("cannot start a worker: {error}"))
                .hint("the limits of processes or memory (`ulimit -a`) may be too low")
        })?;
        let mut folder = job::work_dir(&tmp, number);
        let side = adopted.map(|adopted| {
            let _ = fs::remove(&folder);
            folder = adopted.folder;
            adopted.side
        });
        let job = JobWork {
            stage: id,
            piece,
            part_key,
            read: BTreeMap::new(),
            undeclared: None,
            warns: false,
            flaws: Vec::new(),
            started: Instant::now(),
            took: None,
            folder,
            is_remote: placement.executor.is_some(),
            side,
        };
        self.jobs.insert(number, job);
        Ok(())
    }

    /// What a piece of a stage's work is, its inputs, and its key if it is a part.
    fn work_of(&self, id: StageId, work: &StageWork, piece: Piece) -> Result<(JobPart, Inputs, PartKey), StageError> {
        let mut part_key = PartKey::None;
        let (part, inputs) = match piece {
            Piece::Whole => (JobPart::Whole, work.inputs.clone()),
            Piece::Merge => (JobPart::Merge { parts: self.part_outputs(work, id) }, work.inputs.clone()),
            Piece::Part(number) => {
                let part = &work.parts.parts[number];
                let inputs = job::part_inputs(&work.inputs, part)?;
                part_key = match work.check {
                    Some(_) => {
                        let digests = job::known_digests(&inputs, part)?;
                        let (key, fingerprint) = self.part_key(id, work.device.clone(), part, digests);
                        PartKey::Known(key, fingerprint)
                    }
                    None => PartKey::OfReading(Box::new((part.clone(), inputs.clone(), work.device.clone()))),
                };
                let Part { name, key, data, .. } = part.clone();
                (JobPart::Part { name, key, data }, inputs)
            }
        };
        Ok((part, inputs, part_key))
    }

    /// Where the jobs of a stage run.
    fn placement(&mut self, id: StageId, piece: Piece) -> Placement {
        let stage = self.setting.graph.stage(id);
        let is_local = self.setting.is_rebuild() || self.setting.options.local || piece == Piece::Merge;
        let executor = stage.executor.clone().filter(|_| !is_local);
        let estimate = executor.as_ref().and_then(|_| self.estimate(&stage.base));
        let (memory, requests) = (stage.needs.memory, stage.requests.clone());
        Placement { base: stage.base.clone(), executor, memory, requests, estimate }
    }

    /// How long a job of a stage, or of its instances, took on average, when it last ran.
    fn estimate(&mut self, base: &str) -> Option<Duration> {
        if let Some(known) = self.seen.estimates.get(base) {
            return *known;
        }
        let is_instance =
            |name: &str| name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
        let runs = self.setting.store.runs_dir();
        let records = list_runs(&runs).into_iter().take(REMEMBERED_RUNS).filter_map(|run| read_run(&runs, &run));
        let mut sums = records.map(|record| {
            let ran = record.stages.iter().filter(|record| is_instance(&record.stage) && record.work_ms > 0);
            ran.fold((0, 0), |(work, jobs), record| (work + record.work_ms, jobs + record.parts_ran.max(1) as u64))
        });
        let last = sums.find(|(_, jobs)| *jobs > 0);
        let mean = last.map(|(work, jobs)| Duration::from_millis((work / jobs).max(1)));
        self.seen.estimates.insert(base.to_owned(), mean);
        mean
    }

    /// What hamflow itself keeps in the project, as far as a stage might read it: the cache, the lock, and its own former outputs.
    fn own_paths(&mut self, id: StageId) -> Vec<std::path::PathBuf> {
        let name = self.name(id);
        let out = self.planner.out().of_stage(name);
        [self.setting.store.root().to_owned(), self.setting.options.lock_path.clone(), out].to_vec()
    }

    /// Returns the checkpoint directory of a stage; `None` if the stage must run from scratch.
    fn checkpoint(&self, id: StageId, work: &StageWork) -> Option<std::path::PathBuf> {
        let extendable = self.setting.graph.stage(id).spec.extendable;
        if extendable.is_empty() || work.reasons.contains(&StaleReason::Forced) {
            return None;
        }
        let key = work.check.as_ref()?.fingerprint.checkpoint_key(extendable);
        Some(self.setting.target.checkpoints_dir().join(key.hex()))
    }

    /// Returns the checkpoint directory of a part that can resume; `None` if it must run from scratch.
    fn part_checkpoint(&self, id: StageId, work: &StageWork, part: &Part) -> Option<std::path::PathBuf> {
        let resumed = part.checkpoint.clone().filter(|_| !work.reasons.contains(&StaleReason::Forced))?;
        let resumed = Part { key: resumed, ..part.clone() };
        let digests = job::known_digests(&job::part_inputs(&work.inputs, part).ok()?, part).ok()?;
        let (key, _) = self.part_key(id, work.device.clone(), &resumed, digests);
        // Stages that run at the same time may have equal parts.
        let key = ActionKey::of(&format!("checkpoint of `{}` {}", self.name(id), key.hex()));
        Some(self.setting.target.checkpoints_dir().join(key.hex()))
    }

    pub(super) fn part_outputs(&self, work: &StageWork, id: StageId) -> Vec<PartOutput> {
        let (outputs, content) = (&self.setting.graph.stage(id).outputs, &self.setting.target.content);
        let made = work.parts.made.iter().flatten();
        let output = |(part, (_, files)): (&Part, &super::work::KnownPart)| {
            let (assembled, side): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| is_assembled(outputs, path));
            PartOutput {
                name: part.name.clone(),
                side: side.into_iter().map(|(path, digest)| (path.to_string(), content.path(digest))).collect(),
                assembled: assembled.into_iter().map(|(path, digest)| (path.to_string(), digest.size())).collect(),
            }
        };
        work.parts.parts.iter().zip(made).map(output).collect()
    }

    /// Handles a message from a worker, a thread or the user. Returns the resulting scheduler event, if any.
    pub(super) fn handle_message(&mut self, message: Message) -> Option<SchedulerEvent> {
        match message {
            Message::Interrupted => Some(SchedulerEvent::Interrupted),
            Message::Queued { stage, executor, tasks } => {
                self.queues.tasks.insert(stage.clone(), tasks.clone());
                (self.report.events)(RunEvent::Queued { stage, executor, tasks });
                None
            }
            Message::Fetched { stage, found } => self.fetched(stage, found),
            Message::PartStored { job, outcome } => {
                let outcome = outcome.map(|part| self.part_stored(job, *part));
                self.jobs.remove(&job);
                Some(SchedulerEvent::PartStored(job, outcome))
            }
            Message::WorkerLost { worker, stderr } => {
                let job = self.executor.job_of(worker);
                let how = self.executor.reap(worker);
                let job = job.filter(|job| self.jobs.contains_key(job))?;
                Some(SchedulerEvent::JobFailed(job, self.worker_lost(job, &how, stderr)))
            }
            Message::Worker { worker, event } => {
                let job = self.executor.job_of(worker)?;
                match event {
                    JobEvent::Finished(result) => {
                        self.executor.release(worker);
                        self.job_ended(job, result)
                    }
                    event => {
                        self.job_says(job, event);
                        None
                    }
                }
            }
        }
    }

    fn worker_lost(&mut self, job: JobId, how: &str, stderr: String) -> StageError {
        let lost = self.jobs.remove(&job).expect("the caller has looked");
        let id = lost.stage;
        if let Some(work) = self.stages.get_mut(&id).or_else(|| self.ahead.get_mut(&id)) {
            work.busy.add(Instant::now(), lost.started.elapsed());
        }
        let name = self.name(id).to_owned();
        let stderr = self.report.redactor.redact(&stderr).into_owned();
        for line in stderr.lines() {
            self.report.journal.log(&name, line);
        }
        if self.setting.is_rebuild() {
            return StageError::failed(format!("its worker died: {how}\n{stderr}").trim_end().to_owned());
        }
        let hint = format!(
            "`hamflow log {name}` shows its last words; `memory` and `--jobs` limit what runs at the same time"
        );
        StageError::failed(format!("its worker died: {how}")).hint(hint)
    }

    fn job_ended(&mut self, job: JobId, result: JobResult) -> Option<SchedulerEvent> {
        let took = Duration::from_millis(result.wall_ms);
        let ended = self.jobs.get_mut(&job)?;
        ended.took = Some(took);
        let id = ended.stage;
        if let Some(side) = ended.side.take() {
            move_entries(&side, &self.report.journal.stage_dir(self.name(id)));
        }
        if let Some(work) = self.stages.get_mut(&id).or_else(|| self.ahead.get_mut(&id)) {
            work.busy.add(Instant::now(), took);
            work.work_time += took;
            work.peak_memory = work.peak_memory.max(result.peak_memory);
        }
        match result.error {
            None => Some(SchedulerEvent::JobDone(job)),
            Some(error) => {
                self.jobs.remove(&job);
                Some(SchedulerEvent::JobFailed(job, error))
            }
        }
    }

    fn job_says(&mut self, job: JobId, event: JobEvent) {
        let Some(running) = self.jobs.get_mut(&job) else { return };
        let (id, piece) = (running.stage, running.piece);
        let hide = |text: String| self.report.redactor.redact(&text).into_owned();
        let said = match event {
            JobEvent::Read { port, digests } => return drop(running.read.insert(port, digests)),
            JobEvent::Undeclared { reads, warn, problem } => {
                (running.undeclared, running.warns) = (reads, warn);
                return self.cannot_observe(problem);
            }
            JobEvent::Flaw { message } => {
                let message = hide(message);
                running.flaws.push(message.clone());
                JobEvent::Flaw { message }
            }
            JobEvent::Progress { done, total, unit, round, message } => {
                JobEvent::Progress { done, total, unit, round: round.map(hide), message: hide(message) }
            }
            JobEvent::Log { line } => JobEvent::Log { line: hide(line) },
            JobEvent::Note { message } => JobEvent::Note { message: hide(message) },
            JobEvent::Warning { message } => JobEvent::Warning { message: hide(message) },
            JobEvent::Saved | JobEvent::Finished(_) => return,
        };
        let stage = self.name(id).to_owned();
        let (journal, events) = (&mut self.report.journal, &mut self.report.events);
        // A rebuild reports only progress and warnings, and records nothing.
        let recorded = !self.setting.is_rebuild();
        if recorded {
            journal.save_pending();
        }
        let mut log = |line: &str| {
            if recorded {
                journal.log(&stage, line);
            }
        };
        match said {
            // The progress of a split stage is counted by its finished parts.
            JobEvent::Progress { .. } if matches!(piece, Piece::Part(_)) => {}
            JobEvent::Progress { done, total, unit, round, message } => {
                events(RunEvent::Progress { stage, done, total, unit, round, message });
            }
            JobEvent::Log { line } => log(&line),
            JobEvent::Flaw { message } => log(&format!("flaw: {message}")),
            JobEvent::Note { message } => {
                log(&message);
                if recorded {
                    events(RunEvent::Note { stage, message });
                }
            }
            JobEvent::Warning { message } => {
                log(&format!("warning: {message}"));
                events(RunEvent::Warning { stage: Some(stage), message });
            }
            JobEvent::Read { .. } | JobEvent::Undeclared { .. } | JobEvent::Saved | JobEvent::Finished(_) => {}
        }
    }

    /// Says once in a run that programs are not observed.
    fn cannot_observe(&mut self, problem: Option<String>) {
        if let Some(problem) = problem.filter(|_| !std::mem::replace(&mut self.seen.unobserved, true)) {
            self.warn(
                None,
                format!("the files that programs use cannot be observed ({problem}): only declared inputs count"),
            );
        }
    }

    /// Hands a part that a job produced to the committer.
    pub(super) fn store_part(&mut self, job: JobId) -> Result<(), StageError> {
        let Some(running) = self.jobs.get_mut(&job) else { return Err(StageError::bug("a part of no job")) };
        let id = running.stage;
        let cost_ms = milliseconds(running.took.unwrap_or_default());
        let (flaws, work) = (std::mem::take(&mut running.flaws), running.folder.clone());
        let (key, fingerprint) = match self.key_of_made(job) {
            Ok(key) => key,
            Err(error) => {
                self.jobs.remove(&job);
                return Err(error);
            }
        };
        // Part outputs are copied to `out/` unchanged, so copying can start before the stage is done.
        let outputs = &self.setting.graph.stage(id).outputs;
        let copies = self.copies.of_part(id.index(), outputs, self.setting.target);
        let part = FinishedPart { job, key, fingerprint, work, copies, flaws, cost_ms };
        let (store, sender) = (self.setting.target, &self.sender);
        self.committer.get_or_insert_with(|| Committer::start(store, sender.clone())).add(part);
        Ok(())
    }

    /// Returns the key of a finished part: the key it was built under, or the key computed from what it read.
    fn key_of_made(&mut self, job: JobId) -> Result<(ActionKey, Value), StageError> {
        let running = self.jobs.get_mut(&job).ok_or_else(|| StageError::bug("a part of no job"))?;
        let (id, read) = (running.stage, std::mem::take(&mut running.read));
        match std::mem::replace(&mut running.part_key, PartKey::None) {
            PartKey::Known(key, fingerprint) => Ok((key, fingerprint)),
            PartKey::OfReading(reading) => self.key_of_reading(id, read, *reading),
            PartKey::None => Err(StageError::bug("a part has neither a key nor files")),
        }
    }

    /// Records that a part is in the store.
    fn part_stored(&mut self, job: JobId, part: StagedPart) {
        let Some(JobWork { stage: id, piece: Piece::Part(number), .. }) = self.jobs.get(&job) else { return };
        let (id, number) = (*id, *number);
        self.copies.keep(id.index(), part.copied);
        self.sharing.upload(&part.result);
        let Some(work) = self.stages.get_mut(&id) else { return };
        let parts = &mut work.parts;
        parts.made[number] = Some((part.result.key, part.files));
        parts.ran += 1;
        parts.ran_amount = parts.ran_amount + parts.amounts[number];
        // From the end, which usually is made last.
        let is_whole = parts.made.iter().rev().all(Option::is_some);
        let is_due = parts.parts.len() < MANY_PARTS
            || self.seen.progress.get(&id).is_none_or(|shown: &Instant| shown.elapsed() > PROGRESS_PAUSE);
        if is_whole || is_due {
            self.seen.progress.insert(id, Instant::now());
            self.tell_of_parts(id);
        }
        if is_whole && self.stages.get(&id).is_some_and(|work| work.check.is_none()) {
            self.keep_parts_ahead(id);
        }
    }

    /// Says how many parts of a stage are made.
    fn tell_of_parts(&mut self, id: StageId) {
        let Some(work) = self.stages.get(&id) else { return };
        let elapsed = self.busy_time(id, work).total();
        let parts = &work.parts;
        let all: Amount = parts.amounts.iter().copied().sum();
        let made = parts.made.iter().zip(&parts.amounts).filter(|(made, _)| made.is_some());
        let behind: Amount = made.map(|(_, amount)| *amount).sum();
        let stage = self.setting.graph.stage(id);
        let unit = stage.spec.part_unit;
        let message = throughput::rate(parts.ran_amount, all.files - behind.files, elapsed, unit);
        (self.report.events)(RunEvent::Progress {
            stage: stage.name.clone(),
            done: behind.files,
            total: all.files,
            unit: unit.to_owned(),
            round: None,
            message,
        });
    }
}
