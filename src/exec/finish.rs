//! The end of a run: a list of steps, each of which may be looked at alone.

use std::time::Instant;

use hamflow_stage_api::StageError;

use super::driver::{Driver, milliseconds};
use super::gc::{self, GcOptions, KEPT_RUNS};
use super::{RunEvent, RunSummary};
use crate::fs::{self, disk_error};
use crate::lock::LockedStage;
use crate::plan::{SavedLock, Seal};
use crate::store::GcReport;

/// A step of the end, and what it may fail with.
type Step = fn(&mut Driver<'_>, &mut RunSummary) -> Result<(), StageError>;

/// What is done after the last job, in this order. What others would have had of the run comes last: everything that was made is safe then.
const STEPS: [(&str, Step); 13] = [
    ("stop workers", |driver, _| {
        driver.executor.stop();
        Ok(())
    }),
    ("end fetches", |driver, _| {
        driver.sharing.end_fetches();
        Ok(())
    }),
    ("store parts", |driver, _| {
        driver.committer = None;
        Ok(())
    }),
    ("remove temporary files", remove_temporary),
    ("save the record", save_record),
    ("complete the lock", complete_lock),
    ("write what planning learnt", |driver, _| {
        driver.planner.write_learnt();
        Ok(())
    }),
    ("save the record of `out/`", |driver, _| {
        driver.planner.out().record().save();
        Ok(())
    }),
    ("save the stat index", |driver, _| {
        // An index that cannot be written costs the next run some hashing.
        let _ = driver.planner.index().save();
        Ok(())
    }),
    ("write the lock", write_lock),
    ("end uploads", |driver, summary| {
        summary.transfers.uploaded = driver.sharing.end_uploads(summary.interrupted);
        driver.tell_of_remote();
        Ok(())
    }),
    ("collect garbage", collect_garbage),
    ("seal", seal),
];

/// Ends a run that began at `started`.
pub fn finish(driver: &mut Driver<'_>, started: Instant) -> Result<RunSummary, StageError> {
    let mut summary = std::mem::take(&mut driver.report.summary);
    summary.wall_ms = milliseconds(started);
    summary.flawed = driver.results.values().filter(|result| !result.flaws.is_empty()).count();
    for (_, step) in STEPS {
        step(driver, &mut summary)?;
    }
    (driver.report.events)(RunEvent::RunFinished(summary.clone()));
    Ok(summary)
}

fn remove_temporary(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    let _ = fs::remove(&driver.setting.target.tmp_dir());
    driver.copies.clear();
    Ok(())
}

fn save_record(driver: &mut Driver<'_>, summary: &mut RunSummary) -> Result<(), StageError> {
    if summary.ran + summary.cached + summary.failed > 0 || summary.interrupted {
        let journal = &mut driver.report.journal;
        summary.run = Some(journal.record.run.clone());
        journal.record.wall_ms = summary.wall_ms.max(1);
        journal.record.interrupted = summary.interrupted;
        journal.save();
    }
    Ok(())
}

/// Says in the lock what those stages read that were done before somebody had read all of it. Where nobody has, because the run was ended or
/// failed, the lock knows no more of them than before: nobody shall wait for that alone.
fn complete_lock(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    for (id, check) in std::mem::take(&mut driver.locks.unhashed) {
        let name = &driver.setting.graph.stage(id).name;
        let (before, stages) = (&driver.locks.before, &mut driver.locks.now.stages);
        match (driver.planner.read_at_last(id, &check), before.stages.get(name)) {
            (Some(lines), _) => {
                if let Some(locked) = stages.get_mut(name) {
                    locked.inputs.extend(lines);
                }
            }
            (None, Some(before)) => drop(stages.insert(name.clone(), LockedStage::clone(before))),
            (None, None) => drop(stages.remove(name)),
        }
    }
    Ok(())
}

fn write_lock(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    let options = driver.setting.options;
    // Making the text of a large lock only to find that it is the same costs a run with nothing to do dearly.
    let same = driver.locks.now == *driver.planner.lock() && options.lock_path.exists();
    if !options.locked && !same {
        driver.locks.now.write(&options.lock_path).map_err(|error| disk_error(&error))?;
    }
    Ok(())
}

/// Keeps the cache within its budget. That this cannot be done fails no run.
fn collect_garbage(driver: &mut Driver<'_>, summary: &mut RunSummary) -> Result<(), StageError> {
    let (store, options) = (driver.setting.store, driver.setting.options);
    let Some(limits) = options.limits.filter(|_| !summary.is_idle() && !summary.interrupted && gc::is_due(store))
    else {
        return Ok(());
    };
    let wanted = GcOptions { keep_runs: KEPT_RUNS, limits, dry_run: false, own_lock: &options.lock_path };
    match gc::gc(store, &driver.setting.graph.pipeline.root, wanted) {
        Ok(GcReport { results, bytes, over_bytes, .. }) if results > 0 || over_bytes > 0 => {
            (driver.report.events)(RunEvent::Tidied { results, bytes, over_bytes });
        }
        Ok(_) => {}
        Err(error) => {
            // Said once an hour, not in every run.
            gc::record_gc(store);
            let message = format!("the cache was not cleared: {error}");
            (driver.report.events)(RunEvent::Warning { stage: None, message });
        }
    }
    Ok(())
}

/// Writes down what made every stage fresh. That it cannot be written costs the next run a full look. A seal would hide what is flawed.
fn seal(driver: &mut Driver<'_>, summary: &mut RunSummary) -> Result<(), StageError> {
    let Some(invocation) = driver.setting.options.invocation.filter(|_| summary.is_idle() && summary.flawed == 0)
    else {
        return Ok(());
    };
    let stages = driver.report.journal.record.stages.iter().map(|record| record.stage.clone()).collect();
    let lock = SavedLock { path: &driver.setting.options.lock_path, lock: &driver.locks.now };
    if let Some(seal) = Seal::of(&driver.planner, invocation, stages, lock) {
        let _ = seal.write(&driver.setting.graph.pipeline.root);
    }
    Ok(())
}
