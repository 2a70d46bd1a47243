//! Runs a stage again in a scratch store, and compares what it makes with what the store has.

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

/// Which stage is to run again.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// The stage.
    pub id: StageId,
    /// The results of all stages before it.
    pub results: &'a Results,
    /// How many threads all jobs together may use.
    pub threads: usize,
}

/// How a stage that ran again compares with its stored result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The number of files that were compared.
    pub files: usize,
    /// The bytes of the stored ones.
    pub bytes: u64,
    /// Milliseconds that it took now.
    pub wall_ms: u64,
    /// What differs, by path.
    pub differences: Vec<Difference>,
    /// Where the differing files of this time lie, if there are any.
    pub kept: Option<PathBuf>,
}

/// A file that did not come out the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Below the stage's output directory.
    pub path: RelativePath,
    /// The stored one; none where it is new.
    pub before: Option<Digest>,
    /// The one of this time; none where it was not made.
    pub after: Option<Digest>,
}

impl Rebuilt {
    /// Whether every byte came out as it is stored.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Runs a stage in a scratch store and compares; none where the user ended it. It is an ordinary run that is forced, neither looks up stored
/// parts nor continues from a checkpoint, and leaves the lock, `out/` and the store as they are.
///
/// The caller holds the run lock.
pub fn rebuild(
    mut planner: Planner<'_>,
    again: Again<'_>,
    workers: Workers<'_>,
    events: &mut dyn FnMut(RunEvent),
) -> Result<Option<Rebuilt>, StageError> {
    let Again { id, results, threads } = again;
    let started = Instant::now();
    let (store, stage) = (planner.store(), planner.graph().stage(id));
    let check = planner.check(id, results)?;
    let Some((_, before)) = &check.result else {
        let error = StageError::input(format!("`{}` has no stored result to compare with", stage.name));
        return Err(error.hint(format!("`hamflow run {}` makes one", stage.name)));
    };
    if let Some(elsewhere) = planner.made_elsewhere(id, &check) {
        let error = StageError::input(format!("`{}` was {elsewhere}: the bytes would not be the same", stage.name));
        return Err(error.hint(format!("`hamflow run --force {}` makes it here", stage.name)));
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
    let after = scratch.store.files(&result).ok_or_else(|| StageError::bug("what was just stored is not whole"))?;
    let differences = differences(before, &after);
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

/// Where a stage runs again; what a killed process left there is litter.
pub fn scratch_dir(store: &Store) -> PathBuf {
    store.root().join("rebuild")
}

/// A store beside the store, which is gone afterwards.
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

    /// Writes out the files that differ, for whoever wants to know how.
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
