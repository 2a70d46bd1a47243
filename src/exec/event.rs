//! What a run is told and what it wants done: the border between deciding ([`RunLoop`](super::run_loop::RunLoop)) and doing
//! ([`Driver`](super::driver::Driver)).

use hamflow_stage_api::StageError;

use crate::graph::StageId;
use crate::store::ActionKey;

/// Numbers the jobs of a run.
pub type JobId = u64;

/// Which piece of a stage's work a job is; the order is that in which the pieces of a stage get workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// The part with this number.
    Part(usize),
    /// All of it.
    Whole,
    /// The assembly of all parts.
    Merge,
}

/// What is known of a stage whose upstream stages are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nobody has hashed what it reads, and its parts can run before its key is known. Stages with the same recipe, or that read the same
    /// inputs, must not run beside it: they may turn out to be the same work.
    Unhashed {
        /// The declared inputs without digests.
        inputs: Vec<usize>,
        /// Equal for equal kind, revision and parameters.
        recipe: u64,
    },
    /// Its key is known.
    Keyed {
        /// The key.
        key: ActionKey,
        /// What the cache has under it.
        found: Found,
    },
}

/// What the cache has of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Its result, and `out/` holds it.
    Fresh,
    /// Its result.
    Cached,
    /// Nothing whole.
    Missing {
        /// The key of a result of another class of device that would do as well.
        elsewhere: Option<ActionKey>,
    },
}

/// How a stage's work is split, and what of it the cache has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The key; none where its parts run before it is known.
    pub key: Option<ActionKey>,
    /// Its parts; none for a stage that is not split.
    pub parts: Option<Vec<PreparedPart>>,
    /// How many jobs of its parts have run already: before its key was known.
    pub ran: usize,
}

/// A part of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedPart {
    /// What it reads; larger parts run first.
    pub bytes: u64,
    /// Whether the cache has it.
    pub made: bool,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum SchedulerEvent {
    /// The run begins.
    Start,
    /// A stage was looked up.
    LookedUp(StageId, Result<Lookup, StageError>),
    /// The remote was asked for a stage's result.
    Fetched(StageId),
    /// A stage's work was split and its parts looked up, or its parts were asked for at the remote.
    Prepared(StageId, Result<Prepared, StageError>),
    /// A cached result was written to `out/`; false where its bytes turned out to be damaged.
    Restored(StageId, Result<bool, StageError>),
    /// A job ended well.
    JobDone(JobId),
    /// A job failed, could not be started, or lost its worker.
    JobFailed(JobId, StageError),
    /// What a job made of a part is in the store, or cannot be.
    PartStored(JobId, Result<(), StageError>),
    /// A stage's result is in the store and in `out/`, or cannot be.
    Committed(StageId, Result<(), StageError>),
    /// The inputs of a stage that failed were checked.
    Inspected {
        /// The stage.
        stage: StageId,
        /// Upstream stages whose stored bytes were damaged; those are gone now.
        damaged: Vec<StageId>,
        /// Whether an upstream stage has been made again since the stage began.
        remade: bool,
    },
    /// The user ended the run.
    Interrupted,
}

/// How a stage is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// There was nothing to do.
    Fresh,
    /// Everything came from the cache.
    Cached,
    /// A job of it ran.
    Ran,
}

/// Why a stage's work is prepared although a result may be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no result.
    Missing,
    /// The result that there was is damaged.
    Damaged,
    /// The user forces it.
    Forced,
}

/// Something to be done. What names an event is answered with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the key and look it up: [`SchedulerEvent::LookedUp`].
    LookUp(StageId),
    /// Ask the remote for a result: [`SchedulerEvent::Fetched`].
    Fetch(StageId, ActionKey),
    /// Ask the remote for the parts that are missing: [`SchedulerEvent::Prepared`].
    FetchParts(StageId),
    /// Split a stage's work: [`SchedulerEvent::Prepared`].
    Prepare(StageId, Cause),
    /// Split the work of a stage without a key: [`SchedulerEvent::Prepared`], or [`SchedulerEvent::LookedUp`] where it cannot be split so.
    PrepareUnhashed(StageId),
    /// Write a cached result to `out/`: [`SchedulerEvent::Restored`].
    Restore(StageId),
    /// Tell that a stage has jobs now.
    Announce(StageId),
    /// Start a job: [`SchedulerEvent::JobDone`] or [`SchedulerEvent::JobFailed`].
    Submit {
        /// Its number.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Which piece.
        piece: Piece,
        /// How many threads it may use.
        threads: usize,
    },
    /// Store what a job made of a part: [`SchedulerEvent::PartStored`].
    StorePart(JobId),
    /// Do not wait for more parts to store with those that there are.
    FlushParts,
    /// Store the result that a job made, and write it to `out/`: [`SchedulerEvent::Committed`].
    Commit(StageId, JobId),
    /// A stage is done.
    Finish(StageId, Done),
    /// A stage failed.
    Fail(StageId, StageError),
    /// A stage is not reached.
    Skip(StageId),
    /// A stage had work when the user ended the run.
    Interrupt(StageId),
    /// Check what a stage reads: [`SchedulerEvent::Inspected`].
    Inspect(StageId),
    /// A stage that was done is looked up again, because its stored bytes are gone.
    Reopen(StageId),
    /// What a stage's jobs still say is of no interest: the stage begins again.
    Abandon(StageId),
    /// Nothing more will be written to `out/`.
    StopCopying,
    /// End all workers at once.
    StopWorkers,
}
