//! Scheduler events and actions: the boundary between deciding ([`RunLoop`](super::run_loop::RunLoop)) and doing
//! ([`Driver`](super::driver::Driver)).

use hamflow_stage_api::StageError;

use crate::graph::StageId;
use crate::store::ActionKey;

/// The number of a job within a run.
pub type JobId = u64;

/// Which piece of a stage's work a job is. The variants are ordered as the pieces of a stage are assigned to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// The part with this number.
    Part(usize),
    /// The whole stage.
    Whole,
    /// The assembly of all parts.
    Merge,
}

/// The lookup result of a stage whose upstream stages are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The stage has unhashed inputs, and its parts can run before its key is known. Stages with the same recipe, or that read the same
    /// inputs, must not run concurrently: they may turn out to be the same work.
    Unhashed {
        /// The declared inputs without digests.
        inputs: Vec<usize>,
        /// Equal for equal kind, revision and parameters.
        recipe: u64,
    },
    /// The key is known.
    Keyed {
        /// The key.
        key: ActionKey,
        /// What the cache has under the key.
        found: Found,
    },
}

/// What the cache has for a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The result, and `out/` is up to date.
    Fresh,
    /// The result.
    Cached,
    /// No complete result.
    Missing {
        /// The key of an acceptable result from another device class.
        elsewhere: Option<ActionKey>,
    },
}

/// How a stage's work is split, and which parts are cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The key; `None` if the parts run before it is known.
    pub key: Option<ActionKey>,
    /// The parts; `None` if the stage is not split.
    pub parts: Option<Vec<PreparedPart>>,
    /// How many part jobs already ran before the key was known.
    pub ran: usize,
}

/// A part of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedPart {
    /// The size of its inputs; larger parts run first.
    pub bytes: u64,
    /// Whether the part is already built.
    pub made: bool,
}

/// Something that happened in the run.
#[derive(Debug, Clone)]
pub enum SchedulerEvent {
    /// The run starts.
    Start,
    /// A stage was looked up.
    LookedUp(StageId, Result<Lookup, StageError>),
    /// The fetch of a stage's result has ended, successful or not.
    Fetched(StageId),
    /// A stage's work was split and its parts were looked up, or the fetch of its parts has ended.
    Prepared(StageId, Result<Prepared, StageError>),
    /// The next round of a stage's parts, looked up; none if there is no further round.
    Extended(StageId, Result<Vec<PreparedPart>, StageError>),
    /// A cached result was written to `out/`; false if its bytes turned out to be damaged.
    Restored(StageId, Result<bool, StageError>),
    /// A job succeeded.
    JobDone(JobId),
    /// A job failed, could not be started, or lost its worker.
    JobFailed(JobId, StageError),
    /// A part was stored, or storing it failed.
    PartStored(JobId, Result<(), StageError>),
    /// A stage's result was stored and written to `out/`, or that failed.
    Committed(StageId, Result<(), StageError>),
    /// The inputs of a failed stage were checked.
    Inspected {
        /// The stage.
        stage: StageId,
        /// Upstream stages whose stored bytes were damaged; the damaged blobs are deleted.
        damaged: Vec<StageId>,
        /// Whether an upstream stage was already rebuilt because of damage.
        remade: bool,
    },
    /// The user interrupted the run.
    Interrupted,
}

/// How a stage was completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// There was nothing to do.
    Fresh,
    /// Everything came from the cache.
    Cached,
    /// At least one job ran.
    Ran,
}

/// Why a stage's work is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no result.
    Missing,
    /// The cached result is damaged.
    Damaged,
    /// The user forced the stage.
    Forced,
}

/// Something to do. The driver answers an action with the event named in its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compute the key and look it up: [`SchedulerEvent::LookedUp`].
    LookUp(StageId),
    /// Fetch a result from the remote: [`SchedulerEvent::Fetched`].
    Fetch(StageId, ActionKey),
    /// Fetch the missing parts from the remote: [`SchedulerEvent::Prepared`].
    FetchParts(StageId),
    /// Split a stage's work: [`SchedulerEvent::Prepared`].
    Prepare(StageId, Cause),
    /// Split the work of a stage without a key: [`SchedulerEvent::Prepared`], or [`SchedulerEvent::LookedUp`] if that is not possible.
    PrepareUnhashed(StageId),
    /// Determine the next round of parts, now that all are built: [`SchedulerEvent::Extended`].
    Extend(StageId),
    /// Write a cached result to `out/`: [`SchedulerEvent::Restored`].
    Restore(StageId),
    /// Report that a stage has jobs.
    Announce(StageId),
    /// Start a job: [`SchedulerEvent::JobDone`] or [`SchedulerEvent::JobFailed`].
    Submit {
        /// The number of the job.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Which piece of the stage.
        piece: Piece,
        /// How many threads the job may use.
        threads: usize,
    },
    /// Store the part that a job produced: [`SchedulerEvent::PartStored`].
    StorePart(JobId),
    /// Store the pending parts now instead of waiting for more.
    FlushParts,
    /// Store the result of a job and write it to `out/`: [`SchedulerEvent::Committed`].
    Commit(StageId, JobId),
    /// Record that a stage is done.
    Finish(StageId, Done),
    /// Record that a stage failed.
    Fail(StageId, StageError),
    /// Record that a stage was not reached.
    Skip(StageId),
    /// Record that a stage had work when the user interrupted the run.
    Interrupt(StageId),
    /// Check the inputs of a stage: [`SchedulerEvent::Inspected`].
    Inspect(StageId),
    /// Reopen a finished stage because its stored bytes are damaged; it is looked up again.
    Reopen(StageId),
    /// Ignore further messages from a stage's jobs: the stage starts over.
    Abandon(StageId),
    /// Stop copying to `out/`; nothing more will be written there.
    StopCopying,
    /// Stop all workers immediately.
    StopWorkers,
}
