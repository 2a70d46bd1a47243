//! The start of a run.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hamflow_stage_api::StageError;

use super::driver::{Driver, LockUpdate, Report, Setting};
use super::finish::finish;
use super::guard::own_command;
use super::progress::ProgressFile;
use super::record::{Journal, RunRecord, run_name};
use super::secrets::redactor;
use super::{End, RunEvent, RunOptions, RunSummary, Workers, gc, rebuild};
use crate::fs::{self, disk_error};
use crate::graph::Graph;
use crate::lock::Lockfile;
use crate::out;
use crate::plan::{Planner, Results};
use crate::store::Store;

/// Runs the stale stages among the targets and their upstream stages.
///
/// The caller must hold the run lock. Errors of stages are reported through `events`; an error of the run itself, such as a symlink in
/// place of `out/`, is returned before any stage runs.
pub fn run(
    mut planner: Planner<'_>,
    options: &RunOptions,
    workers: Workers<'_>,
    events: &mut dyn FnMut(RunEvent),
) -> Result<RunSummary, StageError> {
    let (graph, store) = (planner.graph(), planner.store());
    let started = options.began.unwrap_or_else(Instant::now);
    let record = record(graph, options);
    let mut progress = ProgressFile::new(&store.runs_dir(), &record.run);
    let events: &mut dyn FnMut(RunEvent) = &mut |event| {
        progress.event(&event);
        events(event);
    };
    events(RunEvent::RunStarted { run: record.run.clone(), stages: graph.upstream(&options.targets).len() });
    if options.locked {
        refuse_surplus(graph, planner.lock())?;
    }
    clean_up(graph, store)?;
    // The planner's lock may only explain stages that never ran with these options. The new lock starts from their own lock file.
    let mut lock = Lockfile::read(&options.lock_path).unwrap_or_default();
    lock.stages.retain(|name, _| graph.find(name).is_some());
    let lock_name = super::driver::lock_name(options, store);
    planner.remove_dropped(&lock_name)?;
    let report = Report {
        events,
        journal: Journal::new(&store.runs_dir(), record),
        redactor: redactor(&graph.pipeline.stages),
        summary: RunSummary::default(),
    };
    let locks = LockUpdate { before: lock.clone(), now: lock, unhashed: Vec::new() };
    let setting = Setting { graph, store, target: store, options };
    let messages = workers.messages;
    let mut driver = Driver::new(setting, planner, workers, report);
    driver.locks = locks;
    driver.work(messages)?;
    finish(&mut driver, started)
}

/// The outcome of a run into a scratch store.
pub(super) struct Made {
    pub(super) summary: RunSummary,
    pub(super) results: Results,
}

/// Runs the targets of a rebuild. Results are written to the target store of `setting`; nothing else is changed.
pub(super) fn run_in(
    setting: Setting<'_>,
    planner: Planner<'_>,
    workers: Workers<'_>,
    events: &mut dyn FnMut(RunEvent),
) -> Result<Made, StageError> {
    let Setting { graph, target, options, .. } = setting;
    let report = Report {
        events,
        // In the scratch store, so that it is deleted together with the results.
        journal: Journal::new(&target.runs_dir(), record(graph, options)),
        redactor: redactor(&graph.pipeline.stages),
        summary: RunSummary::default(),
    };
    let messages = workers.messages;
    let mut driver = Driver::new(setting, planner, workers, report);
    let worked = driver.work(messages);
    driver.executor.stop(End::Cancel);
    driver.committer = None;
    worked?;
    Ok(Made { summary: std::mem::take(&mut driver.report.summary), results: std::mem::take(&mut driver.results) })
}

fn record(graph: &Graph, options: &RunOptions) -> RunRecord {
    let redactor = redactor(&graph.pipeline.stages);
    RunRecord {
        run: run_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: own_command().iter().map(|word| redactor.redact(word).into_owned()).collect(),
        profile: graph.pipeline.profile.clone(),
        started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        wall_ms: 0,
        interrupted: false,
        host: crate::sys::host_name(),
        threads: options.threads,
        stages: Vec::new(),
    }
}

/// Returns an error if the lock has a stage that is not in the pipeline.
fn refuse_surplus(graph: &Graph, lock: &Lockfile) -> Result<(), StageError> {
    let names: BTreeSet<&str> = graph.pipeline.stages.iter().map(|stage| &stage.name[..]).collect();
    match lock.stages.keys().find(|name| !names.contains(&name[..])) {
        None => Ok(()),
        Some(name) => {
            let message = format!("the lock file has a stage `{name}`, which the pipeline does not have");
            Err(StageError::input(message).hint("run without `--locked` and commit the new lock"))
        }
    }
}

/// Removes leftovers of killed runs.
fn clean_up(graph: &Graph, store: &Store) -> Result<(), StageError> {
    let out = graph.pipeline.root.join("out");
    out::check(&graph.pipeline.root, &out)?;
    out::sweep(&out)?;
    fs::sweep(store.root());
    for litter in [store.tmp_dir(), rebuild::scratch_dir(store)] {
        fs::remove(&litter).map_err(|error| disk_error(&error))?;
    }
    // An empty cache needs no garbage collection at the end of the run.
    if !store.content.folder().exists() {
        gc::record_gc(store);
    }
    Ok(())
}

/// Available memory in bytes; `u64::MAX` if the system does not report it.
pub(super) fn available_memory() -> u64 {
    crate::sys::available_memory().unwrap_or(u64::MAX)
}
