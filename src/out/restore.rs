//! Restores results to `out/`.

use std::collections::BTreeSet;
use std::path::Path;

use hamflow_stage_api::StageError;

use super::copies::Copies;
use super::diff::Differences;
use crate::digest::{self, Digest};
use crate::fs::failpoint::{Step, around};
use crate::fs::{self, Folder, FsError, LinkMode, Listed, RelativePath, disk_error};
use crate::store::{Files, Store};
use crate::threads;

/// Number of files per thread and batch.
const FILES_AT_ONCE: usize = 16;

/// The outcome of a restore.
#[derive(Debug, PartialEq, Eq)]
pub enum Restored {
    /// `out/` holds the result. If the whole folder was written at once, this has its listing with stats, and the time of the listing.
    Whole(Option<(Vec<Listed>, i64)>),
    /// A blob was damaged and has been dropped: the stage must run again.
    Damaged,
}

/// A result to be restored.
pub struct Restore<'a> {
    /// The store with its blobs.
    pub store: &'a Store,
    /// The project, whose path may contain symlinks; paths below it must not.
    pub project: &'a Path,
    /// The target folder, below the project.
    pub folder: &'a Path,
    /// Its files.
    pub expected: &'a Files,
    /// Early copies, which only need to be moved into place.
    pub copies: &'a Copies,
}

impl Restore<'_> {
    /// Writes absent and different files of the folder, and removes those that do not belong there.
    pub fn run(&self, differences: &Differences, link: LinkMode) -> Result<Restored, StageError> {
        if link == LinkMode::Copy && !self.folder.exists() {
            return self.at_once();
        }
        let folder = self.open_folder().map_err(|error| disk_error(&error))?;
        for path in &differences.remove {
            folder.remove_below(path).map_err(|error| disk_error(&error))?;
        }
        for path in &differences.write {
            clear_way(self.store, self.folder, path)?;
        }
        // The first file shows whether blocks can be shared; if not, the rest is copied on several threads.
        let method = match differences.write.split_first() {
            None => Method::Share,
            Some((first, _)) => match self.lay(&folder, first, link, Method::Share)? {
                Placement::Damaged => return Ok(Restored::Damaged),
                Placement::Copied => Method::Copy,
                Placement::Placed if !self.copies.sharing => Method::Copy,
                Placement::Shared | Placement::Placed => Method::Share,
            },
        };
        let rest = differences.write.get(1..).unwrap_or_default();
        let laid = threads::each(rest, threads::available(), 1, |path| {
            match self.lay(&folder, path, link, method).map_err(Some)? {
                Placement::Damaged => Err(None),
                Placement::Shared | Placement::Copied | Placement::Placed => Ok(()),
            }
        });
        match laid {
            Err(None) => return Ok(Restored::Damaged),
            Err(Some(error)) => return Err(error),
            Ok(_) => {}
        }
        Ok(Restored::Whole(None))
    }

    /// Opens the stage's folder component by component below the project. Missing folders are created here, because an artifact that is
    /// an empty folder has no file that would create it.
    fn open_folder(&self) -> Result<Folder, FsError> {
        let below = self.folder.strip_prefix(self.project).unwrap_or(self.folder);
        let mut folder = Folder::open(self.project)?;
        for step in below {
            folder = folder.create(&step.to_string_lossy())?;
        }
        Ok(folder)
    }

    /// Builds a missing folder under a temporary name and renames it when complete, so its files need not be written atomically.
    fn at_once(&self) -> Result<Restored, StageError> {
        let staged = match self.copies.files.is_empty() {
            true => self.folder.parent().unwrap_or(Path::new(".")).join(fs::unique_name()),
            false => self.copies.folder.clone(),
        };
        let made = self.fill(&staged).and_then(|whole| {
            if !whole {
                return fs::remove(&staged).map(|()| Restored::Damaged);
            }
            // No other process could write there before the rename.
            let when = fs::now();
            let listed = fs::list(&staged, threads::available())?;
            around(Step::PlaceOutputFolder, || fs::rename(&staged, self.folder))?;
            Ok(Restored::Whole(Some((listed, when))))
        });
        if made.is_err() {
            let _ = fs::remove(&staged);
        }
        made.map_err(|error| disk_error(&error))
    }

    /// Fills a folder, which may already hold early copies, with verified content. Returns `false` if a blob is damaged.
    fn fill(&self, folder: &Path) -> Result<bool, FsError> {
        let store = self.store;
        let mut there = BTreeSet::new();
        if folder.exists() {
            for Listed { path, stat } in fs::list_own(folder)? {
                let copy = self.copies.files.get(path.as_str()).filter(|copy| copy.size() == stat.size);
                if copy.is_some_and(|copy| self.expected.get(path.as_str()) == Some(copy)) {
                    there.insert(path);
                } else {
                    fs::remove(&folder.join(path))?;
                }
            }
        }
        fs::create_dir(folder)?;
        let opened = Folder::open(folder)?;
        let files = self.expected.iter().filter(|(path, _)| !there.contains(path.as_str()));
        let mut files: Vec<(&RelativePath, &Digest)> = files.collect();
        // The first file shows whether blocks can be shared.
        let mut sharing = false;
        if let Some((path, digest)) = files.first() {
            if !store.content.check(digest) {
                return Ok(false);
            }
            let parent = opened.create_parent(path)?;
            sharing = parent.as_ref().unwrap_or(&opened).share(&store.content.path(digest), path.name())?;
        }
        if sharing {
            files.remove(0);
        }
        let filled = threads::each(&files, threads::available(), FILES_AT_ONCE, |(path, digest)| {
            let blob = store.content.path(digest);
            let parent = opened.create_parent(path).map_err(Some)?;
            let parent = parent.as_ref().unwrap_or(&opened);
            // A file that cannot share its blocks, for example on a full disk, is copied.
            let shared = sharing && store.content.check(digest) && parent.share(&blob, path.name()).map_err(Some)?;
            let copy = || {
                let mut target = parent.create_file(path.name())?;
                store.content.copy_into(digest, &mut target, &folder.join(path))
            };
            let whole = shared || copy().map_err(Some)?;
            if whole { Ok(()) } else { Err(None) }
        });
        match filled {
            Ok(_) => Ok(true),
            Err(None) => Ok(false),
            Err(Some(error)) => Err(error),
        }
    }

    /// Restores one file below the stage's folder; its content is verified.
    fn lay(
        &self,
        folder: &Folder,
        path: &RelativePath,
        link: LinkMode,
        method: Method,
    ) -> Result<Placement, StageError> {
        self.lay_file(folder, path, link, method).map_err(|error| disk_error(&error))
    }

    fn lay_file(
        &self,
        folder: &Folder,
        path: &RelativePath,
        link: LinkMode,
        method: Method,
    ) -> Result<Placement, FsError> {
        let (store, digest) = (self.store, &self.expected[path]);
        let blob = store.content.path(digest);
        let parent = folder.create_parent(path)?;
        let (parent, name) = (parent.as_ref().unwrap_or(folder), path.name());
        let has_copy = self.copies.files.get(path) == Some(digest);
        if has_copy && parent.take(&self.copies.folder.join(path), name).is_ok() {
            return Ok(Placement::Placed);
        }
        let sharing = method == Method::Share;
        if (sharing || link == LinkMode::Hard) && !store.content.check(digest) {
            return Ok(Placement::Damaged);
        }
        if link == LinkMode::Hard {
            parent.remove_file(name)?;
            if parent.link(&blob, name).is_ok() {
                return Ok(Placement::Shared);
            }
        }
        if sharing && parent.share(&blob, name)? {
            return Ok(Placement::Shared);
        }
        let whole = parent.fill(name, |target, staged| store.content.copy_into(digest, target, staged))?;
        Ok(if whole { Placement::Copied } else { Placement::Damaged })
    }
}

