//! The progress of a run in a file, for commands that watch it from another process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::queue::QueuedTask;
use super::{Outcome, RunEvent};
use crate::fs::{self, Durability, Symlinks};

/// The time between two writes.
const WRITE_EVERY: Duration = Duration::from_millis(500);

const FILE: &str = "progress.json";

/// What a run does at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The number of stages of the run.
    pub stages: usize,
    /// The stages that have started and not ended, by name.
    pub running: BTreeMap<String, StageProgress>,
    /// The stages that have ended, by name. The record of the run has more about them, but is saved less often.
    pub ended: BTreeMap<String, Outcome>,
}

/// The progress of a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageProgress {
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Why it is stale.
    pub reason: String,
    /// Completed amount in `unit`.
    pub done: u64,
    /// Total amount; 0 if unknown.
    pub total: u64,
    /// The unit, such as `images`.
    pub unit: String,
    /// How the amounts read if the work has rounds.
    pub round: Option<String>,
    /// A short status text.
    pub message: String,
    /// Its tasks in the queue of a batch system.
    #[serde(default)]
    pub tasks: Vec<QueuedTask>,
}

impl RunProgress {
    fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { stages, .. } => self.stages = *stages,
            RunEvent::StageStarted { stage, reasons, .. } => {
                let reason = reasons.first().map(ToString::to_string).unwrap_or_default();
                // A stage whose stored bytes turned out to be damaged runs again.
                self.ended.remove(stage);
                let started = StageProgress { started_ms: now_ms(), reason, ..StageProgress::default() };
                self.running.insert(stage.clone(), started);
            }
            RunEvent::Progress { stage, done, total, unit, round, message } => {
                if let Some(running) = self.running.get_mut(stage) {
                    (running.done, running.total) = (*done, *total);
                    running.unit.clone_from(unit);
                    running.round.clone_from(round);
                    running.message.clone_from(message);
                }
            }
            RunEvent::Queued { stage, tasks, .. } => {
                if let Some(running) = self.running.get_mut(stage) {
                    running.tasks.clone_from(tasks);
                }
            }
            RunEvent::StageFinished { stage, outcome, .. } => {
                self.running.remove(stage);
                self.ended.insert(stage.clone(), *outcome);
            }
            _ => {}
        }
    }

    /// Reads the progress of a run; `None` if it has not started a stage or has ended.
    pub fn read(runs: &Path, run: &str) -> Option<Self> {
        let bytes = fs::read_regular(&runs.join(run).join(FILE), Symlinks::Refuse).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// The time in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Writes the progress of a run from a thread of its own, so that the run never waits for it. Dropping it deletes the file.
///
/// Nothing is written for a run that starts no stage.
pub struct ProgressFile {
    path: PathBuf,
    progress: Arc<Mutex<RunProgress>>,
    writer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl ProgressFile {
    /// The file of `run`, not yet written.
    pub fn new(runs: &Path, run: &str) -> Self {
        Self { path: runs.join(run).join(FILE), progress: Arc::default(), writer: None }
    }

    /// Takes note of an event.
    pub fn event(&mut self, event: &RunEvent) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
        if self.writer.is_none() && matches!(event, RunEvent::StageStarted { .. }) {
            self.writer = self.start_writer();
        }
    }

    /// Starts the thread; `None` if the system has no more threads, and then the progress is not written.
    fn start_writer(&self) -> Option<(Sender<()>, JoinHandle<()>)> {
        let (stop, stopped) = channel();
        let (path, progress) = (self.path.clone(), Arc::clone(&self.progress));
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let mut written = RunProgress::default();
            loop {
                let now = progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if now != written {
                    let text = serde_json::to_vec(&now).expect("progress has only string keys");
                    let _ = fs::write(&path, &text, Durability::Relaxed);
                    written = now;
                }
                if stopped.recv_timeout(WRITE_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        thread.ok().map(|thread| (stop, thread))
    }
}

impl Drop for ProgressFile {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.writer.take() {
            drop(stop);
            let _ = thread.join();
            let _ = fs::remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(stage: &str) -> RunEvent {
        RunEvent::StageStarted { stage: stage.to_owned(), reasons: Vec::new(), parts: 0, parts_cached: 0 }
    }

    #[test]
    fn running_stages_are_written_and_the_file_ends_with_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = ProgressFile::new(folder.path(), "r");
        file.event(&RunEvent::RunStarted { run: "r".to_owned(), stages: 3 });
        assert_eq!(RunProgress::read(folder.path(), "r"), None);
        file.event(&started("a"));
        let unit = "images".to_owned();
        let (round, message) = (Some("epoch 1/2 · 5/10 images".to_owned()), String::new());
        file.event(&RunEvent::Progress { stage: "a".to_owned(), done: 5, total: 20, unit, round, message });
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let read = loop {
            let read = RunProgress::read(folder.path(), "r").filter(|read| read.running["a"].done == 5);
            if let Some(read) = read {
                break read;
            }
            assert!(std::time::Instant::now() < deadline, "the progress is not written");
            std::thread::yield_now();
        };
        assert_eq!(read.stages, 3);
        assert_eq!(read.running["a"].round.as_deref(), Some("epoch 1/2 · 5/10 images"));
        drop(file);
        assert_eq!(RunProgress::read(folder.path(), "r"), None);
    }

    #[test]
    fn a_stage_that_ended_is_not_running() {
        let mut progress = RunProgress::default();
        progress.apply(&started("a"));
        progress.apply(&started("b"));
        let wall_ms = 1;
        let (stage, outcome, reasons, error) = ("a".to_owned(), Outcome::Ran, Vec::new(), None);
        progress.apply(&RunEvent::StageFinished {
            stage,
            outcome,
            reasons,
            parts_ran: 0,
            parts_cached: 0,
            wall_ms,
            error,
        });
        assert_eq!(progress.running.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(progress.ended, BTreeMap::from([("a".to_owned(), Outcome::Ran)]));
    }
}
