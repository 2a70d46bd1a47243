//! Executes stale stages: sends jobs to workers, commits results to the store, and reports events.
//!
//! `run_loop` decides what to do next and has no side effects; `driver` carries out its decisions; `event` is the interface between the
//! two. `finish` ends a run. [`rebuild()`] reruns a stage into a scratch store and compares the results.

mod busy_time;
mod commit;
mod committer;
mod driver;
mod event;
mod executor;
mod finish;
mod gc;
mod guard;
mod job;
mod progress;
mod queue;
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

pub use executor::{End, Executor, Executors, Local, NO_REMOTE, Scope, Workers, left_in_queue, node, tasks};
pub use gc::{GcError, GcOptions, KEPT_RUNS, gc};
pub use guard::{GuardError, Holder, RunGuard};
pub use progress::{RunProgress, StageProgress, now_ms};
pub use queue::{ENDED, QueuedTask, in_words as queue_in_words};
pub use rebuild::{Again, Difference, Rebuilt, rebuild};
pub use record::{Outcome, RunRecord, StageRecord, list_runs, newest_unfinished_run, read_run, run_names, stage_log};
pub use sealed::{SealedRun, run_sealed};
pub use start::run;
pub use worker::serve;

use crate::graph::StageId;
use crate::plan::{Invocation, Results, StaleReason};
use crate::store::Limits;
use crate::store::remote::Remote;
use start::{available_memory, run_in};

/// Options of a run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The requested stages.
    pub targets: Vec<StageId>,
    /// Run the targets even if their results are cached.
    pub force: bool,
    /// Continue with stages that do not depend on a failed stage.
    pub keep_going: bool,
    /// Number of threads shared by all jobs.
    pub threads: usize,
    /// Run everything on this machine, whatever executors stages name.
    pub local: bool,
    /// End as soon as only jobs in the queue of a batch system are left, and leave them there.
    pub detach: bool,
    /// What becomes of jobs in a queue if the user interrupts the run.
    pub on_interrupt: OnInterrupt,
    /// Fail if anything differs from the lock file.
    pub locked: bool,
    /// Path of the lock file.
    pub lock_path: PathBuf,
    /// When the command started, so that the reported duration includes scanning files.
    pub began: Option<Instant>,
    /// The remote that results are shared with.
    pub remote: Option<Arc<Remote>>,
    /// Limits of the garbage collection at the end of the run; `None` disables it.
    pub limits: Option<Limits>,
    /// The invocation to seal if there was nothing to do.
    pub invocation: Option<Invocation>,
    /// Only check that the targets produce the same bytes again: `out/`, the lock file and the run records are not changed.
    pub rebuild: bool,
    /// Results known before the run: those of the stages that a rebuild depends on.
    pub results: Results,
}

/// What becomes of jobs in the queue of a batch system if the user interrupts the run.
#[derive(Debug, Clone, Copy, Default)]
pub enum OnInterrupt {
    /// They are cancelled.
    #[default]
    Cancel,
    /// They stay there, and the next run goes on with them.
    Leave,
    /// The user is asked. The function gets the number of jobs, and returns whether to cancel them.
    Ask(fn(usize) -> bool),
}

/// Summary of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Stages with at least one executed job.
    pub ran: usize,
    /// Stages whose result came from the cache.
    pub cached: usize,
    /// Stages with nothing to do.
    pub fresh: usize,
    /// Stages that failed.
    pub failed: usize,
    /// Stages that were not started or not finished.
    pub skipped: usize,
    /// Executed parts of split stages.
    pub parts_ran: usize,
    /// Cached parts of split stages.
    pub parts_cached: usize,
    /// Total duration in milliseconds.
    pub wall_ms: u64,
    /// The name of the run if it was recorded.
    pub run: Option<String>,
    /// Whether the user interrupted the run.
    pub interrupted: bool,
    /// Files read by executed parts.
    pub part_files_ran: u64,
    /// Stages whose result has flaws.
    pub flawed: usize,
    /// Transfers from and to the remote.
    #[serde(flatten)]
    pub transfers: Transfers,
    /// What was begun and not finished.
    #[serde(flatten)]
    pub begun: Begun,
    /// The errors behind `failed`.
    #[serde(skip)]
    pub failures: Failures,
}

/// What a run has begun and not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// Skipped stages that were running when the user interrupted the run.
    pub unfinished: usize,
    /// Jobs that were left in the queue of a batch system.
    pub queued: usize,
}

