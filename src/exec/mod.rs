//! Runs what is stale: jobs to workers, results to the store, what happened to whoever listens.

mod commit;
mod committer;
mod gc;
mod guard;
mod job;
mod local;
mod materialise;
mod rebuild;
mod record;
mod scheduler;
mod sealed;
mod secrets;
mod worker;

use std::io;

use hamflow_stage_api::{Job, JobEvent, StageError};
use serde::Serialize;

pub use commit::disk_error;
pub use gc::{GcError, GcOptions, KEPT_RUNS, gc};
pub use guard::{GuardError, Holder, RunGuard};
pub use local::Local;
pub use rebuild::{Again, Difference, Rebuilt, rebuild};
pub use record::{Outcome, RunRecord, StageRecord, list_runs, newest_unfinished_run, read_run, stage_log};
pub use scheduler::{RunOptions, RunSummary, run};
pub use sealed::run_sealed;
pub use worker::serve;

use crate::graph::StageId;
use crate::plan::StaleReason;

/// What a run hears: of its workers, of the store, of what it fetches, of the user.
#[derive(Debug)]
pub enum Heard {
    /// A worker says something.
    Event {
        /// Which.
        worker: usize,
        /// What.
        event: JobEvent,
    },
    /// A worker is gone, with what it last wrote to standard error.
    Died {
        /// Which.
        worker: usize,
        /// The end of its standard error.
        last_words: String,
    },
    /// What was asked of the remote for a stage is here, as far as it is there.
    Fetched {
        /// The stage.
        stage: StageId,
        /// Whether all of it came.
        found: bool,
    },
    /// What a job made of a part is stored, or cannot be.
    Committed {
        /// The job.
        job: u64,
        /// What is stored.
        outcome: Result<Box<commit::StagedPart>, StageError>,
    },
    /// The user wants the run to end.
    Interrupted,
}

/// A place where jobs run. What it hears goes to the channel that it was made with.
pub trait Executor {
    /// Starts a job.
    fn submit(&mut self, job: &Job) -> io::Result<()>;
    /// The job that a worker does now.
    fn job_of(&self, worker: usize) -> Option<u64>;
    /// Says that the worker's job is finished and it may get another.
    fn done(&mut self, worker: usize);
    /// Takes leave of a dead worker; says how it ended.
    fn bury(&mut self, worker: usize) -> String;
    /// Ends all workers at once.
    fn stop(&mut self);
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
