//! The records of the runs. Those of finished runs are read once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::exec::{RunGuard, RunProgress, RunRecord, read_run, run_names};
use crate::store::Store;

/// The records by run.
pub struct RunIndex {
    runs: PathBuf,
    cache: PathBuf,
    finished: BTreeMap<String, RunRecord>,
}

/// What a run is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// It has ended, by itself or because the user interrupted it.
    Ended,
    /// It is in progress.
    Running(RunProgress),
    /// Its process was killed.
    Killed,
}

impl RunIndex {
    /// The runs of a store; reads nothing yet.
    pub fn new(store: &Store) -> Self {
        Self { runs: store.runs_dir(), cache: store.root().to_owned(), finished: BTreeMap::new() }
    }

    /// The names of the runs, newest first.
    pub fn names(&self) -> Vec<String> {
        run_names(&self.runs)
    }

    /// The record of a run; `None` if there is none.
    pub fn get(&mut self, run: &str) -> Option<RunRecord> {
        if let Some(known) = self.finished.get(run) {
            return Some(known.clone());
        }
        // A name is never a path: it must be that of an entry.
        if run.contains(['/', '\\']) || run.starts_with('.') {
            return None;
        }
        let record = read_run(&self.runs, run)?;
        if record.wall_ms > 0 {
            self.finished.insert(run.to_owned(), record.clone());
        }
        Some(record)
    }

    /// What a run is doing. At most the newest one is in progress.
    pub fn state(&self, record: &RunRecord) -> RunState {
        if record.wall_ms > 0 {
            return RunState::Ended;
        }
        let is_newest = self.names().first() == Some(&record.run);
        if is_newest && RunGuard::is_held(&self.cache) {
            return RunState::Running(RunProgress::read(&self.runs, &record.run).unwrap_or_default());
        }
        // The run may have ended since its record was read.
        match read_run(&self.runs, &record.run) {
            Some(now) if now.wall_ms > 0 => RunState::Ended,
            _ => RunState::Killed,
        }
    }
}
