//! The end of a run, as a list of independent steps.

use std::time::Instant;

use hamflow_stage_api::StageError;

use super::driver::{Driver, milliseconds};
use super::gc::{self, GcOptions, KEPT_RUNS};
use super::{End, RunEvent, RunSummary};
use crate::config::InputDeclaration;
use crate::fs::{self, SkipReason, Skipped, disk_error};
use crate::plan::{SavedLock, Seal};
use crate::store::GcReport;

/// A step at the end of a run.
type Step = fn(&mut Driver<'_>, &mut RunSummary) -> Result<(), StageError>;

/// The steps after the last job, in order. Uploads and garbage collection come late, when everything that the run produced is safe.
const STEPS: [Step; 14] = [
    tell_of_skipped,
    stop_workers,
    end_fetches,
    store_parts,
    remove_temporary,
    save_record,
    complete_lock,
    write_learnt,
    save_out_record,
    save_stat_index,
    write_lock,
    end_uploads,
    collect_garbage,
    seal,
];

/// Finishes a run that began at `started`.
pub fn finish(driver: &mut Driver<'_>, started: Instant) -> Result<RunSummary, StageError> {
    let mut summary = std::mem::take(&mut driver.report.summary);
    summary.wall_ms = milliseconds(started);
    summary.flawed = driver.results.values().filter(|result| !result.flaws.is_empty()).count();
    for step in STEPS {
        step(driver, &mut summary)?;
    }
    (driver.report.events)(RunEvent::RunFinished(summary.clone()));
    Ok(summary)
}

/// Says which entries of the inputs' folders are not part of the data.
fn tell_of_skipped(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    const SHOWN: usize = 3;
    for input in &driver.setting.graph.pipeline.inputs {
        let mut skipped = skipped(driver, input);
        if skipped.is_empty() {
            continue;
        }
        skipped.sort_by_key(|entry| !may_hold_data(entry));
        let entries = if skipped.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", skipped.len()) };
        let more = if skipped.len() > SHOWN { ", …" } else { "" };
        let shown: Vec<String> = skipped.iter().take(SHOWN).map(ToString::to_string).collect();
        let message = format!("skipped {entries}: {}{more}", shown.join(", "));
        (driver.report.events)(RunEvent::Note { stage: format!("inputs.{}", input.name), message });
    }
    Ok(())
}

/// What the listings of an input's folders left out.
fn skipped(driver: &mut Driver<'_>, input: &InputDeclaration) -> Vec<Skipped> {
    let root = &driver.setting.graph.pipeline.root;
    let index = driver.planner.index();
    input.paths.iter().flat_map(|path| index.skipped(&root.join(path)).to_vec()).collect()
}

fn may_hold_data(entry: &Skipped) -> bool {
    matches!(entry.reason, SkipReason::InvalidName | SkipReason::Unreadable)
}

fn stop_workers(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    // A run that leaves jobs in a queue has told its executors already.
    driver.executor.stop(End::Cancel);
    while let Some(message) = driver.executor.problem() {
        (driver.report.events)(RunEvent::Warning { stage: None, message });
    }
    Ok(())
}

fn end_fetches(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    driver.sharing.end_fetches();
    Ok(())
}

/// Waits until the committer has stored its parts.
fn store_parts(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    driver.committer = None;
    Ok(())
}

/// Writes the memos and listings that planning computed.
fn write_learnt(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    driver.planner.write_learnt();
    Ok(())
}

fn save_out_record(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    driver.planner.out().record().save();
    Ok(())
}

/// Saves the stat index. Without it the next run only has to hash more files, so an error is ignored.
fn save_stat_index(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    let _ = driver.planner.index().save();
    Ok(())
}

fn end_uploads(driver: &mut Driver<'_>, summary: &mut RunSummary) -> Result<(), StageError> {
    summary.transfers.uploaded = driver.sharing.end_uploads(summary.interrupted);
    driver.tell_of_remote();
    Ok(())
}

fn remove_temporary(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    let _ = fs::remove(&driver.setting.target.tmp_dir());
    driver.executor.clear();
    driver.copies.clear();
    Ok(())
}

fn save_record(driver: &mut Driver<'_>, summary: &mut RunSummary) -> Result<(), StageError> {
    if summary.ran + summary.cached + summary.failed + summary.begun.queued > 0 || summary.interrupted {
        let journal = &mut driver.report.journal;
        summary.run = Some(journal.record.run.clone());
        journal.record.wall_ms = summary.wall_ms.max(1);
        journal.record.interrupted = summary.interrupted;
        journal.save();
    }
    Ok(())
}

fn complete_lock(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    driver.complete_lock();
    Ok(())
}

fn write_lock(driver: &mut Driver<'_>, _: &mut RunSummary) -> Result<(), StageError> {
    let options = driver.setting.options;
    // Serializing a large lock only to find that it is unchanged would be expensive for a run with nothing to do.
    let same = driver.locks.now == *driver.planner.lock() && options.lock_path.exists();
    if !options.locked && !same {
        driver.locks.now.write(&options.lock_path).map_err(|error| disk_error(&error))?;
    }
    Ok(())
}

/// Enforces the limits of the cache. A failure is only a warning.
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
            // Warn once an hour, not in every run.
            gc::record_gc(store);
            let message = format!("garbage collection of the cache failed: {error}");
            (driver.report.events)(RunEvent::Warning { stage: None, message });
        }
    }
    Ok(())
}

/// Writes a seal if every stage was fresh. Without a seal the next run checks all stages again. Runs with flaws, or
/// with skipped entries that may hold data, are not sealed, because a sealed run would not report them.
fn seal(driver: &mut Driver<'_>, summary: &mut RunSummary) -> Result<(), StageError> {
    let Some(invocation) = driver.setting.options.invocation.filter(|_| summary.is_idle() && summary.flawed == 0)
    else {
        return Ok(());
    };
    let inputs = &driver.setting.graph.pipeline.inputs;
    if inputs.iter().any(|input| skipped(driver, input).iter().any(may_hold_data)) {
        return Ok(());
    }
    let stages = driver.report.journal.record.stages.iter().map(|record| record.stage.clone()).collect();
    let lock = SavedLock { path: &driver.setting.options.lock_path, lock: &driver.locks.now };
    if let Some(seal) = Seal::of(&driver.planner, invocation, stages, lock) {
        let _ = seal.write(&driver.setting.graph.pipeline.root);
    }
    Ok(())
}
