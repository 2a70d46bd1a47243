//! Decides what happens next in a run, and does none of it.
//!
//! [`RunLoop::step`] takes an event and returns actions; it reads no file, no clock and no channel. So everything that a run can meet is
//! tested without processes: `run_loop/tests.rs` drives it over random graphs with events in random orders.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::{StageError, Threads};

use super::event::{Action, Cause, Done, Found, JobId, Lookup, Piece, Prepared, SchedulerEvent};
use super::ready::Ready;
use super::resources::{Grant, Resources};
use super::state::{IllegalTransition, NodeState, States};
use crate::graph::StageId;
use crate::store::ActionKey;

mod failure;
mod jobs;
#[cfg(test)]
mod tests;

/// More parts than this do not wait for being stored: a disk that is slower than the work shall not make all of it be lost with the run.
const MAX_PENDING_COMMITS: usize = 32;

/// So many stages are asked for at the remote at the same time; each of them opens several connections.
const MAX_FETCHING: usize = 8;

/// What scheduling needs to know of a stage.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// Whether the run is asked for it.
    pub requested: bool,
    /// How many threads a job of it can use.
    pub threads: Threads,
    /// The memory that a job of it is said to need, in bytes.
    pub memory: u64,
    /// Whether it runs even where its result is known.
    pub forced: bool,
}

/// What the user decided about the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// Whether stages that do not depend on a failed one still run.
    pub keep_going: bool,
    /// Whether there is a remote to ask.
    pub has_remote: bool,
}

/// A stage between its look-up and its end.
#[derive(Debug, Clone, Default)]
struct Work {
    /// None while its parts run before its key is known.
    key: Option<ActionKey>,
    /// The recipe and the inputs of such a stage.
    unhashed: Option<(u64, Vec<usize>)>,
    is_split: bool,
    /// By part: the bytes that it reads, and whether it is made.
    parts: Vec<(u64, bool)>,
    ran: usize,
}

/// A piece in the queue: earlier stages first, and of a stage's parts the largest, so that in the end no worker waits long for another.
type Queued = (usize, Reverse<u64>, Piece);

/// A job that has a worker.
#[derive(Debug, Clone, Copy)]
struct Job {
    stage: StageId,
    piece: Piece,
    grant: Grant,
}

/// What was executed and asked for under which keys.
#[derive(Debug, Clone, Default)]
struct Keys {
    /// Equal keys are executed once, also where that is forced.
    executed: BTreeSet<ActionKey>,
    /// The remote is asked for each once.
    asked: BTreeSet<(StageId, ActionKey)>,
    parts_asked: BTreeSet<(StageId, ActionKey)>,
}

/// Why nothing more is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Failure,
    Interrupt,
}

/// The state of a run.
#[derive(Debug)]
pub struct RunLoop {
    nodes: Vec<NodeSpec>,
    policy: Policy,
    states: States,
    ready: Ready,
    resources: Resources,
    work: BTreeMap<StageId, Work>,
    keys: Keys,
    queue: BTreeSet<Queued>,
    jobs: BTreeMap<JobId, Job>,
    next_job: JobId,
    /// Jobs that ended well and whose parts are being stored.
    storing: BTreeMap<JobId, (StageId, usize)>,
    /// The stage that is being looked up: one at a time, in the order of the graph.
    looking_up: Option<StageId>,
    /// Stages whose inputs were checked once after a failure; the error while that is going on.
    inspected: BTreeMap<StageId, Option<StageError>>,
    stop: Option<Stop>,
    actions: Vec<Action>,
}

type Stepped = Result<(), IllegalTransition>;

impl RunLoop {
    /// A run over stages that have not been looked at yet.
    pub fn new(nodes: Vec<NodeSpec>, ready: Ready, resources: Resources, policy: Policy) -> Self {
        Self {
            states: States::new(nodes.iter().map(|node| node.requested)),
            nodes,
            policy,
            ready,
            resources,
            work: BTreeMap::new(),
            keys: Keys::default(),
            queue: BTreeSet::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            storing: BTreeMap::new(),
            looking_up: None,
            inspected: BTreeMap::new(),
            stop: None,
            actions: Vec::new(),
        }
    }

    /// What follows from an event. An error is an internal one: the run cannot go on.
    pub fn step(&mut self, event: SchedulerEvent) -> Result<Vec<Action>, IllegalTransition> {
        match event {
            SchedulerEvent::Start => {}
            SchedulerEvent::LookedUp(stage, lookup) => self.looked_up(stage, lookup)?,
            SchedulerEvent::Fetched(stage) => self.fetched(stage)?,
            SchedulerEvent::Prepared(stage, prepared) => self.prepared(stage, prepared)?,
            SchedulerEvent::Restored(stage, outcome) => self.restored(stage, outcome)?,
            SchedulerEvent::JobDone(job) => self.job_done(job)?,
            SchedulerEvent::JobFailed(job, error) => self.job_failed(job, error)?,
            SchedulerEvent::PartStored(job, outcome) => self.part_stored(job, outcome)?,
            SchedulerEvent::Committed(stage, outcome) => self.committed(stage, outcome)?,
            SchedulerEvent::Inspected { stage, damaged, remade } => self.inspected(stage, &damaged, remade)?,
            SchedulerEvent::Interrupted => self.interrupted(),
        }
        // Whether a failure counts is known in a moment; until then nothing is begun that it might stop.
        if !self.is_inspecting() {
            self.look_up_next()?;
            self.dispatch();
        }
        if !self.storing.is_empty() && !self.jobs.values().any(|job| matches!(job.piece, Piece::Part(_))) {
            self.actions.push(Action::FlushParts);
        }
        if self.is_over() {
            self.end()?;
        }
        Ok(std::mem::take(&mut self.actions))
    }

