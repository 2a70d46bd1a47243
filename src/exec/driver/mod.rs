//! Performs the actions of the run loop: talks to workers, the store, the remote, the clock and the user.

mod jobs;
mod lookup;
mod outcome;
mod remote;
mod result;
mod unhashed;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use hamflow_stage_api::{Redactor, StageError};

use super::busy_time;
use super::committer::Committer;
use super::event::{Action, JobId, SchedulerEvent};
use super::queue::QueuedTask;
use super::ready::Ready;
use super::record::Journal;
use super::resources::Resources;
use super::run_loop::{NodeSpec, Policy, RunLoop};
use super::{End, Executor, Message, OnInterrupt, RunEvent, RunOptions, RunSummary, Workers};
use crate::fs::LinkMode;
use crate::graph::{Graph, StageId};
use crate::lock::Lockfile;
use crate::out::EarlyCopies;
use crate::plan::{Check, Planner, Results};
use crate::store::{ActionKey, Store};
pub use remote::Sharing;
use work::{JobWork, StageWork};

/// The settings of a run; constant while it lasts.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The pipeline.
    pub graph: &'a Graph,
    /// The store that results are read from.
    pub store: &'a Store,
    /// The store that results are written to: the same store, or a private scratch store.
    pub target: &'a Store,
    /// The options of the run.
    pub options: &'a RunOptions,
}

impl Setting<'_> {
    /// Whether the run only verifies that stages reproduce the same bytes. Such a run changes neither `out/`, the lock nor the store.
    pub fn is_rebuild(&self) -> bool {
        self.options.rebuild
    }
}

/// How the run is reported and recorded.
pub struct Report<'a> {
    /// Receives the events to display.
    pub events: &'a mut dyn FnMut(RunEvent),
    /// The record of the run and the logs of its stages.
    pub journal: Journal,
    /// The secrets to redact.
    pub redactor: Redactor,
    /// The counts of the run.
    pub summary: RunSummary,
}

/// The changes that the run makes to the lock.
#[derive(Default)]
pub struct LockUpdate {
    /// The lock before the run.
    pub before: Lockfile,
    /// The lock after the run.
    pub now: Lockfile,
    /// Stages whose inputs cannot be recorded in the lock yet, because some are unhashed.
    pub unhashed: Vec<(StageId, Check)>,
}

/// Performs the actions of a run.
pub struct Driver<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) planner: Planner<'a>,
    pub(super) executor: &'a mut dyn Executor,
    /// The channel on which the threads of the run send messages.
    pub(super) sender: Sender<Message>,
    pub(super) report: Report<'a>,
    pub(super) results: Results,
    pub(super) locks: LockUpdate,
    pub(super) sharing: Sharing,
    pub(super) committer: Option<Committer>,
    pub(super) copies: EarlyCopies,
    stages: BTreeMap<StageId, StageWork>,
    jobs: BTreeMap<JobId, JobWork>,
    /// Stages whose parts were all built before their keys were known, in the state they had then.
    ahead: BTreeMap<StageId, StageWork>,
    seen: Seen,
    queues: Queues,
}

/// What is in the queues of batch systems.
#[derive(Debug, Default)]
struct Queues {
    /// The tasks of each stage.
    tasks: BTreeMap<String, Vec<QueuedTask>>,
    /// Whether jobs stay there when the run ends.
    is_leaving: bool,
}

/// Things that happen at most once per run.
#[derive(Debug, Default)]
struct Seen {
    /// Stages that were rebuilt because their stored bytes were damaged.
    remade: BTreeSet<StageId>,
    /// Keys under which a foreign result was found and reported.
    foreign: BTreeSet<ActionKey>,
    /// Whether it was said that programs are not observed.
    unobserved: bool,
    /// When the progress of a stage with very many parts was told.
    progress: BTreeMap<StageId, Instant>,
    /// Stages with a job.
    started: BTreeSet<StageId>,
    /// Keys that were executed.
    executed: BTreeSet<ActionKey>,
    /// How long a part of a stage takes, if an earlier run knows it.
    estimates: BTreeMap<String, Option<Duration>>,
}

