//! Brings stages from stale to done: independent ones at the same time, within the machine's threads and memory.

mod active;
mod ahead;
mod completing;
mod copies;
mod endings;
mod hearing;
mod sharing;
mod throughput;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hamflow_stage_api::{ErrorCategory, JobPart, Part, PartOutput, Plan, StageError, Threads};
use serde::Serialize;
use serde_json::Value;

use super::commit::{self, FinishedPart, StagedPart, disk_error};
use super::committer::Committer;
use super::gc::{self, GcOptions, KEPT_RUNS};
use super::guard::own_command;
use super::job::{self, Places};
use super::materialise::{Materialised, check_out_dir, sweep_out};
use super::rebuild;
use super::record::{Journal, Outcome, RunRecord, run_name};
use super::secrets::Secrets;
use super::{Executor, Heard, RunEvent};
use crate::digest::Digest;
use crate::fs;
use crate::graph::{Graph, StageId};
use crate::lock::Lockfile;
use crate::plan::{Check, PartFingerprint, Planner, Question, Results, Seal, StaleReason, Verdict};
use crate::store::remote::{Remote, Uploads};
use crate::store::{ActionKey, GcReport, Limits, Store};
use active::{Active, KnownPart, Piece, Queued, Running};
use copies::Copying;
use sharing::Fetching;
use throughput::Amount;

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
    pub question: Option<Question>,
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
    /// Stages whose result came from the remote.
    pub fetched: usize,
    /// Results, those of parts included, that were given to the remote.
    pub uploaded: usize,
    /// Of the skipped stages, how many were at work when the user ended the run.
    pub unfinished: usize,
    /// The gravest failure.
    #[serde(skip)]
    pub failure: Option<ErrorCategory>,
}

impl RunSummary {
    /// Whether every stage was fresh and nobody ended the run before that was known.
    pub fn is_idle(&self) -> bool {
        self.ran + self.cached + self.failed + self.skipped == 0 && !self.interrupted
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    NotAsked,
    Waiting,
    Fetching,
    Active,
    Done,
    Failed,
    Skipped,
}

/// More parts than this do not wait for being stored.
const MOST_COMMITTING: usize = 32;

struct Scheduler<'a> {
    graph: &'a Graph,
    store: &'a Store,
    options: &'a RunOptions,
    planner: Planner<'a>,
    executor: &'a mut dyn Executor,
    /// The end of the channel at which the store speaks.
    sender: Sender<Heard>,
    events: &'a mut dyn FnMut(RunEvent),
    journal: Journal,
    secrets: Secrets,
    uploads: Option<Uploads>,
    states: Vec<State>,
    /// The place of each stage in the graph's order.
    rank: Vec<usize>,
    /// The stages whose artifacts each stage reads.
    before: Vec<Vec<StageId>>,
    /// The stages that read an artifact of each.
    behind: Vec<Vec<StageId>>,
    /// Places of waiting stages that may be ready.
    candidates: BTreeSet<usize>,
    /// Places of stages that wait for another: with the same key, or that reads what they would have to hash.
    twins: BTreeSet<usize>,
    results: Results,
    active: BTreeMap<StageId, Active>,
    /// Stages that the remote is asked about.
    fetching: BTreeMap<StageId, Fetching>,
    /// The keys under which results of something else were found, and said.
    foreign: BTreeSet<ActionKey>,
    /// The keys of what was executed: equal ones are executed once, also where that is forced.
    executed: BTreeSet<ActionKey>,
    /// The keys that the remote was asked for, and whether it had their results.
    asked: BTreeMap<(StageId, ActionKey), bool>,
    /// What waits for a worker, in the order in which it gets one.
    queue: BTreeSet<Queued>,
    running: BTreeMap<u64, Running>,
    /// Jobs that are finished and whose parts are being stored.
    committing: BTreeMap<u64, Running>,
    committer: Option<Committer>,
    copies: Copying,
    /// Stages whose parts were all made ahead of their keys, as they were then.
    ahead: BTreeMap<StageId, Active>,
    /// Stages of which the lock cannot say yet what they read.
    unlocked: Vec<(StageId, Check)>,
    healed: BTreeSet<StageId>,
    /// Stages that were made again because their results were damaged.
    remade: BTreeSet<StageId>,
    free_threads: usize,
    free_memory: u64,
    next_job: u64,
    stopping: bool,
    /// What the lock said before the run.
    lock_before: Lockfile,
    lock: Lockfile,
    summary: RunSummary,
}