/// How a file gets its content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Share the blocks of the blob, or copy if that is not possible.
    Share,
    Copy,
}

/// The outcome for one file.
enum Placement {
    Shared,
    Copied,
    /// An early copy was moved into place.
    Placed,
    Damaged,
}

/// Removes what blocks the path of a file: files and folders of an earlier result with another shape. Fails at a symlink above the
/// file, or if the store does not have the content: such files belong to the user.
fn clear_way(store: &Store, folder: &Path, path: &RelativePath) -> Result<(), StageError> {
    let target = folder.join(path);
    let above: Vec<&Path> = target.ancestors().skip(1).take_while(|above| above.starts_with(folder)).collect();
    for path in above.into_iter().rev().chain([target.as_path()]) {
        let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
        // A symlink in place of the file itself is replaced like any other edited file.
        if (path == target && !metadata.is_dir()) || (path != target && metadata.is_dir()) {
            continue;
        }
        if metadata.is_symlink() {
            return Err(super::is_symlink(folder.ancestors().nth(2).unwrap_or(folder), path));
        }
        if !is_stored(store, path) {
            let message = format!("`{}` is in the way of an output, and the cache does not have it", path.display());
            return Err(StageError::input(message).hint("move it out of the way"));
        }
        fs::remove(path).map_err(|error| disk_error(&error))?;
    }
    Ok(())
}

/// Whether the store has the content of a file, or of all files in a folder.
fn is_stored(store: &Store, path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => digest::of_file(path).is_ok_and(|digest| store.content.contains(&digest)),
        Ok(metadata) if metadata.is_dir() => {
            let mut entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.all(|entry| is_stored(store, &entry.path()))
        }
        _ => false,
    }
}
