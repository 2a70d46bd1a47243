//! Lays a result out below `out/`, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hamflow_stage_api::StageError;

use super::commit::disk_error;
use crate::config::LinkMode;
use crate::digest::Digest;
use crate::fs::{self, FsError};
use crate::plan::Differences;
use crate::store::Store;
use crate::threads;

/// So many files a thread takes at a time.
const FILES_AT_ONCE: usize = 16;

/// How the layout went.
#[derive(Debug, PartialEq, Eq)]
pub enum Materialised {
    /// `out/` holds the result.
    Whole,
    /// A blob turned out to be damaged and was dropped: the result must be made again.
    Damaged,
}

/// Makes sure that `out/` is a folder of the project and no way out of it.
pub fn check_out_dir(root: &Path, folder: &Path) -> Result<(), StageError> {
    let real_root = root.canonicalize().map_err(|error| StageError::io("find", root, &error))?;
    let mut existing = folder;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) => existing = parent,
            None => return Ok(()),
        }
    }
    let real = existing.canonicalize().map_err(|error| StageError::io("find", existing, &error))?;
    if real.starts_with(&real_root) {
        return Ok(());
    }
    let message = format!("`{}` leads out of the project, to `{}`", existing.display(), real.display());
    Err(StageError::input(message).hint("outputs stay in the project: remove the symlink"))
}

/// Writes what is absent or different in `folder`, and removes what does not belong there.
pub fn materialise(
    store: &Store,
    folder: &Path,
    expected: &BTreeMap<String, Digest>,
    differences: &Differences,
    link: LinkMode,
) -> Result<Materialised, StageError> {
    if link == LinkMode::Copy && !folder.exists() {
        return at_once(store, folder, expected);
    }
    for path in &differences.remove {
        fs::remove(&folder.join(path)).map_err(|error| disk_error(&error))?;
    }
    for path in &differences.write {
        clear_way(folder, path)?;
    }
    // The first shows whether blocks can be shared; where they cannot, the rest is copied on several threads.
    let sharing = match differences.write.split_first() {
        None => true,
        Some((first, _)) => match lay(store, folder, first, expected, link, true)? {
            Laid::Damaged => return Ok(Materialised::Damaged),
            Laid::Shared => true,
            Laid::Copied => false,
        },
    };
    let rest = differences.write.get(1..).unwrap_or_default();
    let laid = threads::each(rest, threads::available(), 1, |path| {
        match lay(store, folder, path, expected, link, sharing).map_err(Some)? {
            Laid::Damaged => Err(None),
            Laid::Shared | Laid::Copied => Ok(()),
        }
    });
    match laid {
        Err(None) => return Ok(Materialised::Damaged),
        Err(Some(error)) => return Err(error),
        Ok(_) => {}
    }
    // An artifact that is an empty folder has no file that would make it.
    fs::create_dir(folder).map_err(|error| disk_error(&error))?;
    Ok(Materialised::Whole)
}

/// Makes a folder that is not there, beside its place: it appears when all of it is there, so its files need no care of their own.
fn at_once(store: &Store, folder: &Path, expected: &BTreeMap<String, Digest>) -> Result<Materialised, StageError> {
    let beside = folder.parent().unwrap_or(Path::new("."));
    // Nobody else writes here: what a killed run left is litter.
    for entry in std::fs::read_dir(beside).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(fs::STAGED_PREFIX) {
            fs::remove(&entry.path()).map_err(|error| disk_error(&error))?;
        }
    }
    let staged = beside.join(fs::unique_name());
    let made = fill(store, &staged, expected);
    match made {
        Ok(true) => fs::rename(&staged, folder).map(|()| Materialised::Whole),
        Ok(false) => fs::remove(&staged).map(|()| Materialised::Damaged),
        Err(error) => {
            let _ = fs::remove(&staged);
            Err(error)
        }
    }
    .map_err(|error| disk_error(&error))
}

/// Fills a new folder with checked bytes; false where a blob is damaged.
fn fill(store: &Store, folder: &Path, expected: &BTreeMap<String, Digest>) -> Result<bool, FsError> {
    let files: Vec<(PathBuf, &Digest)> = expected.iter().map(|(path, digest)| (folder.join(path), digest)).collect();
    let parents: BTreeSet<&Path> = files.iter().filter_map(|(path, _)| path.parent()).chain([folder]).collect();
    parents.into_iter().try_for_each(fs::create_dir)?;
    // The first shows whether blocks can be shared.
    let mut rest = &files[..];
    let mut sharing = false;
    if let [(path, digest), others @ ..] = &files[..] {
        if !store.content.check(digest) {
            return Ok(false);
        }
        sharing = fs::share(&store.content.path(digest), path)?;
        rest = if sharing { others } else { &files[..] };
    }
    let filled = threads::each(rest, threads::available(), FILES_AT_ONCE, |(path, digest)| {
        let blob = store.content.path(digest);
        // A file that cannot share its blocks, on a full disk for one, is copied.
        let shared = sharing && store.content.check(digest) && fs::share(&blob, path).map_err(Some)?;
        let whole = shared || store.content.copy_out(digest, path).map_err(Some)?;
        if whole { Ok(()) } else { Err(None) }
    });
    match filled {
        Ok(_) => Ok(true),
        Err(None) => Ok(false),
        Err(Some(error)) => Err(error),
    }
}

/// How a file was laid out.
enum Laid {
    Shared,
    Copied,
    Damaged,
}

/// Removes what stands in the way of a file where an earlier result had another shape: a file that is now a folder, or the
/// reverse.
fn clear_way(folder: &Path, path: &str) -> Result<(), StageError> {
    let target = folder.join(path);
    let above = target.ancestors().skip(1).take_while(|above| above.starts_with(folder));
    let in_the_way = above.filter(|above| above.is_file()).chain(target.is_dir().then_some(target.as_path()));
    for path in in_the_way {
        fs::remove(path).map_err(|error| disk_error(&error))?;
    }
    Ok(())
}

/// Lays one file out, whose bytes are checked.
fn lay(
    store: &Store,
    folder: &Path,
    path: &str,
    expected: &BTreeMap<String, Digest>,
    link: LinkMode,
    sharing: bool,
) -> Result<Laid, StageError> {
    let digest = &expected[path];
    let (target, blob) = (folder.join(path), store.content.path(digest));
    if (sharing || link == LinkMode::Hard) && !store.content.check(digest) {
        return Ok(Laid::Damaged);
    }
    if link == LinkMode::Hard {
        fs::create_dir(target.parent().unwrap_or(folder)).map_err(|error| disk_error(&error))?;
        fs::remove(&target).map_err(|error| disk_error(&error))?;
        if std::fs::hard_link(&blob, &target).is_ok() {
            return Ok(Laid::Shared);
        }
    }
    if sharing && fs::share(&blob, &target).map_err(|error| disk_error(&error))? {
        return Ok(Laid::Shared);
    }
    let whole = store.content.copy(digest, &target).map_err(|error| disk_error(&error))?;
    Ok(if whole { Laid::Copied } else { Laid::Damaged })
}
