//! Keeps the cache within its budget: gathers what locks and recent runs need, and clears the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::record::{list_runs, read_run};
use crate::fs::{self, Durability, FsError, Symlinks};
use crate::lock::{LockError, Lockfile};
use crate::store::{self, ActionKey, GcReport, GcRoots, Limits, Store};

/// How many past runs keep their results, whatever the budget.
pub const KEPT_RUNS: usize = 20;

/// So long the lock of a run with `--set` keeps its results.
const OVERRIDE_LOCK_RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A run looks after the cache where none has done so for this long.
const GC_INTERVAL_SECONDS: u64 = 60 * 60;

/// What a clearing is to keep.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions<'a> {
    /// The number of past runs whose results stay.
    pub keep_runs: usize,
    /// How much more stays.
    pub limits: Limits,
    /// Whether nothing is deleted.
    pub dry_run: bool,
    /// The lock of whoever asks: it is in use, however old it is.
    pub own_lock: &'a Path,
}

/// An error that stopped garbage collection.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// A lock file cannot be read, so its roots are unknown.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The cache cannot be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// Clears the cache of the project at `root`. The caller holds the run lock.
pub fn gc(store: &Store, root: &Path, options: GcOptions<'_>) -> Result<GcReport, GcError> {
    let mut expired = expired_override_locks(store, options.keep_runs);
    expired.retain(|path| options.keep_runs == 0 || path != options.own_lock);
    if !options.dry_run {
        for path in &expired {
            fs::remove(path)?;
        }
    }
    let mut roots = GcRoots::default();
    let locks = lock_paths(store, root, options.own_lock);
    for path in locks.iter().filter(|path| !expired.contains(path)) {
        for (_, stage) in Lockfile::read(path)?.stages {
            roots.blobs.extend(stage.inputs.values().map(|digest| digest.hex()));
            roots.keys.extend(stage.key.parse::<ActionKey>());
        }
    }
    let runs = store.runs_dir();
    // What a kept run made is kept even where no record names it: the parts of a stage that failed, or of a run that was killed.
    let kept: Vec<_> =
        list_runs(&runs).into_iter().take(options.keep_runs).filter_map(|run| read_run(&runs, &run)).collect();
    roots.written_since = kept.iter().map(|record| record.started).min();
    for (place, record) in list_runs(&runs).iter().filter_map(|run| read_run(&runs, run)).enumerate() {
        for stage in record.stages {
            // Empty where a stage never had a key.
            let Ok(key) = stage.key.parse::<ActionKey>() else { continue };
            let used = roots.last_used.entry(key).or_default();
            *used = record.started.max(*used);
            if place < options.keep_runs {
                roots.keys.insert(key);
            }
        }
    }
    let report = store::gc(store, &roots, options.limits, options.dry_run)?;
    if !options.dry_run {
        record_gc(store);
    }
    Ok(report)
}

/// Whether it is time to look after the cache again.
pub fn is_due(store: &Store) -> bool {
    let last =
        fs::read_text(&timestamp_path(store), Symlinks::Refuse).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // A time that has not come yet was written by a clock that was wrong.
    last.is_none_or(|last| now().checked_sub(last).is_none_or(|passed| passed > GC_INTERVAL_SECONDS))
}

/// Notes that somebody has looked after the cache now.
pub fn record_gc(store: &Store) {
    let _ = fs::write(&timestamp_path(store), format!("{}\n", now()).as_bytes(), Durability::Relaxed);
}

fn timestamp_path(store: &Store) -> PathBuf {
    store.root().join("tidied")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The locks of the pipelines in the project's folder, and those of every profile and override.
fn lock_paths(store: &Store, root: &Path, own: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(store.root().join("locks")).into_iter().flatten().flatten();
    let others = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "lock"));
    others.chain(Lockfile::all_in(root)).chain([root.join("pipeline.lock"), own.to_owned()]).collect()
}

/// Locks of runs with `--set` that are expired: of more than two weeks ago, or all where no run is to be kept.
fn expired_override_locks(store: &Store, keep_runs: usize) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store.root().join("locks")).into_iter().flatten().flatten();
    let with_set = entries.filter(|entry| entry.file_name().to_string_lossy().contains("+set-"));
    let old = |entry: &std::fs::DirEntry| {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > OVERRIDE_LOCK_RETENTION))
    };
    with_set.filter(|entry| keep_runs == 0 || old(entry)).map(|entry| entry.path()).collect()
}
