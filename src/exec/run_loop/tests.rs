//! Random graphs, and everything that can happen to them in any order.

use std::collections::{BTreeMap, BTreeSet};

use hamflow_stage_api::{ErrorCategory, StageError, Threads};
use proptest::prelude::*;

use super::*;
use crate::exec::event::PreparedPart;

/// A stage of a random pipeline.
#[derive(Debug, Clone)]
struct Stage {
    /// Stages before it that it reads, as indices into those.
    reads: Vec<prop::sample::Index>,
    /// Stages with equal numbers have equal keys.
    key: u8,
    threads: u8,
    cpus: Option<Cpus>,
    memory: u64,
    forced: bool,
    requested: bool,
    parts: Option<u8>,
    /// How many rounds of two parts follow.
    rounds: u8,
    found: u8,
    is_unhashed: bool,
}

fn stage() -> impl Strategy<Value = Stage> {
    let shape = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        0..6u8,
        0..3u8,
        0..150u64,
        prop::option::weighted(0.3, 0..5usize),
    );
    let work = (prop::bool::weighted(0.1), prop::bool::weighted(0.9), prop::option::of(0..4u8), 0..4u8, 0..3u8);
    (shape, work, prop::bool::weighted(0.2)).prop_map(|((reads, key, threads, memory, cpus), work, is_unhashed)| {
        let (forced, requested, parts, found, rounds) = work;
        let cpus = cpus.map(|count| if count == 0 { Cpus::All } else { Cpus::Count(count) });
        Stage { reads, key, threads, cpus, memory, forced, requested, parts, rounds, found, is_unhashed }
    })
}

/// A run in which everything goes on at once and is answered in an order that `choices` says.
struct Simulation {
    stages: Vec<Stage>,
    upstream: Vec<Vec<StageId>>,
    run_loop: RunLoop,
    /// Actions that have not been answered.
    open: Vec<Action>,
    running: BTreeMap<JobId, (StageId, Piece, usize)>,
    /// Stages that were announced since they were last looked up.
    done: BTreeSet<StageId>,
    /// How often jobs of a key ran in whole: counted where nothing failed.
    executed: BTreeMap<u8, usize>,
    ended: BTreeMap<StageId, &'static str>,
    hashed: BTreeSet<StageId>,
    made: BTreeMap<StageId, BTreeSet<usize>>,
    /// How many further rounds of parts each stage was given.
    rounds: BTreeMap<StageId, u8>,
    damaged: Option<StageId>,
    reopened: bool,
    interrupted: bool,
}

const CORES: usize = 3;
const MEMORY: u64 = 100;

impl Simulation {
    fn new(stages: Vec<Stage>, policy: Policy) -> Self {
        let reads = |(index, stage): (usize, &Stage)| -> Vec<StageId> {
            let reads = stage.reads.iter().filter(|_| index > 0).map(|read| StageId::from_index(read.index(index)));
            reads.collect::<BTreeSet<_>>().into_iter().collect()
        };
        let upstream: Vec<Vec<StageId>> = stages.iter().enumerate().map(reads).collect();
        // Whatever a requested stage reads is requested.
        let mut requested: Vec<bool> = stages.iter().map(|stage| stage.requested).collect();
        for index in (0..stages.len()).rev() {
            if requested[index] {
                upstream[index].iter().for_each(|read| requested[read.index()] = true);
            }
        }
        let node = |(stage, requested): (&Stage, &bool)| NodeSpec {
            is_remote: false,
            requested: *requested,
            threads: [Threads::One, Threads::Spare, Threads::All][usize::from(stage.threads)],
            cpus: stage.cpus,
            memory: stage.memory,
            forced: stage.forced,
        };
        let nodes = stages.iter().zip(&requested).map(node).collect();
        let order = (0..stages.len()).map(StageId::from_index).collect();
        let ready = Ready::new(order, upstream.clone());
        let run_loop = RunLoop::new(nodes, ready, Resources::new(CORES, MEMORY), policy);
        Self {
            stages,
            upstream,
            run_loop,
            open: Vec::new(),
            running: BTreeMap::new(),
            done: BTreeSet::new(),
            executed: BTreeMap::new(),
            ended: BTreeMap::new(),
            hashed: BTreeSet::new(),
            made: BTreeMap::new(),
            rounds: BTreeMap::new(),
            damaged: None,
            reopened: false,
            interrupted: false,
        }
    }

