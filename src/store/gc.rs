//! Garbage collection of the store: evicts results that nothing refers to, least recently used first, until it is within its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::verify::{files, name, referenced_blobs, sweep};
use super::{ActionKey, ActionResult, Store};
use crate::fs::{self, FsError};
use crate::policy::Limits;

/// Checkpoints that were not written to for this long are deleted.
const CHECKPOINT_RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Memos that were not written for this long are deleted.
const MEMO_RETENTION: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// What garbage collection must not delete, and when results were last used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcRoots {
    /// Keys of results to keep, together with their parts and blobs.
    pub keys: BTreeSet<ActionKey>,
    /// Hex digests of blobs to keep, such as directory listings that a lock file refers to.
    pub blobs: BTreeSet<String>,
    /// Results written at or after this time are kept, in seconds since the Unix epoch.
    pub written_since: Option<u64>,
    /// The time of the last use of a result, in seconds since the Unix epoch, if a run record has it.
    pub last_used: BTreeMap<ActionKey, u64>,
}

/// What garbage collection deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Number of deleted blobs.
    pub blobs: u64,
    /// Total size of the deleted files, in bytes.
    pub bytes: u64,
    /// Number of deleted results.
    pub results: u64,
    /// Number of deleted checkpoints.
    pub checkpoints: u64,
    /// Total size of the remaining blobs, in bytes.
    pub left_bytes: u64,
    /// By how many bytes the blobs that must be kept exceed the limit.
    pub over_bytes: u64,
}

/// Deletes unreferenced results that exceed the limits, and the blobs that no remaining result refers to. Also deletes checkpoints that
/// were not written to for two weeks and memos older than two months.
///
/// The caller must hold the run lock.
pub fn gc(store: &Store, roots: &GcRoots, limits: Limits, dry_run: bool) -> Result<GcReport, FsError> {
    let mut live = LiveSet { store, all: Closure::default() };
    for key in &roots.keys {
        let more = live.additions(key);
        live.extend(more);
    }
    if let Some(since) = roots.written_since.and_then(time_of) {
        for (path, _) in files(store.actions.folder())? {
            if std::fs::metadata(&path).and_then(|found| found.modified()).is_ok_and(|written| written >= since) {
                let Ok(key) = name(&path).parse() else { continue };
                let more = live.additions(&key);
                live.extend(more);
            }
        }
    }
    let needed = live.all.bytes;
    let mut report =
        GcReport { over_bytes: limits.max_bytes.map_or(0, |most| needed.saturating_sub(most)), ..GcReport::default() };
    for (key, used) in evictable(store, roots, &live.all.results)? {
        let age = SystemTime::now().duration_since(used).unwrap_or_default();
        if limits.max_age.is_some_and(|most| age >= most) {
            break;
        }
        let more = live.additions(&key);
        // Evict this result and every one that was used less recently.
        if limits.max_bytes.is_some_and(|most| live.all.bytes.saturating_add(more.bytes) > most) {
            break;
        }
        live.extend(more);
    }
    if !dry_run {
        sweep(store)?;
    }
    for (path, _) in files(store.actions.folder())? {
        let Ok(key) = name(&path).parse::<ActionKey>() else { continue };
        if !live.all.results.contains(&key) {
            report.results += 1;
            if !dry_run {
                fs::remove(&path)?;
            }
        }
    }
    for (path, size) in files(store.content.folder())? {
        if !has_store_name(&path) || live.all.blobs.contains(name(&path)) || roots.blobs.contains(name(&path)) {
            report.left_bytes += size;
            continue;
        }
        report.blobs += 1;
        report.bytes += size;
        if !dry_run {
            fs::remove(&path)?;
        }
    }
    gc_checkpoints(store, dry_run, &mut report)?;
    if !dry_run {
        gc_memos(store)?;
    }
    Ok(report)
}

/// Whether a file is named by a digest. Other files were not created by hamflow and are never deleted.
fn has_store_name(path: &Path) -> bool {
    name(path).len() == 64 && name(path).bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Converts seconds since the Unix epoch; `None` if the time is out of range, as in a damaged record.
fn time_of(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The results and blobs that are kept.
struct LiveSet<'a> {
    store: &'a Store,
    all: Closure,
}

/// Results with their parts, and the blobs that they refer to.
#[derive(Default)]
struct Closure {
    results: BTreeSet<ActionKey>,
    blobs: BTreeSet<String>,
    bytes: u64,
}

impl LiveSet<'_> {
    /// What has to be kept in addition if this result is kept.
    fn additions(&self, key: &ActionKey) -> Closure {
        let mut more = Closure::default();
        let mut todo = vec![*key];
        while let Some(key) = todo.pop() {
            if self.all.results.contains(&key) || more.results.contains(&key) {
                continue;
            }
            let Some(result) = self.store.actions.get(&key) else { continue };
            for blob in referenced_blobs(self.store, &result) {
                let hex = blob.hex();
                if !self.all.blobs.contains(&hex) && more.blobs.insert(hex) {
                    more.bytes = more.bytes.saturating_add(blob.size());
                }
            }
            todo.extend(result.parts);
            more.results.insert(key);
        }
        more
    }

    fn extend(&mut self, more: Closure) {
        self.all.results.extend(more.results);
        self.all.blobs.extend(more.blobs);
        self.all.bytes = self.all.bytes.saturating_add(more.bytes);
    }
}

