//! Decides what happens next in a run, without performing it.
//!
//! [`RunLoop::step`] takes an event and returns actions; it reads no file, clock or channel. Every situation of a run can therefore be
//! tested without processes: `run_loop/tests.rs` drives it over random graphs with events in random order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::{StageError, Threads};

use super::event::{Action, Cause, Done, Found, JobId, Lookup, Piece, Prepared, PreparedPart, SchedulerEvent};
use super::ready::Ready;
use super::resources::{Grant, Resources};
use super::state::{IllegalTransition, NodeState, States};
use crate::config::Cpus;
use crate::graph::StageId;
use crate::store::ActionKey;

mod failure;
mod jobs;
#[cfg(test)]
mod tests;

/// Maximum number of parts waiting to be stored. Limits the work that is lost with the run if the disk is slower than the workers.
const MAX_PENDING_COMMITS: usize = 32;

/// Maximum number of stages fetched from the remote at the same time; each of them opens several connections.
const MAX_FETCHING: usize = 8;

/// The scheduling properties of a stage.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// Whether the stage is part of the run.
    pub requested: bool,
    /// How many threads a job of the stage can use.
    pub threads: Threads,
    /// The declared number of cores of a job.
    pub cpus: Option<Cpus>,
    /// The declared memory of a job, in bytes.
    pub memory: u64,
    /// Whether the stage runs even if its result is known.
    pub forced: bool,
    /// Whether its jobs run elsewhere, and need nothing of this machine.
    pub is_remote: bool,
}

/// The user's policy for the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// Whether stages that do not depend on a failed one still run.
    pub keep_going: bool,
    /// Whether a remote is configured.
    pub has_remote: bool,
}

/// A stage between its lookup and its end.
#[derive(Debug, Clone, Default)]
struct Work {
    /// `None` while the parts run before the key is known.
    key: Option<ActionKey>,
    /// The recipe and the unhashed inputs of a stage without a key.
    unhashed: Option<(u64, Vec<usize>)>,
    is_split: bool,
    /// For each part: the bytes that it reads, and whether it is built.
    parts: Vec<(u64, bool)>,
    ran: usize,
}

/// A queued piece: earlier stages first, then the largest parts, so that no worker waits long for another at the end.
type Queued = (usize, Reverse<u64>, Piece);

/// A job assigned to a worker.
#[derive(Debug, Clone, Copy)]
struct Job {
    stage: StageId,
    piece: Piece,
    /// What it has of this machine; nothing if it runs elsewhere.
    grant: Option<Grant>,
}

/// The keys that were executed or requested from the remote.
#[derive(Debug, Clone, Default)]
struct Keys {
    /// Each key is executed once, even if forced.
    executed: BTreeSet<ActionKey>,
    /// Each is requested from the remote once.
    asked: BTreeSet<(StageId, ActionKey)>,
    /// The parts of each round, known by the number of parts so far.
    parts_asked: BTreeSet<(StageId, ActionKey, usize)>,
}

/// Why no more work is started.
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
    /// Successful jobs whose parts are being stored.
    storing: BTreeMap<JobId, (StageId, usize)>,
    /// The stages whose look-up or preparation is not answered yet. Look-ups start one at a time, in graph order; a stage whose stored bytes
    /// turn out to be damaged is prepared beside the current one.
    looking_up: BTreeSet<StageId>,
    /// Stages whose inputs were checked once after a failure; holds the error while the check is in progress.
    inspected: BTreeMap<StageId, Option<StageError>>,
    stop: Option<Stop>,
    actions: Vec<Action>,
}

type Stepped = Result<(), IllegalTransition>;