/// Runs what is invalid of the targets and of all before them.
///
/// The caller holds the run lock. `channel` is that of the executor. Errors of single stages are told
/// through `events`; an error of the run itself, such as a missing input, is returned before anything ran.
pub fn run(
    planner: Planner<'_>,
    options: &RunOptions,
    executor: &mut dyn Executor,
    channel: (&Sender<Heard>, &Receiver<Heard>),
    events: &mut dyn FnMut(RunEvent),
) -> Result<RunSummary, StageError> {
    let (graph, store) = (planner.graph(), planner.store());
    let started = options.began.unwrap_or_else(Instant::now);
    let mut states = vec![State::NotAsked; graph.pipeline.stages.len()];
    for id in graph.upstream(&options.targets) {
        states[id.index()] = State::Waiting;
    }
    let before: Vec<Vec<StageId>> =
        states.iter().enumerate().map(|(index, _)| graph.dependencies(StageId::from_index(index))).collect();
    let mut behind = vec![Vec::new(); states.len()];
    for (index, before) in before.iter().enumerate() {
        for id in before {
            behind[id.index()].push(StageId::from_index(index));
        }
    }
    let mut rank = vec![0; states.len()];
    for (place, id) in graph.order.iter().enumerate() {
        rank[id.index()] = place;
    }
    let record = RunRecord {
        run: run_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: own_command(),
        profile: graph.pipeline.profile.clone(),
        started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        wall_ms: 0,
        interrupted: false,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        threads: options.threads,
        stages: Vec::new(),
    };
    let asked = states.iter().filter(|state| **state == State::Waiting).count();
    events(RunEvent::RunStarted { run: record.run.clone(), stages: asked });
    let names: BTreeSet<&str> = graph.pipeline.stages.iter().map(|stage| &stage.name[..]).collect();
    let surplus = planner.lock().stages.keys().find(|name| !names.contains(&name[..]));
    if options.locked
        && let Some(name) = surplus
    {
        let message = format!("the lock has a stage `{name}`, the pipeline has not");
        return Err(StageError::input(message).hint("run without `--locked` and commit the new lock"));
    }
    check_out_dir(&graph.pipeline.root, &graph.pipeline.root.join("out"))?;
    sweep_out(&graph.pipeline.root.join("out"))?;
    for litter in [store.tmp_dir(), rebuild::scratch_dir(store)] {
        fs::remove(&litter).map_err(|error| disk_error(&error))?;
    }
    // In a cache that holds nothing there will be nothing to clear at the end.
    if !store.content.folder().exists() {
        gc::record_gc(store);
    }
    // What explains a stage that never ran under these options says nothing of their own results.
    let mut lock = Lockfile::read(&options.lock_path).unwrap_or_default();
    lock.stages.retain(|name, _| names.contains(&name[..]));
    let mut scheduler = Scheduler {
        graph,
        store,
        options,
        executor,
        sender: channel.0.clone(),
        events,
        journal: Journal::new(&store.runs_dir(), record),
        secrets: Secrets::of(&graph.pipeline.stages),
        uploads: options.remote.as_ref().and_then(|remote| Uploads::start(remote, store)),
        candidates: (0..states.len()).collect(),
        twins: BTreeSet::new(),
        states,
        rank,
        before,
        behind,
        results: Results::new(),
        active: BTreeMap::new(),
        fetching: BTreeMap::new(),
        foreign: BTreeSet::new(),
        executed: BTreeSet::new(),
        asked: BTreeMap::new(),
        queue: BTreeSet::new(),
        running: BTreeMap::new(),
        committing: BTreeMap::new(),
        committer: None,
        copies: Copying::new(&graph.pipeline.root.join("out"), graph.pipeline.cache.link),
        ahead: BTreeMap::new(),
        unlocked: Vec::new(),
        healed: BTreeSet::new(),
        remade: BTreeSet::new(),
        free_threads: options.threads,
        free_memory: available_memory(),
        next_job: 0,
        stopping: false,
        lock_before: lock.clone(),
        lock,
        summary: RunSummary::default(),
        planner,
    };
    scheduler.clear_dropped()?;
    scheduler.work(channel.1);
    scheduler.end(started)
}

/// What the kernel says programs can still have (proc(5), meminfo); without limit where it does not say.
pub(super) fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(u64::MAX, |kilobytes| kilobytes * 1024)
}