    fn key(&self, stage: StageId) -> ActionKey {
        // Stages that read others have keys of their own: only sources can be the same work.
        let own = if self.upstream[stage.index()].is_empty() { 1000 } else { stage.index() };
        ActionKey::of(&format!("{} {own}", self.stages[stage.index()].key))
    }

    fn step(&mut self, event: SchedulerEvent) {
        let actions = self.run_loop.step(event).unwrap();
        for action in actions {
            self.take(action);
        }
    }

    /// Checks an action, and notes those that are answered later.
    fn take(&mut self, action: Action) {
        match &action {
            Action::Submit { job, stage, piece, threads } => {
                for read in &self.upstream[stage.index()] {
                    assert!(self.done.contains(read), "{stage:?} runs before {read:?}");
                }
                assert_eq!(self.run_loop.states.get(*stage), NodeState::Running);
                assert!(*threads >= 1 && *threads <= CORES);
                self.running.insert(*job, (*stage, *piece, *threads));
                self.check_resources();
                self.open.push(action);
            }
            Action::Finish(stage, done) => {
                assert!(self.ended.insert(*stage, "done").is_none(), "{stage:?} ends twice");
                self.done.insert(*stage);
                if *done == Done::Ran {
                    let facts = &self.stages[stage.index()];
                    let rounds = if facts.parts.is_some() { facts.rounds } else { 0 };
                    assert_eq!(self.rounds.get(stage).copied().unwrap_or(0), rounds, "{stage:?} lacks rounds");
                    *self.executed.entry(self.stages[stage.index()].key).or_default() += 1;
                }
            }
            Action::Fail(stage, _) => assert!(self.ended.insert(*stage, "failed").is_none()),
            Action::Skip(stage) => assert!(self.ended.insert(*stage, "skipped").is_none()),
            Action::Interrupt(stage) => {
                assert!(self.interrupted);
                assert!(self.ended.insert(*stage, "interrupted").is_none());
            }
            Action::Reopen(stage) => {
                assert_eq!(self.ended.remove(stage), Some("done"));
                self.done.remove(stage);
                self.made.remove(stage);
                self.rounds.remove(stage);
                self.reopened = true;
            }
            Action::Abandon(stage) => {
                self.running.retain(|_, (found, _, _)| found != stage);
            }
            Action::StopWorkers => self.running.clear(),
            Action::Announce(_) | Action::FlushParts | Action::StopCopying => {}
            _ => self.open.push(action),
        }
    }

    fn check_resources(&self) {
        // A job that needs more than the machine has is counted as all of it: it runs alone.
        let memory = |(stage, _, _): &(StageId, Piece, usize)| self.stages[stage.index()].memory.min(MEMORY);
        let (cores, memory) =
            self.running.values().fold((0, 0), |(cores, sum), job| (cores + job.2, sum + memory(job)));
        assert!(cores <= CORES || self.running.len() == 1, "{:?}", self.running);
        // A job that needs more than there is begins alone, and has what there is.
        assert!(memory <= MEMORY, "{:?}", self.running);
    }

    /// Answers an open action in one of the ways that it can be answered.
    fn answer(&mut self, action: Action, how: u8) {
        let bad = || StageError::failed("it failed");
        let event = match action {
            Action::LookUp(stage) => SchedulerEvent::LookedUp(stage, self.lookup(stage, how)),
            Action::PrepareUnhashed(stage) if how.is_multiple_of(3) => {
                self.hashed.insert(stage);
                SchedulerEvent::LookedUp(stage, self.lookup(stage, 1))
            }
            Action::PrepareUnhashed(stage) => {
                let parts = vec![PreparedPart { bytes: 1, made: false }; 2];
                SchedulerEvent::Prepared(stage, Ok(Prepared { key: None, parts: Some(parts), ran: 0 }))
            }
            Action::Prepare(stage, _) | Action::FetchParts(stage) if how > 240 => {
                SchedulerEvent::Prepared(stage, Err(bad()))
            }
            Action::Prepare(stage, _) | Action::FetchParts(stage) => {
                self.rounds.remove(&stage);
                SchedulerEvent::Prepared(stage, Ok(self.prepared(stage)))
            }
            Action::Extend(stage) if how > 245 => SchedulerEvent::Extended(stage, Err(bad())),
            Action::Extend(stage) => SchedulerEvent::Extended(stage, Ok(self.extended(stage, how))),
            Action::Fetch(stage, _) => SchedulerEvent::Fetched(stage),
            Action::Restore(stage) if how > 200 => SchedulerEvent::Restored(stage, Ok(false)),
            Action::Restore(stage) if how > 190 => SchedulerEvent::Restored(stage, Err(bad())),
            Action::Restore(stage) => SchedulerEvent::Restored(stage, Ok(true)),
            Action::Submit { job, stage, .. } => {
                self.running.remove(&job);
                match how {
                    0..200 => SchedulerEvent::JobDone(job),
                    // An input that changed: perhaps because what an upstream stage made is damaged.
                    200..230 => {
                        self.damaged = self.upstream[stage.index()].first().copied();
                        SchedulerEvent::JobFailed(job, StageError::input_changed(std::path::Path::new("x")))
                    }
                    // A lost worker, or work that failed.
                    _ => SchedulerEvent::JobFailed(job, bad()),
                }
            }
            Action::StorePart(job) if how > 245 => SchedulerEvent::PartStored(job, Err(bad())),
            Action::StorePart(job) => SchedulerEvent::PartStored(job, Ok(())),
            Action::Commit(stage, _) if how > 245 => SchedulerEvent::Committed(stage, Err(bad())),
            Action::Commit(stage, _) => SchedulerEvent::Committed(stage, Ok(())),
            Action::Inspect(stage) => {
                let damaged: Vec<StageId> =
                    if how < 128 { self.damaged.take().into_iter().collect() } else { Vec::new() };
                SchedulerEvent::Inspected { stage, damaged, remade: how.is_multiple_of(2) && self.reopened }
            }
            other => panic!("{other:?} is not answered"),
        };
        self.step(event);
    }