/// The results that may be evicted, most recently used first.
fn evictable(
    store: &Store,
    roots: &GcRoots,
    needed: &BTreeSet<ActionKey>,
) -> Result<Vec<(ActionKey, SystemTime)>, FsError> {
    let mut used: BTreeMap<ActionKey, SystemTime> = BTreeMap::new();
    let mut parts: Vec<(Vec<ActionKey>, SystemTime)> = Vec::new();
    for (path, _) in files(store.actions.folder())? {
        let Ok(key) = name(&path).parse::<ActionKey>() else { continue };
        let Some(ActionResult { parts: of, .. }) = store.actions.get(&key).filter(|_| !needed.contains(&key)) else {
            continue;
        };
        // Without a record, the last use is the time when the file was written. A wrong clock costs time, not correctness.
        let written = std::fs::metadata(&path).and_then(|found| found.modified()).unwrap_or(UNIX_EPOCH);
        let recorded = roots.last_used.get(&key).copied().and_then(time_of);
        let last = recorded.map_or(written, |recorded| recorded.max(written));
        parts.push((of, last));
        used.insert(key, last);
    }
    // Using a result also uses its parts.
    for (keys, last) in parts {
        for key in keys {
            if let Some(used) = used.get_mut(&key) {
                *used = last.max(*used);
            }
        }
    }
    let mut evictable: Vec<(ActionKey, SystemTime)> = used.into_iter().collect();
    evictable.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(evictable)
}

fn gc_checkpoints(store: &Store, dry_run: bool, report: &mut GcReport) -> Result<(), FsError> {
    // A directory is one checkpoint; its age is that of its newest file.
    let mut checkpoints: BTreeMap<PathBuf, (SystemTime, u64)> = BTreeMap::new();
    for (path, size) in files(&store.checkpoints_dir())? {
        let written =
            std::fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(fs::at("read", &path))?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        let (youngest, bytes) = checkpoints.entry(folder).or_insert((written, 0));
        (*youngest, *bytes) = ((*youngest).max(written), *bytes + size);
    }
    for (folder, (written, bytes)) in checkpoints {
        if has_store_name(&folder) && written.elapsed().is_ok_and(|age| age > CHECKPOINT_RETENTION) {
            report.checkpoints += 1;
            report.bytes += bytes;
            if !dry_run {
                fs::remove(&folder)?;
            }
        }
    }
    Ok(())
}

