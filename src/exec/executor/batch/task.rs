//! A task in the queue of a batch system.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use hamflow_stage_api::{Symlinks, read_regular};

use super::found::BatchInfo;
use super::system::{Meaning, State};
use crate::exec::now_ms;
use crate::exec::queue::{ENDED, QueuedTask};

/// A task that was submitted.
#[derive(Debug)]
pub struct Task {
    /// Its batch.
    pub batch: Arc<BatchInfo>,
    /// Its number in the batch.
    pub number: usize,
    /// The stages of its jobs.
    pub stages: BTreeSet<String>,
    /// Its jobs without a record: their numbers in the task and in the run.
    pub open: BTreeMap<u64, u64>,
    /// How far its events were read.
    pub offset: u64,
    /// Since when the batch system has it no more.
    pub gone: Option<Instant>,
    /// The memory that it asks for now.
    pub memory: Option<u64>,
    /// Nodes that failed under it.
    pub avoided: BTreeSet<String>,
    /// Whether it has ended so that another attempt continues.
    pub has_left: bool,
    /// The jobs without a record that an earlier run left, as far as this run has no use for them.
    pub unclaimed: BTreeSet<u64>,
    /// What is shown of it.
    pub shown: QueuedTask,
}

impl Task {
    /// A task of a batch that has an id, without open jobs.
    pub fn new(batch: &Arc<BatchInfo>, number: usize, id: String, jobs: usize) -> Self {
        let state = "submitted".to_owned();
        Self {
            batch: Arc::clone(batch),
            number,
            stages: batch.stages_of(number),
            open: BTreeMap::new(),
            offset: 0,
            gone: None,
            memory: batch.submission.placement.memory,
            avoided: BTreeSet::new(),
            has_left: false,
            unclaimed: BTreeSet::new(),
            shown: QueuedTask { id, state, submitted_ms: now_ms(), attempts: 1, jobs, ..QueuedTask::default() },
        }
    }

    /// Whether all its jobs have a record, or it was given up.
    pub fn has_ended(&self) -> bool {
        self.shown.state == ENDED
    }

    /// A line such as `task 12_0 of 3 jobs`.
    pub fn title(&self) -> String {
        format!("task {}", self.shown.id)
    }
}

/// Why a task has ended without records.
pub fn reason(meaning: Meaning, state: Option<&State>, last: &str) -> String {
    let name = state.map_or("", |state| &state.name[..]);
    let details = state
        .map(|state| format!(" ({})", state.reason))
        .filter(|_| state.is_some_and(|state| !state.reason.is_empty()));
    match (meaning, name) {
        (_, "") => format!("the batch system no longer has it (its last state was {last})"),
        (Meaning::OutOfMemory, _) => "it needed more memory".to_owned(),
        (Meaning::TimedOut, _) => format!("its time was over ({name})"),
        (_, "FAILED") => format!("it failed without a record{}", details.unwrap_or_default()),
        (_, "COMPLETED") => "it ended without a record".to_owned(),
        _ => format!("it was ended ({name})"),
    }
}

/// What a task printed, such as that its program does not exist on the node.
pub fn output(task: &Task) -> String {
    let text = read_regular(&task.batch.submission.log(&task.number.to_string()), Symlinks::Refuse);
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// `3 jobs`.
pub fn count(jobs: usize) -> String {
    if jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") }
}

/// `34.5 MB`, or `1.2 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
