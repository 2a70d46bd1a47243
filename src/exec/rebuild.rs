//! Reruns a stage into a scratch store and compares the outputs with the stored result.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hamflow_stage_api::StageError;

use super::driver::Setting;
use super::driver::milliseconds;
use super::{RunEvent, RunOptions, Workers};
use crate::digest::Digest;
use crate::fs::{self, RelativePath, disk_error};
use crate::graph::StageId;
use crate::plan::{Planner, Results};
use crate::store::{Files, Store, StoreError};

/// The stage to rerun.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// The stage.
    pub id: StageId,
    /// The results of its upstream stages.
    pub results: &'a Results,
    /// Number of threads shared by all jobs.
    pub threads: usize,
}

/// The comparison of a rerun with the stored result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Number of compared files.
    pub files: usize,
    /// Total size of the stored files in bytes.
    pub bytes: u64,
    /// Milliseconds of the rerun.
    pub wall_ms: u64,
    /// The differing files, sorted by path.
    pub differences: Vec<Difference>,
    /// The directory with the differing files of the rerun, if any.
    pub kept: Option<PathBuf>,
}

/// A file that differs between the stored result and the rerun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path relative to the output directory of the stage.
    pub path: RelativePath,
    /// The stored digest; `None` if the stored result has no such file.
    pub before: Option<Digest>,
    /// The digest of the rerun; `None` if the rerun did not write the file.
    pub after: Option<Digest>,
}

impl Rebuilt {
    /// Whether the rerun is identical to the stored result.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Reruns a stage into a scratch store and compares the outputs. `None` if the user interrupted the run.
///
/// The rerun is a forced run that ignores cached parts and checkpoints. The lock file, `out/` and the stored results are not changed.
///
/// The caller must hold the run lock.
pub fn rebuild(
    mut planner: Planner<'_>,
    again: Again<'_>,
    workers: Workers<'_>,
    events: &mut dyn FnMut(RunEvent),
) -> Result<Option<Rebuilt>, StageError> {
    let Again { id, results, threads } = again;
    let started = Instant::now();
    let (store, stage) = (planner.store(), planner.graph().stage(id));
    let outputs = stage.outputs.clone();
    let check = planner.check(id, results)?;
    let Some((_, before)) = &check.result else {
        let error = StageError::input(format!("`{}` has no stored result to compare with", stage.name));
        return Err(error.hint(format!("`hamflow run {}` computes one", stage.name)));
    };
    if let Some(elsewhere) = planner.made_elsewhere(id, &check) {
        let error = StageError::input(format!("`{}` was {elsewhere}: the bytes would not be the same", stage.name));
        return Err(error.hint(format!("`hamflow run --force {}` recomputes it here", stage.name)));
    }
    let scratch = Scratch::new(store)?;
    let options = RunOptions {
        targets: vec![id],
        force: true,
        rebuild: true,
        threads,
        results: results.clone(),
        ..RunOptions::default()
    };
    let setting = Setting { graph: planner.graph(), store, target: &scratch.store, options: &options };
    let mut made = super::run_in(setting, planner, workers, events)?;
    if made.summary.interrupted {
        return Ok(None);
    }
    if let Some(error) = made.summary.failures.rebuild.take() {
        return Err(error);
    }
    let result = made.results.remove(&id).ok_or_else(|| StageError::bug("a stage that ran again has no result"))?;
    let after =
        scratch.store.files(&result).ok_or_else(|| StageError::bug("the result that was just stored is incomplete"))?;
    let is_measured = |path: &RelativePath| {
        let mut measured = outputs.iter().filter(|output| output.measured);
        measured.any(|output| path.as_str() == output.path || path.as_str().starts_with(&format!("{}/", output.path)))
    };
    let differences =
        differences(before, &after).into_iter().filter(|found| !is_measured(&found.path)).collect::<Vec<_>>();
    let kept = if differences.is_empty() { None } else { Some(scratch.keep(store, &stage.name, &differences)?) };
    let paths: BTreeSet<&RelativePath> = before.keys().chain(after.keys()).collect();
    let bytes = before.values().map(Digest::size).sum();
    Ok(Some(Rebuilt { files: paths.len(), bytes, wall_ms: milliseconds(started), differences, kept }))
}

fn differences(before: &Files, after: &Files) -> Vec<Difference> {
    let paths: BTreeSet<&RelativePath> = before.keys().chain(after.keys()).collect();
    let pairs = paths.into_iter().map(|path| (path.clone(), before.get(path).copied(), after.get(path).copied()));
    let other = pairs.filter(|(_, before, after)| before != after);
    other.map(|(path, before, after)| Difference { path, before, after }).collect()
}

/// The directory of the scratch store. Anything left there by a killed process can be deleted.
pub fn scratch_dir(store: &Store) -> PathBuf {
    store.root().join("rebuild")
}

/// A temporary store in the cache directory, deleted on drop.
struct Scratch {
    store: Store,
}

impl Scratch {
    fn new(beside: &Store) -> Result<Self, StageError> {
        let root = scratch_dir(beside);
        fs::remove(&root).map_err(|error| disk_error(&error))?;
        let store = Store::open(&root).map_err(|error| StageError::bug(error.to_string()))?;
        store.create().map_err(|error| match error {
            StoreError::Fs(error) => disk_error(&error),
            other => StageError::bug(other.to_string()),
        })?;
        Ok(Self { store })
    }

    /// Writes the differing files to `rebuilt/STAGE` for inspection.
    fn keep(&self, beside: &Store, stage: &str, differences: &[Difference]) -> Result<PathBuf, StageError> {
        let folder = beside.root().join("rebuilt").join(stage);
        fs::remove(&folder).map_err(|error| disk_error(&error))?;
        fs::create_dir(&folder).map_err(|error| disk_error(&error))?;
        for Difference { path, after, .. } in differences {
            if let Some(digest) = after {
                let to: &Path = &folder.join(path);
                self.store.content.copy(digest, to).map_err(|error| disk_error(&error))?;
            }
        }
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove(self.store.root());
    }
}