impl<'a> Driver<'a> {
    /// Creates the driver of a run that has not started.
    pub fn new(setting: Setting<'a>, planner: Planner<'a>, workers: Workers<'a>, report: Report<'a>) -> Self {
        let Setting { graph, store, options, .. } = setting;
        let link = graph.pipeline.cache.link;
        Self {
            planner,
            executor: workers.executor,
            sender: workers.sender.clone(),
            report,
            results: options.results.clone(),
            locks: LockUpdate::default(),
            sharing: Sharing::new(options.remote.clone(), store),
            committer: None,
            copies: EarlyCopies::new(&graph.pipeline.root.join("out"), !options.rebuild && link == LinkMode::Copy),
            stages: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ahead: BTreeMap::new(),
            seen: Seen::default(),
            queues: Queues::default(),
            setting,
        }
    }

    /// Performs actions until the run is finished.
    pub fn work(&mut self, messages: &Receiver<Message>) -> Result<(), StageError> {
        let mut run_loop = self.run_loop();
        let mut actions = VecDeque::from(step(&mut run_loop, SchedulerEvent::Start)?);
        loop {
            while let Some(action) = actions.pop_front() {
                if let Some(event) = self.perform(action) {
                    actions.extend(step(&mut run_loop, event)?);
                }
            }
            if run_loop.is_finished() {
                return Ok(());
            }
            self.executor.flush();
            let Some(message) = self.next_message(messages) else { return Ok(()) };
            if let Some(event) = self.handle_message(message) {
                actions.extend(step(&mut run_loop, event)?);
            }
        }
    }

    /// Waits for a message; leaves the jobs in queues if nothing else is to be done and the user does not want to wait.
    fn next_message(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        if self.setting.options.detach && !self.report.summary.interrupted {
            // Only looked at when there is nothing else to do, since there may be very many jobs.
            if let Ok(message) = messages.try_recv() {
                return Some(message);
            }
            if self.waits_for_queue() {
                self.executor.settle();
                return Some(messages.try_recv().unwrap_or_else(|_| {
                    self.queues.is_leaving = true;
                    Message::Interrupted
                }));
            }
        }
        // The driver keeps a sender, so the channel cannot close while it waits.
        messages.recv().ok()
    }

    /// Whether nothing but jobs in a queue is left.
    fn waits_for_queue(&self) -> bool {
        !self.jobs.is_empty()
            && self.jobs.values().all(|job| job.is_remote && job.took.is_none())
            && !self.sharing.is_fetching()
    }

    /// Ends the workers of a run that the user interrupts, or that leaves its jobs in a queue.
    fn stop_workers(&mut self) {
        let remote = self.jobs.values().filter(|job| job.is_remote && job.took.is_none()).count();
        let was_interrupted = !self.queues.is_leaving;
        self.queues.is_leaving |= remote > 0
            && match self.setting.options.on_interrupt {
                OnInterrupt::Cancel => false,
                OnInterrupt::Leave => true,
                OnInterrupt::Ask(ask) => !ask(remote),
            };
        self.executor.stop(if self.queues.is_leaving { End::Leave } else { End::Cancel });
        let summary = &mut self.report.summary;
        summary.interrupted = was_interrupted;
        summary.begun.queued = if self.queues.is_leaving { remote } else { 0 };
    }