/// Results shared with the remote during a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Transfers {
    /// Stages whose result was fetched from the remote.
    pub fetched: usize,
    /// Results uploaded to the remote, including those of parts.
    pub uploaded: usize,
}

/// Errors of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// The most severe category, which determines the exit code.
    pub worst: Option<ErrorCategory>,
    /// The error of a failed stage in a rebuild.
    pub rebuild: Option<StageError>,
}

impl RunSummary {
    /// Whether the run made something, and all that it was asked for.
    pub fn is_complete(&self) -> bool {
        self.ran + self.cached > 0 && !self.interrupted && self.begun.queued == 0 && self.failures.worst.is_none()
    }

    /// Whether every stage was fresh and the run was not interrupted.
    pub fn is_idle(&self) -> bool {
        self.ran + self.cached + self.failed + self.skipped + self.begun.queued == 0 && !self.interrupted
    }
}

/// A message to a run from its workers, its threads or the user.
#[derive(Debug)]
pub enum Message {
    /// A worker sent an event.
    Worker {
        /// The worker.
        worker: usize,
        /// The event.
        event: JobEvent,
    },
    /// A worker process ended.
    WorkerLost {
        /// The worker.
        worker: usize,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The tasks of a stage in the queue of a batch system have changed.
    Queued {
        /// The stage.
        stage: String,
        /// The executor.
        executor: String,
        /// All tasks of the stage in this run.
        tasks: Vec<QueuedTask>,
    },
    /// A fetch from the remote for a stage ended.
    Fetched {
        /// The stage.
        stage: StageId,
        /// Whether everything requested was fetched.
        found: bool,
    },
    /// The outputs of a part were stored, or storing them failed.
    PartStored {
        /// The job.
        job: u64,
        /// The stored part, or the error.
        outcome: Result<Box<commit::StagedPart>, StageError>,
    },
    /// The user interrupted the run.
    Interrupted,
}

/// A progress event of a run, for display.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run started.
    RunStarted {
        /// The name of the run; its record and logs are under `cache/runs/`.
        run: String,
        /// Number of requested stages, including their upstream stages.
        stages: usize,
    },
    /// A stage started.
    StageStarted {
        /// The stage.
        stage: String,
        /// Why it is stale.
        reasons: Vec<StaleReason>,
        /// Number of parts; 0 if the stage is not split.
        parts: usize,
        /// Number of cached parts.
        parts_cached: usize,
    },
    /// Progress of a stage.
    Progress {
        /// The stage.
        stage: String,
        /// Completed amount in `unit`.
        done: u64,
        /// Total amount in `unit`; 0 if unknown.
        total: u64,
        /// The unit, such as `images`.
        unit: String,
        /// How the amounts read if the work has rounds, such as `epoch 3/6 · 412/1007 images`.
        round: Option<String>,
        /// A short status text.
        message: String,
    },
    /// The tasks of a stage in the queue of a batch system have changed.
    Queued {
        /// The stage.
        stage: String,
        /// The executor.
        executor: String,
        /// All tasks of the stage in this run.
        tasks: Vec<QueuedTask>,
    },
    /// Information for the user.
    Note {
        /// The stage.
        stage: String,
        /// One sentence.
        message: String,
    },
    /// A problem that does not stop the run.
    Warning {
        /// The stage, if the warning is about one.
        stage: Option<String>,
        /// One sentence.
        message: String,
    },
    /// A flaw in the result of a stage, reported by every run that uses the result.
    Flaw {
        /// The stage.
        stage: String,
        /// One sentence.
        message: String,
    },
    /// A stage finished.
    StageFinished {
        /// The stage.
        stage: String,
        /// How it ended.
        outcome: Outcome,
        /// Why it was stale.
        reasons: Vec<StaleReason>,
        /// Number of executed parts.
        parts_ran: usize,
        /// Number of cached parts.
        parts_cached: usize,
        /// Milliseconds since its start.
        wall_ms: u64,
        /// The error, if it failed.
        error: Option<StageError>,
    },
    /// Garbage was collected from the cache.
    Tidied {
        /// Number of deleted results.
        results: u64,
        /// Number of deleted bytes.
        bytes: u64,
        /// Bytes by which the results that must be kept exceed the limit.
        over_bytes: u64,
    },
    /// The run finished. Field order and names are part of the interface of `run --json`.
    RunFinished(RunSummary),
}
