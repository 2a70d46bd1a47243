//! Usage statistics and integrity checks of the store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::action::decode;
use super::{ActionResult, Store, Tree};
use crate::digest::{self, Digest};
use crate::fs::{self, FsError, Symlinks};

/// The contents of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of blobs.
    pub blobs: u64,
    /// Total size of the blobs, in bytes.
    pub blob_bytes: u64,
    /// Number of results.
    pub results: u64,
    /// Number of memos.
    pub memos: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// Total size of the checkpoints, in bytes.
    pub checkpoint_bytes: u64,
}

/// A damaged entry of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it was deleted.
    pub deleted: bool,
}

pub(super) fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, FsError> {
    let all = all_files(folder)?;
    Ok(all.into_iter().filter(|(path, _)| !name(path).starts_with(fs::STAGED_PREFIX)).collect())
}

fn all_files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, FsError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    Ok(fs::list_own(folder)?.into_iter().map(|file| (folder.join(file.path), file.stat.size)).collect())
}

/// Deletes temporary files that a killed process left behind.
pub(super) fn sweep(store: &Store) -> Result<(), FsError> {
    fs::sweep(store.root());
    for folder in [store.content.folder(), store.actions.folder(), store.memo.folder(), &store.runs_dir()] {
        for (path, _) in all_files(folder)? {
            if name(&path).starts_with(fs::STAGED_PREFIX) {
                fs::remove(&path)?;
            }
        }
    }
    Ok(())
}

pub(super) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Counts the contents of the store.
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

/// Checks every blob and result and returns the damaged ones. With `fix`, they are deleted.
pub fn verify(store: &Store, fix: bool) -> Result<Vec<Damage>, FsError> {
    sweep(store)?;
    let mut damages = Vec::new();
    let mut damaged = |path: PathBuf, problem: String| {
        if fix {
            fs::remove(&path)?;
        }
        damages.push(Damage { path, problem, deleted: fix });
        Ok::<(), FsError>(())
    };
    let (mut good, mut unreadable) = (BTreeSet::new(), Vec::new());
    for (path, size) in files(store.content.folder())? {
        let read = fs::open_regular(&path, Symlinks::Refuse).and_then(|mut file| digest::of_reader(&mut file));
        let found = match read {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                damaged(path, error.to_string())?;
                continue;
            }
            // An unreadable file may be intact, so it is reported but never deleted.
            Err(error) => {
                good.extend(format!("{}:{size}", name(&path)).parse::<Digest>());
                unreadable.push(Damage { path, problem: format!("cannot read it: {error}"), deleted: false });
                continue;
            }
        };
        if found.hex() == name(&path) {
            good.insert(found);
        } else {
            damaged(path, format!("its content has the hash {}", found.short()))?;
        }
    }
    let is_whole = |digest: &Digest, is_tree: bool| {
        // Not read through the store, which would delete damaged blobs.
        let tree = || Tree::parse(&fs::read_text(&store.content.path(digest), Symlinks::Refuse).ok()?).ok();
        let files = || tree().is_some_and(|tree| tree.entries().iter().all(|entry| good.contains(&entry.digest)));
        good.contains(digest) && (!is_tree || files())
    };
    for (path, _) in files(store.actions.folder())? {
        let text = match fs::read_regular(&path, Symlinks::Refuse) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                damaged(path, error.to_string())?;
                continue;
            }
            text => text.map_err(fs::at("read", &path))?,
        };
        match decode(&text).filter(|result| result.key.hex() == name(&path)) {
            None => damaged(path, "not a valid result".into())?,
            Some(result) => {
                if let Some((digest, _)) = result.outputs.blobs().find(|(digest, is_tree)| !is_whole(digest, *is_tree))
                {
                    damaged(path, format!("blobs of its {} are missing or damaged", describe_blob(&result, &digest)))?;
                }
            }
        }
    }
    damages.extend(unreadable);
    Ok(damages)
}

/// Describes the role of a blob in a result.
fn describe_blob(result: &ActionResult, digest: &Digest) -> String {
    let output = result.outputs.artifacts().iter().find(|output| output.digest == *digest);
    output.map_or("files".to_owned(), |output| format!("output `{}`", output.name))
}

/// Whether all blobs of an output are in the store.
pub(super) fn is_complete(store: &Store, digest: &Digest, folder: bool) -> bool {
    if !folder {
        return store.content.contains(digest);
    }
    read_tree(store, digest)
        .is_some_and(|tree| tree.entries().iter().all(|entry| store.content.contains(&entry.digest)))
}

/// Reads a tree; `None` if it is missing or invalid.
pub(super) fn read_tree(store: &Store, digest: &Digest) -> Option<Tree> {
    Tree::parse(std::str::from_utf8(&store.content.read(digest)?).ok()?).ok()
}

/// The blobs that a result refers to: its outputs including the files of trees, and the listings and views in its fingerprint (which
/// `why` compares) as far as the store has them.
pub(super) fn referenced_blobs(store: &Store, result: &ActionResult) -> BTreeSet<Digest> {
    let mut blobs = BTreeSet::new();
    for (digest, is_tree) in result.outputs.blobs() {
        blobs.insert(digest);
        if is_tree && let Some(tree) = read_tree(store, &digest) {
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
    use super::*;
    use crate::store::gc::tests::put;

    #[test]
    fn verify_reports_and_deletes_damaged_entries() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        put(&store, "one", b"one", Vec::new());
        assert_eq!(verify(&store, true).unwrap(), []);
        let blob = store.content.path(&Digest::of(b"one"));
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, "two").unwrap();
        assert_eq!(verify(&store, false).unwrap().len(), 2, "reported and kept");
        let damages = verify(&store, true).unwrap();
        assert_eq!(damages.len(), 2, "{damages:?}");
        assert_eq!(damages[0].path, blob);
        assert_eq!(verify(&store, true).unwrap(), []);
    }
}