    fn run_loop(&self) -> RunLoop {
        let Setting { graph, options, .. } = self.setting;
        let requested: BTreeSet<StageId> = match options.rebuild {
            true => options.targets.iter().copied().collect(),
            false => graph.upstream(&options.targets).into_iter().collect(),
        };
        let node = |(index, stage): (usize, &crate::config::Stage)| NodeSpec {
            requested: requested.contains(&StageId::from_index(index)),
            threads: stage.spec.threads,
            cpus: stage.needs.cpus,
            memory: stage.needs.memory.unwrap_or(0),
            is_remote: stage.executor.is_some() && !options.rebuild && !options.local,
            forced: options.force && options.targets.contains(&StageId::from_index(index)),
        };
        let nodes = graph.pipeline.stages.iter().enumerate().map(node).collect();
        let ready = match options.rebuild {
            // A rebuild has no dependencies to wait for: all inputs are known.
            true => Ready::new(graph.order.clone(), vec![Vec::new(); graph.order.len()]),
            false => Ready::of(graph),
        };
        let policy = Policy { keep_going: options.keep_going, has_remote: options.remote.is_some() };
        RunLoop::new(nodes, ready, Resources::new(options.threads, super::available_memory()), policy)
    }

    /// Performs an action. Returns the event that answers it if that is known immediately.
    fn perform(&mut self, action: Action) -> Option<SchedulerEvent> {
        use SchedulerEvent as E;
        match action {
            Action::LookUp(stage) => return Some(E::LookedUp(stage, self.look_up(stage))),
            Action::Prepare(stage, cause) => return Some(E::Prepared(stage, self.prepare(stage, cause))),
            Action::PrepareUnhashed(stage) => return Some(self.prepare_unhashed(stage)),
            Action::Fetch(stage, key) => return self.fetch(stage, key),
            Action::FetchParts(stage) => return self.fetch_parts(stage),
            Action::Extend(stage) => return Some(E::Extended(stage, self.extend(stage))),
            Action::Restore(stage) => return Some(E::Restored(stage, self.restore_cached(stage))),
            Action::Submit { job, stage, piece, threads } => {
                return self.submit(job, stage, piece, threads).err().map(|error| E::JobFailed(job, error));
            }
            Action::StorePart(job) => {
                return self.store_part(job).err().map(|error| E::PartStored(job, Err(error)));
            }
            Action::Commit(stage, job) => return Some(E::Committed(stage, self.commit(stage, job))),
            Action::Inspect(stage) => return Some(self.inspect(stage)),
            Action::Announce(stage) => self.announce(stage),
            Action::FlushParts => self.committer.iter().for_each(Committer::flush),
            Action::Finish(stage, done) => self.finish(stage, done),
            Action::Fail(stage, error) => self.fail(stage, error),
            Action::Skip(stage) => self.skip(stage),
            Action::Interrupt(stage) => self.interrupt(stage),
            Action::Reopen(stage) => self.reopen(stage),
            Action::Abandon(stage) => self.abandon(stage),
            Action::StopCopying => self.committer.iter().for_each(Committer::stop_copying),
            Action::StopWorkers => self.stop_workers(),
        }
        None
    }

    fn name(&self, stage: StageId) -> &'a str {
        let graph = self.setting.graph;
        &graph.pipeline.stages[stage.index()].name
    }

    fn warn(&mut self, stage: Option<StageId>, message: String) {
        let stage = stage.map(|stage| self.name(stage).to_owned());
        (self.report.events)(RunEvent::Warning { stage, message });
    }
}

fn step(run_loop: &mut RunLoop, event: SchedulerEvent) -> Result<Vec<Action>, StageError> {
    run_loop.step(event).map_err(|error| StageError::bug(error.to_string()))
}

/// Returns the name by which the record of `out/` refers to a run's lock.
pub fn lock_name(options: &RunOptions, store: &Store) -> String {
    let own = &options.lock_path;
    let name = || std::path::Path::new(own.file_name().unwrap_or_default());
    own.strip_prefix(store.root()).unwrap_or_else(|_| name()).display().to_string()
}

/// Returns the milliseconds elapsed since `since`.
pub fn milliseconds(since: Instant) -> u64 {
    busy_time::milliseconds(since.elapsed())
}