impl<'a> Scheduler<'a> {
    fn work(&mut self, heard: &Receiver<Heard>) {
        loop {
            self.start_ready();
            self.dispatch();
            // What could not be given to a worker may have put others in its place.
            if !self.stopping && !self.candidates.is_empty() {
                continue;
            }
            let waits = self.stopping || self.fetching.is_empty();
            if self.running.is_empty() && self.committing.is_empty() && waits {
                break;
            }
            if !self.running.values().any(|running| matches!(running.piece, Piece::Part(_)))
                && let Some(committer) = self.committer.as_ref().filter(|_| !self.committing.is_empty())
            {
                committer.flush();
            }
            // The executor keeps a sender, so the channel cannot close while jobs run.
            let Ok(heard) = heard.recv() else { break };
            self.hear(heard);
        }
        // Nothing runs and nothing is ready: what still waits stands behind a failure.
        for index in 0..self.states.len() {
            let id = StageId::from_index(index);
            match self.states[index] {
                State::Active if self.summary.interrupted => self.interrupt(id),
                State::Waiting | State::Fetching | State::Active => self.skip(id),
                _ => {}
            }
        }
    }

    fn end(mut self, started: Instant) -> Result<RunSummary, StageError> {
        self.executor.stop();
        self.end_fetching();
        self.committer = None;
        let _ = fs::remove(&self.store.tmp_dir());
        self.copies.clear();
        let mut summary = std::mem::take(&mut self.summary);
        summary.wall_ms = milliseconds(started);
        summary.flawed = self.results.values().filter(|result| !result.flaws.is_empty()).count();
        if summary.ran + summary.cached + summary.failed > 0 || summary.interrupted {
            summary.run = Some(self.journal.record.run.clone());
            self.journal.record.wall_ms = summary.wall_ms.max(1);
            self.journal.record.interrupted = summary.interrupted;
            self.journal.save();
        }
        self.complete_lock();
        self.planner.laid().save();
        // A stat index that cannot be written costs the next run some hashing.
        let _ = self.planner.index().save();
        // Making the text of a large lock only to find that it is the same costs a run with nothing to do dearly.
        let same = self.lock == *self.planner.lock() && self.options.lock_path.exists();
        if !self.options.locked && !same {
            self.lock.write(&self.options.lock_path).map_err(|error| disk_error(&error))?;
        }
        // What was made is safe; whoever ends the run now loses only what others would have had of it.
        summary.uploaded = self.end_uploads(summary.interrupted);
        if !summary.is_idle() && !summary.interrupted {
            self.gc();
        }
        // A seal would hide what is flawed.
        if summary.is_idle() && summary.flawed == 0 {
            self.seal();
        }
        (self.events)(RunEvent::RunFinished(summary.clone()));
        Ok(summary)
    }

    /// Keeps the cache within its budget. That this cannot be done fails no run.
    fn gc(&mut self) {
        let Some(limits) = self.options.limits.filter(|_| gc::is_due(self.store)) else { return };
        let wanted = GcOptions { keep_runs: KEPT_RUNS, limits, dry_run: false, own_lock: &self.options.lock_path };
        match gc::gc(self.store, &self.graph.pipeline.root, wanted) {
            Ok(GcReport { results, bytes, over_bytes, .. }) if results > 0 || over_bytes > 0 => {
                (self.events)(RunEvent::Tidied { results, bytes, over_bytes });
            }
            Ok(_) => {}
            Err(error) => {
                // Said once an hour, not in every run.
                gc::record_gc(self.store);
                let message = format!("the cache was not cleared: {error}");
                (self.events)(RunEvent::Warning { stage: None, message });
            }
        }
    }

    /// Writes down what made every stage fresh. That it cannot be written costs the next run a full look.
    fn seal(&mut self) {
        let Some(question) = self.options.question else { return };
        let stages = self.journal.record.stages.iter().map(|record| record.stage.clone()).collect();
        let lock = (self.options.lock_path.as_path(), &self.lock);
        if let Some(seal) = Seal::of(&mut self.planner, question, stages, &self.results, lock) {
            let _ = seal.write(&self.graph.pipeline.root);
        }
    }