    fn lookup(&mut self, stage: StageId, how: u8) -> Result<Lookup, StageError> {
        let facts = &self.stages[stage.index()];
        if how > 245 {
            return Err(StageError::input("it is wrong"));
        }
        if facts.is_unhashed && !self.hashed.contains(&stage) && !facts.forced {
            self.hashed.insert(stage);
            return Ok(Lookup::Unhashed { inputs: vec![usize::from(facts.key % 2)], recipe: u64::from(facts.key) });
        }
        let key = self.key(stage);
        let known = self.done.iter().any(|other| self.key(*other) == key);
        let found = match facts.found {
            _ if known => Found::Cached,
            0 => Found::Fresh,
            1 => Found::Cached,
            2 => Found::Missing { elsewhere: Some(ActionKey::of("elsewhere")) },
            _ => Found::Missing { elsewhere: None },
        };
        Ok(Lookup::Keyed { key, found })
    }

    fn prepared(&self, stage: StageId) -> Prepared {
        let parts = self.stages[stage.index()].parts;
        let part = |number: u8| PreparedPart { bytes: u64::from(number), made: number % 3 == 2 };
        Prepared { key: Some(self.key(stage)), parts: parts.map(|count| (0..count).map(part).collect()), ran: 0 }
    }

    /// Two parts for each round, as long as there are rounds.
    fn extended(&mut self, stage: StageId, how: u8) -> Vec<PreparedPart> {
        let round = self.rounds.entry(stage).or_default();
        if *round >= self.stages[stage.index()].rounds {
            return Vec::new();
        }
        *round += 1;
        (0..2u8).map(|number| PreparedPart { bytes: 1, made: (how + number).is_multiple_of(3) }).collect()
    }

    /// Runs to the end; `choices` says which open action is answered next, and how.
    fn run(&mut self, choices: &[(prop::sample::Index, u8)], interrupt_at: Option<usize>) {
        self.step(SchedulerEvent::Start);
        let mut answered = 0;
        while !self.run_loop.is_finished() {
            if interrupt_at == Some(answered) {
                self.interrupted = true;
                self.open.retain(|action| !matches!(action, Action::Submit { .. }));
                answered += 1;
                self.step(SchedulerEvent::Interrupted);
                continue;
            }
            // After the choices everything goes well, so the run has to end.
            let (which, how) = match choices.get(answered) {
                Some((which, how)) => (which.index(self.open.len().max(1)), *how),
                None => (0, 1),
            };
            answered += 1;
            assert!(answered < 10_000, "the run does not end: {:?}", self.open);
            assert!(!self.open.is_empty(), "nothing is open and the run is not over");
            let action = self.open.remove(which);
            self.answer(action, how);
        }
        for index in 0..self.stages.len() {
            let stage = StageId::from_index(index);
            let state = self.run_loop.states.get(stage);
            assert!(state.is_final(), "{stage:?} is left {state:?}");
            let told = match state {
                NodeState::Done => Some("done"),
                NodeState::Failed => Some("failed"),
                NodeState::Skipped => Some("skipped"),
                NodeState::Interrupted => Some("interrupted"),
                _ => None,
            };
            assert_eq!(self.ended.get(&stage).copied(), told, "{stage:?} {state:?}");
            if state == NodeState::Skipped && self.run_loop.policy.keep_going && !self.interrupted {
                let lost = |read: &StageId| matches!(self.ended.get(read), Some(&"failed" | &"skipped"));
                assert!(self.upstream[index].iter().any(lost), "{stage:?} could have run");
            }
        }
    }
}

