//! Lays a result out below `out/`, for people.

use std::collections::BTreeMap;
use std::path::Path;

use hamflow_stage_api::StageError;

use super::commit::disk_error;
use crate::config::LinkMode;
use crate::digest::Digest;
use crate::fs;
use crate::plan::Differences;
use crate::store::Store;

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
    for path in &differences.remove {
        fs::remove(&folder.join(path)).map_err(|error| disk_error(&error))?;
    }
    let mut sharing = true;
    for path in &differences.write {
        let digest = &expected[path];
        let Some(bytes) = store.content.read(digest) else { return Ok(Materialised::Damaged) };
        let target = folder.join(path);
        let blob = store.content.path(digest);
        let linked = link == LinkMode::Hard && {
            fs::create_dir(target.parent().unwrap_or(folder)).map_err(|error| disk_error(&error))?;
            fs::remove(&target).map_err(|error| disk_error(&error))?;
            std::fs::hard_link(&blob, &target).is_ok()
        };
        if !linked {
            sharing = place(&blob, &bytes, &target, sharing).map_err(|error| disk_error(&error))?;
        }
    }
    // An artifact that is an empty folder has no file that would make it.
    fs::create_dir(folder).map_err(|error| disk_error(&error))?;
    Ok(Materialised::Whole)
}

/// Puts a blob at `target`, by sharing its blocks if that ever worked; returns whether it did.
fn place(blob: &Path, bytes: &[u8], target: &Path, sharing: bool) -> Result<bool, fs::FsError> {
    // Where a file stands in the way of a folder (or the reverse), an earlier result had another shape.
    if target.is_dir() {
        fs::remove(target)?;
    }
    if let Some(parent) = target.parent()
        && parent.is_file()
    {
        fs::remove(parent)?;
    }
    if sharing && fs::reflink(blob, target)? {
        return Ok(true);
    }
    fs::write(target, bytes, fs::Durability::Relaxed)?;
    Ok(false)
}
