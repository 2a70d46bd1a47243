//! Differences between a stage's output directory and its result.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::fs::{self, FsError, RelativePath};
use crate::store::{ActionResult, Files, IndexedFile, StatIndex, Store};

/// The differences between `out/<stage>` and the result: files to write and files to remove.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Files that are absent or have other content.
    pub write: Vec<RelativePath>,
    /// Files to remove: foreign files in artifact folders, unchanged files of an earlier result, and temporary files of killed runs.
    pub remove: Vec<RelativePath>,
    /// Files among both whose content is not in the store: the user wrote them.
    pub other: Vec<RelativePath>,
}

impl Differences {
    /// Whether there are no differences.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }
}

/// Maximum number of attempts: files can vanish between listing and reading while a run writes to the folder.
const MAX_HASH_ATTEMPTS: usize = 10;

fn look(folder: &Path, index: &mut StatIndex, threads: usize) -> Result<Arc<Vec<IndexedFile>>, FsError> {
    let mut looks = 1;
    loop {
        match index.usual_folder(folder, threads) {
            Err(error) if error.source.kind() == ErrorKind::NotFound && looks < MAX_HASH_ATTEMPTS => looks += 1,
            found => return found,
        }
    }
}

/// The desired content of a stage's output directory.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The directory.
    pub folder: &'a Path,
    /// The result.
    pub result: &'a ActionResult,
    /// Its files.
    pub files: &'a Files,
    /// The files of the previously restored result, if it was another one.
    pub before: &'a Files,
}

/// Compares a stage's output directory with its result. Files unchanged since `before`, an earlier result, was restored are removed if
/// the result has no file of that name. Other files beside the artifacts belong to the user.
pub fn compare(
    wanted: &Wanted<'_>,
    store: &Store,
    index: &mut StatIndex,
    threads: usize,
) -> Result<Differences, FsError> {
    let Wanted { folder, result, files: expected, before } = *wanted;
    if !folder.exists() {
        index.forget(folder);
        return Ok(Differences { write: expected.keys().cloned().collect(), ..Differences::default() });
    }
    let found = look(folder, index, threads)?;
    let mut differences = Differences::default();
    let mut seen = 0;
    for IndexedFile { path, digest, .. } in found.iter() {
        let is_stored = || digest.known().is_some_and(|digest| store.content.contains(&digest));
        match expected.get_key_value(path.as_str()) {
            Some((_, wanted)) if *digest == *wanted => seen += 1,
            Some((path, _)) => {
                seen += 1;
                differences.write.push(path.clone());
                // Files made by another run are in the store; other content is the user's.
                if !is_stored() {
                    differences.other.push(path.clone());
                }
            }
            None => {
                let inside = |output: &str| path.strip_prefix(output).is_some_and(|rest| rest.starts_with('/'));
                // A file beside the artifacts belongs to the user, unless it is a temporary file of a killed run.
                let litter = path.rsplit('/').next().is_some_and(fs::is_staged);
                let old = before.get(path.as_str()).is_some_and(|before| *digest == *before);
                let mut folders = result.outputs.artifacts().iter().filter(|output| output.folder);
                if litter || old || folders.any(|output| inside(&output.path)) {
                    // Listings contain only valid relative paths.
                    let Ok(path) = RelativePath::new(&path[..]) else { continue };
                    differences.remove.push(path.clone());
                    if !litter && !is_stored() {
                        differences.other.push(path);
                    }
                }
            }
        }
    }
    if seen < expected.len() {
        let there: std::collections::BTreeSet<&str> = found.iter().map(|known| &known.path[..]).collect();
        differences.write.extend(expected.keys().filter(|path| !there.contains(path.as_str())).cloned());
    }
    Ok(differences)
}
