//! Executes stale stages: sends jobs to workers, commits results to the store, and reports events.
//!
//! `run_loop` decides what to do next and performs nothing; `driver` performs it; `event` is the border between the two. `finish` is
//! the end of a run. [`rebuild()`] reruns stages for comparison, as an ordinary run into a scratch store.

mod commit;
mod committer;
mod driver;
mod event;
mod executor;
mod finish;
mod gc;
mod guard;
mod job;
mod ready;
mod rebuild;
mod record;
mod resources;
mod run_loop;
mod sealed;
mod secrets;
mod start;
mod state;
mod throughput;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hamflow_stage_api::{ErrorCategory, JobEvent, StageError};
use serde::Serialize;

pub use executor::{Executor, Local, Workers};
pub use gc::{GcError, GcOptions, KEPT_RUNS, gc};
pub use guard::{GuardError, Holder, RunGuard};
pub use rebuild::{Again, Difference, Rebuilt, rebuild};
pub use record::{Outcome, RunRecord, StageRecord, list_runs, newest_unfinished_run, read_run, stage_log};
pub use sealed::{SealedRun, run_sealed};
pub use start::run;
pub use worker::serve;

use crate::graph::StageId;
use crate::plan::{Invocation, Results, StaleReason};
use crate::store::Limits;
use crate::store::remote::Remote;
use start::{available_memory, run_in};

/// What the command line says of a run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The stages that were asked for.
    pub targets: Vec<StageId>,
    /// Run the targets even where their results are known.
    pub force: bool,
    /// Run what does not depend on a failed stage.
    pub keep_going: bool,
    /// How many threads all jobs together may use.
    pub threads: usize,
    /// Fail on any difference from the lock.
    pub locked: bool,
    /// Where the lock is.
    pub lock_path: PathBuf,
    /// When the command began: looking at the files is part of the time that it took.
    pub began: Option<Instant>,
    /// Where results are shared.
    pub remote: Option<Arc<Remote>>,
    /// How much of what nobody needs any more stays in the cache; none to leave all of it.
    pub limits: Option<Limits>,
    /// What a seal will answer, where nothing turns out to be done.
    pub invocation: Option<Invocation>,
    /// Only prove that the targets make the same bytes again: `out/`, the lock and the records stay as they are.
    pub rebuild: bool,
    /// Results that are known before the run: of what the targets of a rebuild read.
    pub results: Results,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Stages of which a job executed.
    pub ran: usize,
    /// Stages whose result came from the cache.
    pub cached: usize,
    /// Stages with nothing to do.
    pub fresh: usize,
    /// Stages that failed.
    pub failed: usize,
    /// Stages that were not reached, or not ended.
    pub skipped: usize,
    /// Parts of split stages that executed.
    pub parts_ran: usize,
    /// Parts of split stages that the cache had.
    pub parts_cached: usize,
    /// Milliseconds in all.
    pub wall_ms: u64,
    /// The run's name, where it left a record.
    pub run: Option<String>,
    /// Whether the user ended it.
    pub interrupted: bool,
    /// Files that the parts that executed have read.
    pub part_files_ran: u64,
    /// Stages with a result that is not as it should be, among those that are done.
    pub flawed: usize,
    /// What was shared with the remote.
    #[serde(flatten)]
    pub transfers: Transfers,
    /// Of the skipped stages, how many were at work when the user ended the run.
    pub unfinished: usize,
    /// The errors behind `failed`.
    #[serde(skip)]
    pub failures: Failures,
}

/// Results shared with the remote during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Transfers {
    /// Stages whose result came from the remote.
    pub fetched: usize,
    /// Results, those of parts included, that were given to the remote.
    pub uploaded: usize,
}

/// The errors of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// The category that decides the exit code.
    pub worst: Option<ErrorCategory>,
    /// Why a stage of a rebuild failed.
    pub rebuild: Option<StageError>,
}

impl RunSummary {
    /// Whether every stage was fresh and nobody ended the run before that was known.
    pub fn is_idle(&self) -> bool {
        self.ran + self.cached + self.failed + self.skipped == 0 && !self.interrupted
    }
}

/// What reaches a run from its workers, its threads and the user.
#[derive(Debug)]
pub enum Message {
    /// A worker says something.
    Worker {
        /// Which.
        worker: usize,
        /// What.
        event: JobEvent,
    },
    /// A worker is gone.
    WorkerLost {
        /// Which.
        worker: usize,
        /// The end of its standard error.
        stderr: String,
    },
    /// What was asked of the remote for a stage is here, as far as it is there.
    Fetched {
        /// The stage.
        stage: StageId,
        /// Whether all of it came.
        found: bool,
    },
    /// What a job made of a part is stored, or cannot be.
    PartStored {
        /// The job.
        job: u64,
        /// What is stored.
        outcome: Result<Box<commit::StagedPart>, StageError>,
    },
    /// The user wants the run to end.
    Interrupted,
}

/// What happens in a run, for whoever shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run begins to look at stages.
    RunStarted {
        /// Names the run; its record and logs lie under `cache/runs/`.
        run: String,
        /// How many stages were asked for, those before them included.
        stages: usize,
    },
    /// A stage begins to work.
    StageStarted {
        /// The stage.
        stage: String,
        /// Why.
        reasons: Vec<StaleReason>,
        /// How many parts it has; 0 where its work is not split.
        parts: usize,
        /// How many of them the cache had.
        parts_cached: usize,
    },
    /// How far a stage is.
    Progress {
        /// The stage.
        stage: String,
        /// What is done, in `unit`.
        done: u64,
        /// What there is to do; 0 where nobody knows.
        total: u64,
        /// Such as `images`.
        unit: String,
        /// A few words more.
        message: String,
    },
    /// Something the user would like to know.
    Note {
        /// The stage.
        stage: String,
        /// One sentence.
        message: String,
    },
    /// Something the user should know although the run goes on.
    Warning {
        /// The stage, if it is one's.
        stage: Option<String>,
        /// One sentence.
        message: String,
    },
    /// A stage's result is not as it should be; said by every run that has it.
    Flaw {
        /// The stage.
        stage: String,
        /// One sentence.
        message: String,
    },
    /// A stage is done with.
    StageFinished {
        /// The stage.
        stage: String,
        /// How it ended.
        outcome: Outcome,
        /// Why it had to do something.
        reasons: Vec<StaleReason>,
        /// Parts that ran.
        parts_ran: usize,
        /// Parts that the cache had.
        parts_cached: usize,
        /// Milliseconds from its start.
        wall_ms: u64,
        /// Why it failed, if it did.
        error: Option<StageError>,
    },
    /// The cache was cleared of what nobody needs.
    Tidied {
        /// Results that were deleted.
        results: u64,
        /// Bytes that were deleted.
        bytes: u64,
        /// Bytes by which what must stay is over the budget.
        over_bytes: u64,
    },
    /// The end. Field order and names are part of the interface of `run --json`.
    RunFinished(RunSummary),
}
