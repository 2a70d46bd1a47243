//! What workers say: how far they are, how their jobs ended, that they died.

use hamflow_stage_api::{JobEvent, JobResult, StageError};

use super::{Piece, Running, Scheduler};
use crate::exec::commit::disk_error;
use crate::exec::job::work_dir;
use crate::exec::{Heard, RunEvent};
use crate::fs;
use crate::graph::StageId;

impl Scheduler<'_> {
    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Interrupted => {
                self.executor.stop();
                self.running.clear();
                self.stop();
                self.summary.interrupted = true;
            }
            Heard::Fetched { stage, found } => self.fetched(stage, found),
            Heard::Committed { job, outcome } => {
                // A stage that began anew meanwhile finds the part in the store.
                let Some(running) = self.committing.remove(&job) else { return };
                match outcome {
                    Ok(part) => self.part_stored(&running, *part),
                    Err(error) => self.job_failed(running.stage, error),
                }
            }
            Heard::Died { worker, last_words } => {
                let job = self.executor.job_of(worker);
                let how = self.executor.bury(worker);
                let Some(running) = job.and_then(|job| self.take_running(job)) else { return };
                let name = self.name(running.stage).to_owned();
                let last_words = self.secrets.hide(last_words);
                for line in last_words.lines() {
                    self.journal.log(&name, line);
                }
                let hint = format!(
                    "`hamflow log {name}` shows its last words; `memory` and `--jobs` limit what runs at the same time"
                );
                self.job_failed(running.stage, StageError::failed(format!("its worker died: {how}")).hint(hint));
            }
            Heard::Event { worker, event } => {
                let Some(job) = self.executor.job_of(worker) else { return };
                if let JobEvent::Finished(result) = event {
                    self.executor.done(worker);
                    if let Some(running) = self.take_running(job) {
                        self.job_finished(job, running, result);
                    }
                } else if let Some(running) = self.running.get_mut(&job) {
                    let (id, piece) = (running.stage, running.piece);
                    match event {
                        JobEvent::Read { port, digests } => {
                            running.read.insert(port, digests);
                            return;
                        }
                        JobEvent::Flaw { ref message } => running.flaws.push(self.secrets.hide(message.clone())),
                        _ => {}
                    }
                    self.job_says(id, piece, event);
                }
            }
        }
    }

    pub(super) fn take_running(&mut self, job: u64) -> Option<Running> {
        let running = self.running.remove(&job)?;
        self.free_threads = (self.free_threads + running.threads).min(self.options.threads);
        self.free_memory = self.free_memory.saturating_add(running.memory);
        Some(running)
    }

    fn job_says(&mut self, id: StageId, piece: Piece, event: JobEvent) {
        let stage = self.name(id).to_owned();
        match event {
            // Of a split stage the parts are what counts.
            JobEvent::Progress { done, total, unit, message } if !matches!(piece, Piece::Part(_)) => {
                let message = self.secrets.hide(message);
                (self.events)(RunEvent::Progress { stage, done, total, unit, message });
            }
            JobEvent::Log { line } => {
                let line = self.secrets.hide(line);
                self.journal.log(&stage, &line);
            }
            JobEvent::Note { message } => {
                let message = self.secrets.hide(message);
                self.journal.log(&stage, &message);
                (self.events)(RunEvent::Note { stage, message });
            }
            JobEvent::Warning { message } => {
                let message = self.secrets.hide(message);
                self.journal.log(&stage, &format!("warning: {message}"));
                (self.events)(RunEvent::Warning { stage: Some(stage), message });
            }
            JobEvent::Flaw { message } => {
                let message = self.secrets.hide(message);
                self.journal.log(&stage, &format!("flaw: {message}"));
            }
            JobEvent::Progress { .. } | JobEvent::Read { .. } | JobEvent::Finished(_) => {}
        }
    }

    fn job_finished(&mut self, job: u64, mut running: Running, result: JobResult) {
        let id = running.stage;
        let work = work_dir(&self.store.tmp_dir(), job);
        if let Some(active) = self.active.get_mut(&id) {
            active.peak_memory = active.peak_memory.max(result.peak_memory);
        }
        let key = match (result.error, running.piece) {
            (Some(error), _) => Err(error),
            (None, Piece::Part(_)) => self.key_of_made(&mut running).map(Some),
            (None, Piece::Whole | Piece::Merge) => Ok(None),
        };
        let outcome = match key {
            Err(error) => Err(error),
            Ok(Some(key)) => return self.hand_over(job, running, key, work),
            Ok(None) => {
                // Putting bytes on the disk takes a while; the free worker shall not wait for it.
                self.dispatch();
                self.complete(id, &work.join("output"), &running.flaws)
            }
        };
        if let Err(error) = outcome.and_then(|()| fs::remove(&work).map_err(|error| disk_error(&error))) {
            self.job_failed(id, error);
        }
    }
}