impl RunLoop {
    /// Creates a run over stages that are not looked up yet.
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
            looking_up: BTreeSet::new(),
            inspected: BTreeMap::new(),
            stop: None,
            actions: Vec::new(),
        }
    }

    /// Handles an event and returns the resulting actions. An error is an internal error: the run cannot continue.
    pub fn step(&mut self, event: SchedulerEvent) -> Result<Vec<Action>, IllegalTransition> {
        match event {
            SchedulerEvent::Start => {}
            SchedulerEvent::LookedUp(stage, lookup) => self.looked_up(stage, lookup)?,
            SchedulerEvent::Fetched(stage) => self.fetched(stage)?,
            SchedulerEvent::Prepared(stage, prepared) => self.prepared(stage, prepared)?,
            SchedulerEvent::Extended(stage, parts) => self.extended(stage, parts)?,
            SchedulerEvent::Restored(stage, outcome) => self.restored(stage, outcome)?,
            SchedulerEvent::JobDone(job) => self.job_done(job)?,
            SchedulerEvent::JobFailed(job, error) => self.job_failed(job, error)?,
            SchedulerEvent::PartStored(job, outcome) => self.part_stored(job, outcome)?,
            SchedulerEvent::Committed(stage, outcome) => self.committed(stage, outcome)?,
            SchedulerEvent::Inspected { stage, damaged, remade } => self.inspected(stage, &damaged, remade)?,
            SchedulerEvent::Interrupted => self.interrupted(),
        }
        // A pending inspection decides whether a failure counts; start nothing until then that the failure might stop.
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

    /// Whether every stage is in a final state and no job is running.
    pub fn is_finished(&self) -> bool {
        self.is_over() && self.states.count(NodeState::Waiting) == 0 && self.states.count(NodeState::Fetching) == 0
    }

    fn set(&mut self, stage: StageId, state: NodeState) -> Stepped {
        self.states.set(stage, state)
    }

    fn is_in(&self, stage: StageId, state: NodeState) -> bool {
        self.states.get(stage) == state
    }

    /// Looks up the first stage whose upstream stages are all done, and skips stages downstream of a failure.
    fn look_up_next(&mut self) -> Stepped {
        while self.stop.is_none()
            && self.looking_up.is_empty()
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
                self.looking_up.insert(stage);
                self.actions.push(Action::LookUp(stage));
            }
        }
        Ok(())
    }

    fn looked_up(&mut self, stage: StageId, lookup: Result<Lookup, StageError>) -> Stepped {
        self.looking_up.remove(&stage);
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
                self.looking_up.insert(stage);
                self.actions.push(Action::PrepareUnhashed(stage));
                Ok(())
            }
            Ok(Lookup::Keyed { key, found }) => self.found(stage, key, found),
        }
    }

    fn found(&mut self, stage: StageId, key: ActionKey, found: Found) -> Stepped {
        // Equal keys execute once: this stage will find the other stage's result in the store.
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

    /// Whether another stage with the same key is in progress.
    fn is_busy(&self, stage: StageId, key: ActionKey) -> bool {
        self.work.iter().any(|(other, work)| *other != stage && work.key == Some(key))
    }

    fn prepare(&mut self, stage: StageId, cause: Cause) {
        self.looking_up.insert(stage);
        self.actions.push(Action::Prepare(stage, cause));
    }

    /// Fetches a key from the remote, at most once per run; returns false if it is not requested.
    fn fetch(&mut self, stage: StageId, key: ActionKey) -> Result<bool, IllegalTransition> {
        if !self.policy.has_remote || self.keys.asked.contains(&(stage, key)) {
            return Ok(false);
        }
        if self.states.count(NodeState::Fetching) >= MAX_FETCHING {
            // The stage is looked up again when a fetch has ended.
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
        // While stopping, start nothing: it would not be finished.
        if self.stop.is_none() && self.is_in(stage, NodeState::Fetching) {
            self.wait(stage)?;
            self.ready.add(stage);
            self.ready.unblock();
        }
        Ok(())
    }

    fn prepared(&mut self, stage: StageId, prepared: Result<Prepared, StageError>) -> Stepped {
        self.looking_up.remove(&stage);
        if self.stop.is_some() || !self.may_run(stage) {
            let is_open = matches!(self.states.get(stage), NodeState::LookingUp | NodeState::Fetching);
            return if is_open { self.wait(stage) } else { Ok(()) };
        }
        let Prepared { key, parts, ran } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.stage_failed(stage, error),
        };
        // The lookup was for another device's result; the key for this device differs.
        if key.is_some_and(|key| self.is_busy(stage, key)) {
            return self.block(stage);
        }
        let Some(work) = self.work.get_mut(&stage) else { return Ok(()) };
        work.key = key;
        work.is_split = parts.is_some();
        work.ran = ran;
        work.parts = parts.unwrap_or_default().iter().map(|part| (part.bytes, part.made)).collect();
        if self.fetch_parts(stage)? {
            return Ok(());
        }
        let was_fetching = self.is_in(stage, NodeState::Fetching);
        self.launch(stage)?;
        if was_fetching {
            self.ready.unblock();
        }
        Ok(())
    }

    /// Fetches the missing parts of a stage from the remote, once per round; returns false if they are not requested.
    fn fetch_parts(&mut self, stage: StageId) -> Result<bool, IllegalTransition> {
        let Some(Work { key: Some(key), parts, .. }) = self.work.get(&stage) else { return Ok(false) };
        let lacks_parts = parts.iter().any(|(_, made)| !made);
        if !lacks_parts || !self.policy.has_remote || self.nodes[stage.index()].forced {
            return Ok(false);
        }
        if !self.keys.parts_asked.insert((stage, *key, parts.len())) {
            return Ok(false);
        }
        self.set(stage, NodeState::Fetching)?;
        self.actions.push(Action::FetchParts(stage));
        Ok(true)
    }

    /// Queues the missing pieces of a stage.
    fn launch(&mut self, stage: StageId) -> Stepped {
        self.set(stage, NodeState::Running)?;
        self.actions.push(Action::Announce(stage));
        let rank = self.ready.rank(stage);
        if !self.work[&stage].is_split {
            self.queue.insert((rank, Reverse(0), Piece::Whole));
            return Ok(());
        }
        self.queue_parts(stage);
        Ok(())
    }

    /// Queues the missing parts of a stage, or asks for the next round if there are none.
    fn queue_parts(&mut self, stage: StageId) {
        let rank = self.ready.rank(stage);
        let parts = &self.work[&stage].parts;
        if parts.iter().all(|(_, made)| *made) {
            return self.extend(stage);
        }
        let missing = parts.iter().enumerate().filter(|(_, (_, made))| !made);
        self.queue.extend(missing.map(|(number, (bytes, _))| (rank, Reverse(*bytes), Piece::Part(number))));
    }

    /// Asks for the next round of parts. Like a lookup, it is answered before other stages are looked up.
    fn extend(&mut self, stage: StageId) {
        self.looking_up.insert(stage);
        self.actions.push(Action::Extend(stage));
    }

    fn extended(&mut self, stage: StageId, parts: Result<Vec<PreparedPart>, StageError>) -> Stepped {
        self.looking_up.remove(&stage);
        if self.stop.is_some() || !self.is_in(stage, NodeState::Running) {
            return Ok(());
        }
        let parts = match parts {
            Ok(parts) => parts,
            Err(error) => return self.stage_failed(stage, error),
        };
        if parts.is_empty() {
            self.queue.insert((self.ready.rank(stage), Reverse(0), Piece::Merge));
            return Ok(());
        }
        let Some(work) = self.work.get_mut(&stage) else { return Ok(()) };
        work.parts.extend(parts.iter().map(|part| (part.bytes, part.made)));
        if !self.fetch_parts(stage)? {
            self.queue_parts(stage);
        }
        Ok(())
    }

    fn restored(&mut self, stage: StageId, outcome: Result<bool, StageError>) -> Stepped {
        match outcome {
            Err(error) => self.stage_failed(stage, error),
            Ok(true) => self.finish(stage, Done::Cached),
            Ok(false) if self.stop.is_some() => self.wait(stage),
            Ok(false) => {
                // The remote may have an intact copy.
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

    /// Returns a stage to the waiting state.
    fn wait(&mut self, stage: StageId) -> Stepped {
        self.forget_work(stage);
        self.set(stage, NodeState::Waiting)
    }

    /// Like `wait`, but until blocked stages are released.
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

    /// Whether nothing is in progress and nothing more will start.
    fn is_over(&self) -> bool {
        let count = |state| self.states.count(state);
        let at_work = count(NodeState::Restoring) + count(NodeState::Committing) + self.jobs.len() + self.storing.len();
        let may_begin = self.stop.is_none() && (!self.ready.is_empty() || count(NodeState::Fetching) > 0);
        at_work == 0 && self.looking_up.is_empty() && !self.is_inspecting() && !may_begin
    }
}