/// A stage that reads no other.
fn source(key: u8, found: u8) -> Stage {
    Stage {
        reads: Vec::new(),
        key,
        threads: 0,
        cpus: None,
        memory: 0,
        forced: false,
        requested: true,
        parts: None,
        rounds: 0,
        found,
        is_unhashed: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever happens in whatever order, every stage ends in exactly one final state, nothing runs before what it reads, cores and memory
    /// are not exceeded, and the run ends. Illegal transitions are errors, so none occurs.
    #[test]
    fn every_run_ends_and_keeps_the_rules(
        stages in prop::collection::vec(stage(), 1..9),
        choices in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
        interrupt_at in prop::option::weighted(0.2, 0..40usize),
        keep_going: bool,
        has_remote: bool,
    ) {
        let mut simulation = Simulation::new(stages, Policy { keep_going, has_remote });
        simulation.run(&choices, interrupt_at);
    }

    /// Where nothing fails and nothing is damaged, all requested stages are done, and of sources with equal keys one executes.
    #[test]
    fn equal_keys_execute_once(
        stages in prop::collection::vec(stage(), 1..9),
        order in prop::collection::vec((any::<prop::sample::Index>(), 1..2u8), 0..60),
        has_remote: bool,
    ) {
        let mut simulation = Simulation::new(stages, Policy { keep_going: false, has_remote });
        simulation.run(&order, None);
        prop_assert!(simulation.ended.values().all(|how| *how == "done"), "{:?}", simulation.ended);
        // Stages that read others have keys of their own.
        let mut readers: BTreeMap<u8, usize> = BTreeMap::new();
        for (stage, upstream) in simulation.stages.iter().zip(&simulation.upstream) {
            if !upstream.is_empty() {
                *readers.entry(stage.key).or_default() += 1;
            }
        }
        for (key, count) in &simulation.executed {
            let others = readers.get(key).copied().unwrap_or(0);
            prop_assert!(*count <= others + 1, "key {} executed {} times", key, count);
        }
    }
}

#[test]
fn a_failure_without_keep_going_begins_nothing_more_and_names_the_category() {
    let stages: Vec<Stage> = (0..5).map(|key| source(key, 3)).collect();
    let mut simulation = Simulation::new(stages, Policy::default());
    simulation.step(SchedulerEvent::Start);
    while let Some(place) = simulation.open.iter().position(|action| !matches!(action, Action::Submit { .. })) {
        let action = simulation.open.remove(place);
        simulation.answer(action, 1);
    }
    assert_eq!(simulation.running.len(), CORES, "as many as there are cores");
    let Action::Submit { job, stage, .. } = simulation.open.remove(0) else { panic!("it is a job") };
    simulation.running.remove(&job);
    let error = StageError::failed("it failed");
    assert_eq!(error.category, ErrorCategory::Failed);
    simulation.step(SchedulerEvent::JobFailed(job, error));
    assert_eq!(simulation.ended.get(&stage), Some(&"failed"));
    assert_eq!(simulation.running.len(), CORES - 1, "what runs goes on, and nothing takes its place");
    simulation.run(&[], None);
    let how: Vec<&str> = simulation.ended.values().copied().collect();
    assert_eq!(how, ["failed", "done", "done", "skipped", "skipped"]);
}

#[test]
fn a_failure_to_prepare_a_damaged_stage_does_not_end_the_look_up_of_another() {
    let mut simulation =
        Simulation::new(vec![source(0, 1), source(1, 0)], Policy { keep_going: true, has_remote: false });
    simulation.step(SchedulerEvent::Start);
    // The first stage is found, its bytes are damaged, and while the second one is looked up, it cannot be prepared.
    for (place, how) in [(0, 0), (0, 201), (1, 241), (0, 0)] {
        let action = simulation.open.remove(place);
        simulation.answer(action, how);
    }
    let how: Vec<&str> = simulation.ended.values().copied().collect();
    assert_eq!((how, simulation.run_loop.is_finished()), (vec!["failed", "done"], true));
}
