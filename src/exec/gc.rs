//! Garbage collection of the cache: finds what lock files and recent runs refer to, and deletes the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::record::{list_runs, read_run};
use crate::fs::{self, Durability, FsError, Symlinks};
use crate::lock::{LockError, Lockfile};
use crate::store::{self, ActionKey, GcReport, GcRoots, Limits, Store};

/// Number of past runs whose results are kept regardless of the limits.
pub const KEPT_RUNS: usize = 20;

/// Lock files of runs with `--set` are deleted after this time.
const OVERRIDE_LOCK_RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Minimum time between two automatic garbage collections, in seconds.
const GC_INTERVAL_SECONDS: u64 = 60 * 60;

/// Options of a garbage collection.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions<'a> {
    /// Number of past runs whose results are kept.
    pub keep_runs: usize,
    /// Limits on the remaining results.
    pub limits: Limits,
    /// Whether to only report what would be deleted.
    pub dry_run: bool,
    /// The lock file of the current command, which is in use regardless of its age.
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

/// Deletes cached results of the project at `root` that are no longer needed. The caller must hold the run lock.
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
    // Keep everything written since the oldest kept run: parts of a failed stage or a killed run are in no record.
    let kept: Vec<_> =
        list_runs(&runs).into_iter().take(options.keep_runs).filter_map(|run| read_run(&runs, &run)).collect();
    roots.written_since = kept.iter().map(|record| record.started).min();
    for (place, record) in list_runs(&runs).iter().filter_map(|run| read_run(&runs, run)).enumerate() {
        for stage in record.stages {
            // The key is empty if the stage failed before it was known.
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

/// Whether an automatic garbage collection is due.
pub fn is_due(store: &Store) -> bool {
    let last =
        fs::read_text(&timestamp_path(store), Symlinks::Refuse).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // A time in the future was written with a wrong clock; ignore it.
    last.is_none_or(|last| now().checked_sub(last).is_none_or(|passed| passed > GC_INTERVAL_SECONDS))
}

/// Records the time of a garbage collection.
pub fn record_gc(store: &Store) {
    let _ = fs::write(&timestamp_path(store), format!("{}\n", now()).as_bytes(), Durability::Relaxed);
}

fn timestamp_path(store: &Store) -> PathBuf {
    store.root().join("tidied")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The lock files of all pipelines in the project directory, and those of their profiles and overrides.
fn lock_paths(store: &Store, root: &Path, own: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(store.locks_dir()).into_iter().flatten().flatten();
    let others = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "lock"));
    others.chain(Lockfile::all_in(root)).chain([root.join("pipeline.lock"), own.to_owned()]).collect()
}

/// The lock files of runs with `--set` that are older than two weeks, or all of them if no run is kept.
fn expired_override_locks(store: &Store, keep_runs: usize) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store.locks_dir()).into_iter().flatten().flatten();
    let with_set = entries.filter(|entry| entry.file_name().to_string_lossy().contains("+set-"));
    let old = |entry: &std::fs::DirEntry| {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > OVERRIDE_LOCK_RETENTION))
    };
    with_set.filter(|entry| keep_runs == 0 || old(entry)).map(|entry| entry.path()).collect()
}
