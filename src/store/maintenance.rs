//! Counts, checks and clears the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::action::decode;
use super::{ActionResult, ResultOutput, Store, Tree};
use crate::digest::{self, Digest};
use crate::fs::{self, FsError};

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Number of action results.
    pub results: u64,
    /// Number of remembered views and plans.
    pub memos: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// Their bytes.
    pub checkpoint_bytes: u64,
}

/// What a clearing removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Number of blobs.
    pub blobs: u64,
    /// Bytes of all that was removed.
    pub bytes: u64,
    /// Number of action results.
    pub results: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
}

/// Something in the store that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, FsError> {
    let all = all_files(folder)?;
    Ok(all.into_iter().filter(|(path, _)| !name(path).starts_with(fs::STAGED_PREFIX)).collect())
}

fn all_files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, FsError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    Ok(fs::list(folder, 1)?.into_iter().map(|file| (folder.join(file.path), file.stat.size)).collect())
}

/// Removes what a killed process had begun to write and never renamed: no damage, only litter.
fn sweep(store: &Store) -> Result<(), FsError> {
    for folder in [store.content.folder(), store.actions.folder(), store.memo.folder()] {
        for (path, _) in all_files(folder)? {
            if name(&path).starts_with(fs::STAGED_PREFIX) {
                fs::remove(&path)?;
            }
        }
    }
    Ok(())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Counts what is in the store.
pub fn usage(store: &Store) -> Result<Usage, FsError> {
    let blobs = files(store.content.folder())?;
    let checkpoints = files(&store.checkpoints_dir())?;
    Ok(Usage {
        blobs: blobs.len() as u64,
        blob_bytes: blobs.iter().map(|(_, size)| size).sum(),
        results: files(store.actions.folder())?.len() as u64,
        memos: files(store.memo.folder())?.len() as u64,
        checkpoints: checkpoints.len() as u64,
        checkpoint_bytes: checkpoints.iter().map(|(_, size)| size).sum(),
    })
}

/// Hashes every blob and reads every result; returns what is wrong. With `fix`, damaged files are deleted: each counts as a miss.
pub fn verify(store: &Store, fix: bool) -> Result<Vec<Damage>, FsError> {
    sweep(store)?;
    let mut damages = Vec::new();
    let mut damaged = |path: PathBuf, problem: String| {
        if fix {
            fs::remove(&path)?;
        }
        damages.push(Damage { path, problem });
        Ok::<(), FsError>(())
    };
    let mut good = BTreeSet::new();
    for (path, _) in files(store.content.folder())? {
        let found = digest::of_file(&path).map_err(fs::at("read", &path))?;
        if found.hex() == name(&path) {
            good.insert(found);
        } else {
            damaged(path, format!("its bytes have the hash {}", found.short()))?;
        }
    }
    let is_whole = |output: &ResultOutput| {
        // Nothing is read through the store, which would drop what is damaged.
        let tree = || Tree::parse(&std::fs::read_to_string(store.content.path(&output.digest)).ok()?).ok();
        let files = || tree().is_some_and(|tree| tree.entries().iter().all(|entry| good.contains(&entry.digest)));
        good.contains(&output.digest) && (!output.folder || files())
    };
    for (path, _) in files(store.actions.folder())? {
        let text = std::fs::read(&path).map_err(fs::at("read", &path))?;
        match decode(&text).filter(|result| result.key == name(&path)) {
            None => damaged(path, "it is no whole action result".into())?,
            Some(result) => {
                if let Some(output) = result.outputs.iter().find(|output| !is_whole(output)) {
                    damaged(path, format!("bytes of its output `{}` are not in the store", output.name))?;
                }
            }
        }
    }
    Ok(damages)
}

/// Whether all the bytes of an output are in the store.
pub(super) fn is_whole(store: &Store, digest: &Digest, folder: bool) -> bool {
    if !folder {
        return store.content.contains(digest);
    }
    read_tree(store, digest)
        .is_some_and(|tree| tree.entries().iter().all(|entry| store.content.contains(&entry.digest)))
}

/// The tree of a blob, where it is one and is there.
pub(super) fn read_tree(store: &Store, digest: &Digest) -> Option<Tree> {
    Tree::parse(std::str::from_utf8(&store.content.read(digest)?).ok()?).ok()
}

/// For so long a checkpoint is kept that nobody has gone on from.
const CHECKPOINTS_KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Removes every result that none of `keys` needs, every blob that no remaining result and none of `blobs` names, and
/// checkpoints that were not written to for two weeks.
///
/// Nothing may be running: the caller holds the run lock.
pub fn collect(
    store: &Store,
    keys: &BTreeSet<String>,
    mut blobs: BTreeSet<String>,
    dry_run: bool,
) -> Result<Garbage, FsError> {
    let mut results = BTreeSet::new();
    let mut todo: Vec<String> = keys.iter().cloned().collect();
    while let Some(key) = todo.pop() {
        let Some(result) = store.actions.get_hex(&key) else { continue };
        if !results.insert(key) {
            continue;
        }
        blobs.extend(named_blobs(store, &result).iter().map(Digest::hex));
        todo.extend(result.parts);
    }
    if !dry_run {
        sweep(store)?;
    }
    let mut garbage = Garbage::default();
    for (path, _) in files(store.actions.folder())? {
        if !results.contains(name(&path)) {
            garbage.results += 1;
            if !dry_run {
                fs::remove(&path)?;
            }
        }
    }
    for (path, size) in files(store.content.folder())? {
        if !blobs.contains(name(&path)) {
            garbage.blobs += 1;
            garbage.bytes += size;
            if !dry_run {
                fs::remove(&path)?;
            }
        }
    }
    // A folder is one checkpoint, as old as its youngest file.
    let mut checkpoints: BTreeMap<PathBuf, (SystemTime, u64)> = BTreeMap::new();
    for (path, size) in files(&store.checkpoints_dir())? {
        let written =
            std::fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(fs::at("read", &path))?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        let (youngest, bytes) = checkpoints.entry(folder).or_insert((written, 0));
        (*youngest, *bytes) = ((*youngest).max(written), *bytes + size);
    }
    for (folder, (written, bytes)) in checkpoints {
        if written.elapsed().is_ok_and(|age| age > CHECKPOINTS_KEPT) {
            garbage.checkpoints += 1;
            garbage.bytes += bytes;
            if !dry_run {
                fs::remove(&folder)?;
            }
        }
    }
    Ok(garbage)
}

/// The blobs that a result names: its outputs with the files of folders, and those of the listings and views of its fingerprint
/// (what `why` compares) that the store has.
pub(super) fn named_blobs(store: &Store, result: &ActionResult) -> BTreeSet<Digest> {
    let mut blobs = BTreeSet::new();
    for output in &result.outputs {
        blobs.insert(output.digest);
        if output.folder
            && let Some(tree) = read_tree(store, &output.digest)
        {
            blobs.extend(tree.entries().iter().map(|entry| entry.digest));
        }
    }
    let mut mentioned = BTreeSet::new();
    collect_digests(&result.fingerprint, &mut mentioned);
    blobs.extend(mentioned.into_iter().filter(|digest| store.content.contains(digest)));
    blobs
}

fn collect_digests(value: &serde_json::Value, found: &mut BTreeSet<Digest>) {
    match value {
        serde_json::Value::String(text) => found.extend(text.parse::<Digest>().ok()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_digests(item, found)),
        serde_json::Value::Object(map) => map.values().for_each(|item| collect_digests(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use hamflow_stage_api::ArtifactType;

    use super::*;
    use crate::store::{ActionKey, ActionResult, ResultOutput};

    fn put(store: &Store, canonical: &str, bytes: &[u8], parts: Vec<String>) -> String {
        let key = ActionKey::of(canonical);
        let output = ResultOutput {
            name: "x".into(),
            artifact_type: ArtifactType::File,
            path: "x".into(),
            digest: store.content.put(bytes).unwrap(),
            folder: false,
        };
        let fingerprint = serde_json::Value::Null;
        store
            .actions
            .put(&ActionResult {
                key: key.hex(),
                fingerprint,
                outputs: vec![output],
                parts,
                flaws: Vec::new(),
                cost_ms: 0,
                origins: Vec::new(),
            })
            .unwrap();
        key.hex()
    }

    #[test]
    fn a_clearing_keeps_what_the_keys_need_with_their_parts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let part = put(&store, "part", b"part", Vec::new());
        let kept = put(&store, "kept", b"kept", vec![part]);
        put(&store, "gone", b"gone", Vec::new());
        let garbage = collect(&store, &BTreeSet::from([kept]), BTreeSet::new(), false).unwrap();
        assert_eq!(garbage, Garbage { blobs: 1, bytes: 4, results: 1, checkpoints: 0 });
        assert!(store.content.contains(&Digest::of(b"part")) && !store.content.contains(&Digest::of(b"gone")));
    }

    #[test]
    fn a_clearing_removes_old_checkpoints_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (name, days) in [("old", 15), ("young", 13)] {
            let path = store.checkpoints_dir().join(name).join("state");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "12345").unwrap();
            let written = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        }
        let garbage = collect(&store, &BTreeSet::new(), BTreeSet::new(), false).unwrap();
        assert_eq!(garbage, Garbage { bytes: 5, checkpoints: 1, ..Garbage::default() });
        assert_eq!(usage(&store).unwrap().checkpoint_bytes, 5);
        assert!(!store.checkpoints_dir().join("old").exists());
    }

    #[test]
    fn verify_names_and_drops_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        put(&store, "one", b"one", Vec::new());
        assert_eq!(verify(&store, true).unwrap(), []);
        let blob = store.content.path(&Digest::of(b"one"));
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, "two").unwrap();
        assert_eq!(verify(&store, false).unwrap().len(), 2, "named and left alone");
        let damages = verify(&store, true).unwrap();
        assert_eq!(damages.len(), 2, "{damages:?}");
        assert_eq!(damages[0].path, blob);
        assert_eq!(verify(&store, true).unwrap(), []);
    }
}