/// Deletes old memos. If they are needed again, they are cheap to recompute.
fn gc_memos(store: &Store) -> Result<(), FsError> {
    for (path, _) in files(store.memo.folder())? {
        let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let is_old = written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > MEMO_RETENTION));
        if is_old && has_store_name(&path) {
            fs::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {

    use super::*;
    use crate::digest::Digest;
    use crate::fs::RelativePath;
    use crate::store::{Outputs, ResultOutput, usage};

    #[test]
    fn old_memos_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.memo.put("old", &1);
        store.memo.put("new", &2);
        let old = Digest::of(b"old").hex();
        let (path, _) = files(store.memo.folder()).unwrap().into_iter().find(|(path, _)| name(path) == old).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - MEMO_RETENTION - Duration::from_secs(1)).unwrap();
        gc(&store, &GcRoots::default(), NOTHING_MORE, true).unwrap();
        assert_eq!((store.memo.get("old"), store.memo.get("new")), (Some(1), Some(2)), "dry run");
        gc(&store, &GcRoots::default(), NOTHING_MORE, false).unwrap();
        assert_eq!((store.memo.get::<u32>("old"), store.memo.get("new")), (None, Some(2)));
    }

    const NOTHING_MORE: Limits = Limits { max_bytes: Some(0), max_age: None };

    /// Stores a result of one file, and returns its key.
    pub fn put(store: &Store, canonical: &str, bytes: &[u8], parts: Vec<ActionKey>) -> ActionKey {
        let key = ActionKey::of(canonical);
        let output = ResultOutput {
            name: "x".into(),
            type_name: "file".into(),
            folder: false,
            path: RelativePath::new("x").unwrap(),
            digest: store.content.put(bytes).unwrap(),
        };
        let (fingerprint, flaws, origins) = (serde_json::Value::Null, Vec::new(), Vec::new());
        let result =
            ActionResult { key, fingerprint, outputs: Outputs::Stage(vec![output]), parts, flaws, cost_ms: 0, origins };
        store.actions.put(&result).unwrap();
        key
    }

    /// Sets when a file was last written to some days ago.
    fn age(path: &std::path::Path, days: u64) {
        let written = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    }

    fn roots(keys: &[&ActionKey]) -> GcRoots {
        GcRoots { keys: keys.iter().map(|key| **key).collect(), ..GcRoots::default() }
    }

    fn blobs(store: &Store, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| store.content.contains(&Digest::of(name.as_bytes()))).collect()
    }

    #[test]
    fn gc_keeps_root_results_with_their_parts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let part = put(&store, "part", b"part", Vec::new());
        let live = put(&store, "live", b"live", vec![part]);
        put(&store, "gone", b"gone", Vec::new());
        let report = gc(&store, &roots(&[&live]), NOTHING_MORE, false).unwrap();
        let expected = GcReport { blobs: 1, bytes: 4, results: 1, checkpoints: 0, left_bytes: 8, over_bytes: 8 };
        assert_eq!(report, expected);
        assert_eq!(blobs(&store, &["part", "live", "gone"]), [true, true, false]);
    }

    #[test]
    fn the_least_recently_used_result_is_evicted_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let keys: Vec<ActionKey> = ["aaaa", "bbbb", "cccc", "dddd"]
            .iter()
            .map(|name| put(&store, name, name.as_bytes(), Vec::new()))
            .collect();
        keys.iter().zip([9, 7, 5, 3]).for_each(|(key, days)| age(&store.actions.path(key), days));
        // A record says that the one written first was used a moment ago.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let roots = GcRoots { last_used: [(keys[0], now)].into(), ..roots(&[&keys[1]]) };
        let limits = Limits { max_bytes: Some(12), max_age: None };
        let report = gc(&store, &roots, limits, true).unwrap();
        assert_eq!((report.results, report.bytes, report.left_bytes), (1, 4, 12));
        assert_eq!(usage(&store).unwrap().results, 4, "nothing is deleted in a dry run");
        gc(&store, &roots, limits, false).unwrap();
        assert_eq!(blobs(&store, &["aaaa", "bbbb", "cccc", "dddd"]), [true, true, false, true]);
        gc(&store, &roots, Limits { max_bytes: Some(1), max_age: None }, false).unwrap();
        assert_eq!(blobs(&store, &["aaaa", "bbbb", "dddd"]), [false, true, false]);
    }

    #[test]
    fn results_unused_for_too_long_are_evicted_but_not_parts_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let part = put(&store, "part", b"part", Vec::new());
        let whole = put(&store, "whole", b"whole", vec![part]);
        let old = put(&store, "old", b"old", Vec::new());
        [(&part, 40), (&whole, 1), (&old, 40)].iter().for_each(|(key, days)| age(&store.actions.path(key), *days));
        let report = gc(&store, &GcRoots::default(), Limits::default(), false).unwrap();
        assert_eq!((report.results, report.over_bytes), (1, 0));
        assert_eq!(blobs(&store, &["part", "whole", "old"]), [true, true, false]);
    }

    #[test]
    fn results_of_a_kept_run_are_kept_without_a_reference() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [before, after] = ["before", "after"].map(|name| put(&store, name, name.as_bytes(), Vec::new()));
        age(&store.actions.path(&before), 2);
        age(&store.actions.path(&after), 0);
        let yesterday = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 24 * 60 * 60;
        let roots = GcRoots { written_since: Some(yesterday), ..GcRoots::default() };
        assert_eq!(gc(&store, &roots, NOTHING_MORE, false).unwrap().results, 1);
        assert_eq!(blobs(&store, &["before", "after"]), [false, true]);
    }

    #[test]
    fn gc_deletes_only_old_checkpoints_of_hamflow() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [old, young] = ["old", "young"].map(|name| Digest::of(name.as_bytes()).hex());
        for (name, days) in [(&old[..], 15), (&young, 13), ("somebody's", 15)] {
            let path = store.checkpoints_dir().join(name).join("state");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "12345").unwrap();
            age(&path, days);
        }
        let report = gc(&store, &GcRoots::default(), Limits::default(), false).unwrap();
        assert_eq!(report, GcReport { bytes: 5, checkpoints: 1, ..GcReport::default() });
        assert_eq!(usage(&store).unwrap().checkpoint_bytes, 10);
        assert!(!store.checkpoints_dir().join(old).exists() && store.checkpoints_dir().join("somebody's").exists());
    }
}