    /// Whether every stage is in a final state and no job is left.
    pub fn is_finished(&self) -> bool {
        self.is_over() && self.states.count(NodeState::Waiting) == 0 && self.states.count(NodeState::Fetching) == 0
    }

    fn set(&mut self, stage: StageId, state: NodeState) -> Stepped {
        self.states.set(stage, state)
    }

    fn is_in(&self, stage: StageId, state: NodeState) -> bool {
        self.states.get(stage) == state
    }

    /// Looks the first stage up whose upstream stages are all done, and skips those behind a failure.
    fn look_up_next(&mut self) -> Stepped {
        while self.stop.is_none()
            && self.looking_up.is_none()
            && let Some(stage) = self.ready.pop()
        {
            if !self.is_in(stage, NodeState::Waiting) {
                continue;
            }
            let upstream = || self.ready.upstream(stage).iter().map(|stage| self.states.get(*stage));
            if upstream().any(|state| matches!(state, NodeState::Failed | NodeState::Skipped)) {
                self.skip(stage)?;
            } else if self.may_run(stage) {
                self.set(stage, NodeState::LookingUp)?;
                self.looking_up = Some(stage);
                self.actions.push(Action::LookUp(stage));
            }
        }
        Ok(())
    }

    fn looked_up(&mut self, stage: StageId, lookup: Result<Lookup, StageError>) -> Stepped {
        self.looking_up = None;
        match lookup {
            _ if self.stop.is_some() || !self.may_run(stage) => self.wait(stage),
            Err(error) => self.stage_failed(stage, error),
            Ok(Lookup::Unhashed { inputs, recipe }) => {
                let is_alike = |(known, read): &(u64, Vec<usize>)| {
                    *known == recipe || read.iter().any(|input| inputs.contains(input))
                };
                if self.work.values().filter_map(|work| work.unhashed.as_ref()).any(is_alike) {
                    return self.block(stage);
                }
                self.work.insert(stage, Work { unhashed: Some((recipe, inputs)), ..Work::default() });
                self.looking_up = Some(stage);
                self.actions.push(Action::PrepareUnhashed(stage));
                Ok(())
            }
            Ok(Lookup::Keyed { key, found }) => self.found(stage, key, found),
        }
    }

    fn found(&mut self, stage: StageId, key: ActionKey, found: Found) -> Stepped {
        // Equal keys execute once: this stage will find the other's result in the store.
        if self.is_busy(stage, key) {
            return self.block(stage);
        }
        self.work.insert(stage, Work { key: Some(key), ..Work::default() });
        if self.nodes[stage.index()].forced && !self.keys.executed.contains(&key) {
            self.prepare(stage, Cause::Forced);
            return Ok(());
        }
        match found {
            Found::Fresh => self.finish(stage, Done::Fresh),
            Found::Cached => {
                self.set(stage, NodeState::Restoring)?;
                self.actions.push(Action::Restore(stage));
                Ok(())
            }
            Found::Missing { elsewhere } => {
                for key in [Some(key), elsewhere].into_iter().flatten() {
                    if self.fetch(stage, key)? {
                        return Ok(());
                    }
                }
                self.prepare(stage, Cause::Missing);
                Ok(())
            }
        }
    }

    /// Whether another stage is at work under a key.
    fn is_busy(&self, stage: StageId, key: ActionKey) -> bool {
        self.work.iter().any(|(other, work)| *other != stage && work.key == Some(key))
    }

    fn prepare(&mut self, stage: StageId, cause: Cause) {
        self.looking_up = Some(stage);
        self.actions.push(Action::Prepare(stage, cause));
    }

    /// Asks the remote for a key, once in a run; false where it is not asked.
    fn fetch(&mut self, stage: StageId, key: ActionKey) -> Result<bool, IllegalTransition> {
        if !self.policy.has_remote || self.keys.asked.contains(&(stage, key)) {
            return Ok(false);
        }
        if self.states.count(NodeState::Fetching) >= MAX_FETCHING {
            // It is looked up again when something was fetched.
            self.block(stage)?;
            return Ok(true);
        }
        self.keys.asked.insert((stage, key));
        self.work.insert(stage, Work { key: Some(key), ..Work::default() });
        self.set(stage, NodeState::Fetching)?;
        self.actions.push(Action::Fetch(stage, key));
        Ok(true)
    }

