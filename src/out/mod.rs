//! The `out/` folder: results restored for users, who may also keep their own files there.
//!
//! # Rules
//!
//! 1. `out/STAGE/` holds the artifacts of the stage's result. hamflow restores them from the store and never reads them as inputs.
//! 2. Files that were restored for an earlier result of the stage and are not part of the new one are removed if they still have the bytes
//!    that hamflow wrote. The same holds for a stage that is no longer in the pipeline, unless another pipeline of the project has it.
//!    [`OutRecord`] records which result was restored last.
//! 3. A file beside the artifacts that hamflow did not write belongs to the user and is kept.
//! 4. Inside an artifact that is a folder, and at the path of an artifact, other files are overwritten or removed. If the store does not
//!    have their bytes, the run reports them.
//! 5. A file or folder of another shape at the path of an artifact (a folder instead of a file) is removed only if the store has its
//!    bytes. Otherwise the run fails and names it.
//! 6. Nothing is written, read or removed through a symlink in `out/`: neither `out/` itself nor a folder below it may be one.
//! 7. A missing folder is created atomically, by one rename. Otherwise each file is written atomically.
//! 8. Temporary files of a killed run are removed by the next run. Only their names identify them (`.tmp-PROCESS-NUMBER-NANOSECONDS`).
//!
//! `tests/bystanders.rs` tests these rules with files of users.

mod copies;
mod diff;
mod record;
mod restore;

use std::path::{Path, PathBuf};

use hamflow_stage_api::StageError;

pub use copies::{Copies, EarlyCopies, PartCopies};
pub use diff::{Differences, Wanted, compare};
pub use record::{OutEntry, OutRecord};
pub use restore::{Restore, Restored};

use crate::fs::{self, disk_error};
use crate::store::{ActionKey, ActionResult, Files, StatIndex, Store};

/// The result that the folder of a stage should hold.
#[derive(Debug, Clone, Copy)]
pub struct StoredResult<'a> {
    /// The name of the stage.
    pub stage: &'a str,
    /// The result.
    pub result: &'a ActionResult,
    /// Its files.
    pub files: &'a Files,
}

/// The `out/` folder of a project.
#[derive(Debug)]
pub struct OutFolder {
    project: PathBuf,
    record: OutRecord,
}

impl OutFolder {
    /// Loads the folder of the project at `project`, whose store is at `store`.
    pub fn load(project: &Path, store: &Path) -> Self {
        Self { project: project.to_owned(), record: OutRecord::load(store) }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> PathBuf {
        self.project.join("out")
    }

    /// Returns the folder of a stage's artifacts.
    pub fn of_stage(&self, stage: &str) -> PathBuf {
        self.path().join(stage)
    }

    /// Returns the record of restored results.
    pub fn record(&mut self) -> &mut OutRecord {
        &mut self.record
    }

    /// Returns the differences between the folder of a stage and its result.
    pub fn compare(
        &self,
        stored: StoredResult<'_>,
        store: &Store,
        index: &mut StatIndex,
        threads: usize,
    ) -> Result<Differences, StageError> {
        let StoredResult { stage, result, files } = stored;
        let earlier = self.record.get(stage).filter(|earlier| earlier.key != result.key.hex());
        let earlier = earlier.and_then(|earlier| earlier.key.parse::<ActionKey>().ok());
        let before = earlier.map(|key| store.files_of(&key)).unwrap_or_default();
        let folder = self.of_stage(stage);
        let wanted = Wanted { folder: &folder, result, files, before: &before };
        compare(&wanted, store, index, threads)
            .map_err(|error| StageError::io(error.action, &error.path, &error.source))
    }

    /// Removes the outputs of stages that are no longer in the pipeline of `lock` (rule 2).
    pub fn remove_dropped(
        &mut self,
        lock: &str,
        is_there: impl Fn(&str) -> bool,
        store: &Store,
        index: &mut StatIndex,
    ) -> Result<(), StageError> {
        for (stage, key) in self.record.take_dropped(lock, is_there) {
            let folder = self.of_stage(&stage);
            // Anything that is not a folder, or is behind a symlink, belongs to the user.
            if !folder.is_dir() || check(&self.project, &folder).is_err() {
                continue;
            }
            let files = key.parse::<ActionKey>().map(|key| store.files_of(&key)).unwrap_or_default();
            remove_unchanged(&folder, &files, index)?;
            index.forget(&folder);
        }
        Ok(())
    }
}

/// Removes the files of a folder that are unchanged since they were restored, and the folders that are then empty.
fn remove_unchanged(folder: &Path, files: &Files, index: &mut StatIndex) -> Result<(), StageError> {
    let found = index.usual_folder(folder, 1).map_err(|error| disk_error(&error))?;
    for known in
        found.iter().filter(|known| files.get(known.path.as_str()).is_some_and(|digest| known.digest == *digest))
    {
        let path = folder.join(&known.path);
        fs::remove(&path).map_err(|error| disk_error(&error))?;
        for parent in path.ancestors().skip(1).take_while(|parent| parent.starts_with(folder)) {
            if std::fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Checks that the existing components of a folder in `out/` are folders and not symlinks (rule 6).
pub fn check(project: &Path, folder: &Path) -> Result<(), StageError> {
    let mut path = project.to_owned();
    for step in folder.strip_prefix(project).unwrap_or(folder) {
        path.push(step);
        let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
        if metadata.is_symlink() {
            return Err(is_symlink(project, &path));
        }
        if !metadata.is_dir() {
            let message = format!("outputs go to the folder `{}`, but that is not a folder", path.display());
            return Err(StageError::input(message).hint("move it out of the way"));
        }
    }
    Ok(())
}

fn is_symlink(project: &Path, link: &Path) -> StageError {
    let to = link.canonicalize().unwrap_or_else(|_| link.read_link().unwrap_or_default());
    let whither = if to.starts_with(project) { "elsewhere in" } else { "out of" };
    let message = format!("`{}` leads {whither} the project, to `{}`", link.display(), to.display());
    StageError::input(message).hint("outputs need folders of their own: remove the symlink")
}

/// Removes temporary files of killed runs beside the stages in `out` (rule 8).
pub fn sweep(out: &Path) -> Result<(), StageError> {
    for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
        if fs::is_staged(&entry.file_name().to_string_lossy()) {
            fs::remove(&entry.path()).map_err(|error| disk_error(&error))?;
        }
    }
    Ok(())
}