    fn name(&self, id: StageId) -> &'a str {
        let graph = self.graph;
        &graph.pipeline.stages[id.index()].name
    }

    /// Begins every stage whose upstream stages are done, and those that this makes ready.
    fn start_ready(&mut self) {
        while !self.stopping
            && let Some(rank) = self.candidates.pop_first()
        {
            let id = self.graph.order[rank];
            if self.states[id.index()] != State::Waiting {
                continue;
            }
            let state = |id: &StageId| self.states[id.index()];
            let before = &self.before[id.index()];
            if before.iter().any(|id| matches!(state(id), State::Failed | State::Skipped)) {
                self.skip(id);
            } else if before.iter().all(|id| state(id) == State::Done)
                && let Err(error) = self.begin(id)
            {
                self.job_failed(id, error);
            }
        }
    }

    /// A stage has ended: those behind it, and those that waited for its result, may be ready.
    fn wake(&mut self, id: StageId) {
        let behind = self.behind[id.index()].iter().map(|id| self.rank[id.index()]);
        self.candidates.extend(behind);
        self.candidates.append(&mut self.twins);
    }

    /// Looks a ready stage up, and starts it where its result is not known.
    fn begin(&mut self, id: StageId) -> Result<(), StageError> {
        if self.begin_ahead(id)? {
            return Ok(());
        }
        let check = self.planner.check(id, &self.results)?;
        if check.foreign && self.foreign.insert(check.key) {
            let message = "the cache has a result under its key with other outputs than the stage declares; \
                it is not used, and whoever wrote it (a bundle, a remote) should not be trusted";
            let stage = Some(self.name(id).to_owned());
            (self.events)(RunEvent::Warning { stage, message: message.to_owned() });
        }
        // Equal keys execute once: the other stage finds the result in the store.
        let fetched = self.fetching.values().map(|fetching| fetching.key);
        let active = self.active.values().filter_map(|active| active.check.as_ref()).map(|check| check.key);
        if active.chain(fetched).any(|key| key == check.key) {
            self.twins.insert(self.rank[id.index()]);
            return Ok(());
        }
        if self.options.locked {
            self.compare_with_lock(id, &check)?;
        }
        let forced = self.options.force && self.options.targets.contains(&id) && !self.executed.contains(&check.key);
        if !forced {
            let reasons = match self.planner.verdict(id, &check)? {
                Verdict::Fresh => {
                    let (result, _) = check.result.clone().expect("a fresh stage has a result");
                    self.count_fetched(id, check.key);
                    self.finish(id, &check, result, Outcome::Fresh, Vec::new(), None);
                    return Ok(());
                }
                Verdict::Cached => {
                    let (result, files) = check.result.clone().expect("a cached stage has a result");
                    if self.lay_out(id, &check, &result, &files)? == Materialised::Damaged {
                        // What is damaged here the remote may have.
                        if self.ask_for_result(id, &check) {
                            return Ok(());
                        }
                        return self.start(id, check, vec![StaleReason::ResultMissing]);
                    }
                    let reasons = self.planner.reasons(id, &check);
                    self.tell_of_device(id, &check);
                    self.count_fetched(id, check.key);
                    self.finish(id, &check, result, Outcome::Cached, reasons, None);
                    return Ok(());
                }
                Verdict::Stale(_) if self.ask_for_result(id, &check) => return Ok(()),
                Verdict::Stale(reasons) => {
                    let other = self.planner.elsewhere(id, &check);
                    if other.is_some_and(|other| self.ask_for_result(id, &other)) {
                        return Ok(());
                    }
                    reasons
                }
                Verdict::Pending(_) => return Err(StageError::bug("a ready stage cannot be pending")),
            };
            self.start(id, check, reasons)
        } else {
            self.start(id, check, vec![StaleReason::Forced])
        }
    }

    fn compare_with_lock(&self, id: StageId, check: &Check) -> Result<(), StageError> {
        let locked = self.planner.lock().stages.get(self.name(id));
        if locked.is_some_and(|locked| locked.key == check.key.hex()) {
            return Ok(());
        }
        let reasons: Vec<String> = self.planner.reasons(id, check).iter().map(ToString::to_string).collect();
        let message = format!("it differs from `pipeline.lock`: {}", reasons.join("; "));
        Err(StageError::input(message).hint("run without `--locked` and commit the new lock"))
    }

    fn start(&mut self, id: StageId, check: Check, reasons: Vec<StaleReason>) -> Result<(), StageError> {
        let check = self.planner.here(id, check)?;
        // From now on there is something to tell, even if the run is killed.
        self.journal.save_soon();
        let inputs = check.read_inputs(self.store)?;
        let parts = match self.planner.split(id, &check, &inputs)? {
            Plan::Whole => None,
            Plan::Parts(parts) => Some(parts),
        };
        let whole = parts.is_none();
        let parts = parts.unwrap_or_default();
        let mut active = Active {
            device: check.fingerprint.device.clone(),
            check: Some(check),
            whole,
            ..Active::new(reasons, inputs, parts)
        };
        self.go_on(id, &mut active);
        if whole || active.reasons.contains(&StaleReason::Forced) {
            self.launch(id, active);
        } else {
            self.look_up_parts(id, active)?;
        }
        Ok(())
    }

    /// Queues what is not known of a stage.
    fn launch(&mut self, id: StageId, mut active: Active) {
        let rank = self.rank[id.index()];
        let made = active.made.iter().flatten().count();
        active.cached = made.saturating_sub(active.ran);
        if active.whole {
            self.queue.insert((rank, Reverse(0), Piece::Whole));
        } else if made == active.parts.len() {
            self.queue.insert((rank, Reverse(0), Piece::Merge));
        }
        let unknown = active.made.iter().zip(&active.amounts).enumerate().filter(|(_, (known, _))| known.is_none());
        self.queue.extend(unknown.map(|(number, (_, amount))| (rank, Reverse(amount.bytes), Piece::Part(number))));
        // A stage that goes on has said that it started.
        if active.ran == 0 {
            let stage = self.name(id).to_owned();
            let (reasons, parts) = (active.reasons.clone(), active.parts.len());
            (self.events)(RunEvent::StageStarted { stage, reasons, parts, parts_cached: active.cached });
        }
        self.states[id.index()] = State::Active;
        self.active.insert(id, active);
    }

    /// The key of a part that reads files of these bytes, by port.
    fn part_key(
        &self,
        id: StageId,
        device: Option<String>,
        part: &Part,
        files: BTreeMap<String, Vec<Digest>>,
    ) -> (ActionKey, Value) {
        let stage = self.graph.stage(id);
        let fingerprint = PartFingerprint {
            kind: stage.spec.name.to_owned(),
            revision: stage.spec.revision,
            params: stage.params.clone(),
            part: part.key.clone(),
            files,
            seed: stage.spec.seeded.then_some(stage.seed),
            device,
        };
        (fingerprint.key(), fingerprint.value())
    }

    /// Gives queued pieces to workers as long as there are threads and memory for the first in the queue.
    fn dispatch(&mut self) {
        // A part that was being stored when the run was ended may have made its stage ready to be merged.
        while !self.stopping
            && let Some(&(rank, _, piece)) = self.queue.first()
        {
            let id = self.graph.order[rank];
            let stage = &self.graph.pipeline.stages[id.index()];
            let threads = match (stage.spec.threads, piece) {
                (Threads::All, _) => self.options.threads,
                (Threads::Spare, Piece::Part(_)) => (self.free_threads / self.queue.len()).max(1),
                (Threads::One | Threads::Spare, _) => 1,
            };
            let memory = stage.memory.unwrap_or(0);
            // A disk that is slower than the work shall not make it all be lost with the run.
            if matches!(piece, Piece::Part(_)) && self.committing.len() >= MOST_COMMITTING {
                return;
            }
            let fits = threads <= self.free_threads && memory <= self.free_memory;
            // What needs more than the machine has runs alone rather than never.
            if !fits && !self.running.is_empty() {
                return;
            }
            self.queue.pop_first();
            if let Err(error) = self.submit(id, piece, threads, memory) {
                self.job_failed(id, error);
            }
        }
    }

    fn submit(&mut self, id: StageId, piece: Piece, threads: usize, memory: u64) -> Result<(), StageError> {
        let stage = &self.graph.pipeline.stages[id.index()];
        let active = &self.active[&id];
        let (mut key, mut ahead) = (None, None);
        let (part, inputs) = match piece {
            Piece::Whole => (JobPart::Whole, active.inputs.clone()),
            Piece::Merge => (JobPart::Merge { parts: self.part_outputs(active, stage) }, active.inputs.clone()),
            Piece::Part(number) => {
                let part = &active.parts[number];
                let inputs = job::part_inputs(&active.inputs, part)?;
                if active.check.is_some() {
                    key = Some(self.part_key(id, active.device.clone(), part, job::digests(&inputs, part)));
                } else {
                    ahead = Some((part.clone(), inputs.clone(), active.device.clone()));
                }
                let Part { name, key, data, .. } = part.clone();
                (JobPart::Part { name, key, data }, inputs)
            }
        };
        let side = self.journal.stage_dir(&stage.name);
        let extendable = stage.spec.extendable;
        // Who forces a stage wants it to run from nothing.
        let forced = active.reasons.contains(&StaleReason::Forced);
        let continued = active.check.as_ref().filter(|_| !extendable.is_empty() && !forced);
        let checkpoint = continued.map(|check| {
            let key = check.fingerprint.checkpoint_key(extendable);
            self.store.checkpoints_dir().join(key.hex())
        });
        let places = Places {
            store: self.store,
            tmp: &self.store.tmp_dir(),
            project: &self.graph.pipeline.root,
            side: &side,
            checkpoint: checkpoint.as_deref(),
        };
        let number = self.next_job;
        self.next_job += 1;
        let job = job::make(number, stage, part, inputs, threads, &places)?;
        self.executor.submit(&job).map_err(|error| {
            StageError::failed(format!("no worker can be started: {error}"))
                .hint("the limits of processes or memory (`ulimit -a`) may be too low")
        })?;
        self.free_threads = self.free_threads.saturating_sub(threads);
        // A job that needs more than there is takes what there is, and gives back no more than that.
        let memory = memory.min(self.free_memory);
        self.free_memory -= memory;
        let running = Running {
            stage: id,
            piece,
            part: key,
            ahead,
            read: BTreeMap::new(),
            started: Instant::now(),
            threads,
            memory,
            flaws: Vec::new(),
        };
        self.running.insert(number, running);
        Ok(())
    }

    fn part_outputs(&self, active: &Active, stage: &crate::config::Stage) -> Vec<PartOutput> {
        let made = active.made.iter().flatten();
        let output = |(part, (_, files)): (&Part, &KnownPart)| {
            let (assembled, side): (Vec<_>, Vec<_>) =
                files.iter().partition(|(path, _)| commit::is_assembled(&stage.outputs, path));
            PartOutput {
                name: part.name.clone(),
                side: side
                    .into_iter()
                    .map(|(path, digest)| (path.to_string(), self.store.content.path(digest)))
                    .collect(),
                assembled: assembled.into_iter().map(|(path, digest)| (path.to_string(), digest.size())).collect(),
            }
        };
        active.parts.iter().zip(made).map(output).collect()
    }

    /// Gives a part that a job made to the committer.
    fn hand_over(&mut self, job: u64, mut running: Running, (key, fingerprint): (ActionKey, Value), work: PathBuf) {
        let flaws = std::mem::take(&mut running.flaws);
        // What a part makes is laid out as it is, so that can begin before the stage is done.
        let outputs = &self.graph.pipeline.stages[running.stage.index()].outputs;
        let copies = self.copies.of_part(running.stage, outputs, self.store);
        let cost_ms = milliseconds(running.started);
        let part = FinishedPart { job, key, fingerprint, work, copies, flaws, cost_ms };
        let (store, sender) = (self.store, &self.sender);
        self.committer.get_or_insert_with(|| Committer::start(store, sender.clone())).add(part);
        self.committing.insert(job, running);
    }

    /// A part is in the store.
    fn part_stored(&mut self, running: &Running, part: StagedPart) {
        let id = running.stage;
        self.copies.keep(id, part.copied);
        if let Some(uploads) = &self.uploads {
            uploads.add(&part.result);
        }
        let (Some(active), Piece::Part(number)) = (self.active.get_mut(&id), running.piece) else { return };
        active.made[number] = Some((part.result.key, part.files));
        active.ran += 1;
        active.ran_amount = active.ran_amount + active.amounts[number];
        let (done, total) = (active.made.iter().flatten().count(), active.parts.len());
        let all: Amount = active.amounts.iter().copied().sum();
        let made = active.made.iter().zip(&active.amounts).filter(|(made, _)| made.is_some());
        let behind: Amount = made.map(|(_, amount)| *amount).sum();
        let stage = &self.graph.pipeline.stages[id.index()];
        (self.events)(RunEvent::Progress {
            stage: stage.name.clone(),
            done: behind.files,
            total: all.files,
            unit: stage.spec.part_unit.to_owned(),
            message: throughput::rate(
                active.ran_amount,
                all.files - behind.files,
                active.started.elapsed(),
                stage.spec.part_unit,
            ),
        });
        if done == total && active.check.is_none() {
            self.end_ahead(id);
        } else if done == total {
            self.queue.insert((self.rank[id.index()], Reverse(0), Piece::Merge));
        }
    }

    fn job_failed(&mut self, id: StageId, error: StageError) {
        let by_bytes = matches!(error.category, ErrorCategory::InputChanged | ErrorCategory::Input);
        if by_bytes && self.healed.insert(id) && self.heal(id) {
            return;
        }
        self.fail(id, error);
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