    fn fetched(&mut self, stage: StageId) -> Stepped {
        // What would be begun now would not be finished.
        if self.stop.is_none() && self.is_in(stage, NodeState::Fetching) {
            self.wait(stage)?;
            self.ready.add(stage);
            self.ready.unblock();
        }
        Ok(())
    }

    fn prepared(&mut self, stage: StageId, prepared: Result<Prepared, StageError>) -> Stepped {
        if self.looking_up == Some(stage) {
            self.looking_up = None;
        }
        if self.stop.is_some() || !self.may_run(stage) {
            let is_open = matches!(self.states.get(stage), NodeState::LookingUp | NodeState::Fetching);
            return if is_open { self.wait(stage) } else { Ok(()) };
        }
        let Prepared { key, parts, ran } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.stage_failed(stage, error),
        };
        // A result of another device was looked for, and this one has another key.
        if key.is_some_and(|key| self.is_busy(stage, key)) {
            return self.block(stage);
        }
        let Some(work) = self.work.get_mut(&stage) else { return Ok(()) };
        work.key = key;
        work.is_split = parts.is_some();
        work.ran = ran;
        work.parts = parts.unwrap_or_default().iter().map(|part| (part.bytes, part.made)).collect();
        let lacks_parts = work.parts.iter().any(|(_, made)| !made);
        let forced = self.nodes[stage.index()].forced;
        if lacks_parts
            && self.policy.has_remote
            && !forced
            && let Some(key) = key
            && self.keys.parts_asked.insert((stage, key))
        {
            self.set(stage, NodeState::Fetching)?;
            self.actions.push(Action::FetchParts(stage));
            return Ok(());
        }
        let was_fetching = self.is_in(stage, NodeState::Fetching);
        self.launch(stage)?;
        if was_fetching {
            self.ready.unblock();
        }
        Ok(())
    }

    /// Queues what is not made of a stage.
    fn launch(&mut self, stage: StageId) -> Stepped {
        self.set(stage, NodeState::Running)?;
        let rank = self.ready.rank(stage);
        let work = &self.work[&stage];
        if !work.is_split {
            self.queue.insert((rank, Reverse(0), Piece::Whole));
        } else if work.parts.iter().all(|(_, made)| *made) {
            self.queue.insert((rank, Reverse(0), Piece::Merge));
        }
        let missing = work.parts.iter().enumerate().filter(|(_, (_, made))| !made);
        self.queue.extend(missing.map(|(number, (bytes, _))| (rank, Reverse(*bytes), Piece::Part(number))));
        self.actions.push(Action::Announce(stage));
        Ok(())
    }

    fn restored(&mut self, stage: StageId, outcome: Result<bool, StageError>) -> Stepped {
        match outcome {
            Err(error) => self.stage_failed(stage, error),
            Ok(true) => self.finish(stage, Done::Cached),
            Ok(false) if self.stop.is_some() => self.wait(stage),
            Ok(false) => {
                // What is damaged here the remote may have.
                let key = self.work.get(&stage).and_then(|work| work.key);
                if let Some(key) = key
                    && self.fetch(stage, key)?
                {
                    return Ok(());
                }
                self.set(stage, NodeState::LookingUp)?;
                self.prepare(stage, Cause::Damaged);
                Ok(())
            }
        }
    }

    fn committed(&mut self, stage: StageId, outcome: Result<(), StageError>) -> Stepped {
        match outcome {
            Err(error) => self.stage_failed(stage, error),
            Ok(()) => {
                let only_merged = self.work.get(&stage).is_some_and(|work| !work.parts.is_empty() && work.ran == 0);
                self.finish(stage, if only_merged { Done::Cached } else { Done::Ran })
            }
        }
    }

    fn finish(&mut self, stage: StageId, done: Done) -> Stepped {
        self.set(stage, NodeState::Done)?;
        if let Some(key) = self.work.remove(&stage).and_then(|work| work.key)
            && done == Done::Ran
        {
            self.keys.executed.insert(key);
        }
        self.ready.ended(stage);
        self.actions.push(Action::Finish(stage, done));
        Ok(())
    }

    /// Puts a stage back to the waiting ones.
    fn wait(&mut self, stage: StageId) -> Stepped {
        self.forget_work(stage);
        self.set(stage, NodeState::Waiting)
    }

    /// The same until another stage ends.
    fn block(&mut self, stage: StageId) -> Stepped {
        self.wait(stage)?;
        self.ready.block(stage);
        Ok(())
    }

    fn forget_work(&mut self, stage: StageId) {
        self.work.remove(&stage);
        let rank = self.ready.rank(stage);
        self.queue.retain(|(found, _, _)| *found != rank);
    }

    fn is_inspecting(&self) -> bool {
        self.inspected.values().any(Option::is_some)
    }

    /// Whether nothing is at work and nothing more is begun.
    fn is_over(&self) -> bool {
        let count = |state| self.states.count(state);
        let at_work = count(NodeState::Restoring) + count(NodeState::Committing) + self.jobs.len() + self.storing.len();
        let may_begin = self.stop.is_none() && (!self.ready.is_empty() || count(NodeState::Fetching) > 0);
        at_work == 0 && self.looking_up.is_none() && !self.is_inspecting() && !may_begin
    }
}
