//! What differs between a stage's output directory and its result.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::fs::{self, FsError, RelativePath};
use crate::store::{ActionResult, Files, IndexedFile, StatIndex, Store};

/// What differs between `out/<stage>` and the result: files to be written and files to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Absent, or with other bytes.
    pub write: Vec<RelativePath>,
    /// In a folder that is an artifact, without being part of it.
    pub remove: Vec<RelativePath>,
    /// Of both, those with bytes that are not in the store: somebody wrote them.
    pub other: Vec<RelativePath>,
}

impl Differences {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }
}

/// A run that writes here while another command looks lets files vanish between their listing and their reading; so often.
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

/// What a stage's output directory is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The directory.
    pub folder: &'a Path,
    /// The result.
    pub result: &'a ActionResult,
    /// Its files.
    pub files: &'a Files,
    /// Those of the result that was restored there before, if it was another one.
    pub before: &'a Files,
}

/// Compares a stage's output directory with its result. Files that are as `before`, an earlier result that was laid out there, are
/// removed where the result has none of their name; what else lies beside the artifacts is somebody's own.
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
                // What another run made is in the store; what is not there, somebody wrote.
                if !is_stored() {
                    differences.other.push(path.clone());
                }
            }
            None => {
                let inside = |output: &str| path.strip_prefix(output).is_some_and(|rest| rest.starts_with('/'));
                // Beside the artifacts a file is somebody's own, unless a killed run had begun to write it.
                let litter = path.rsplit('/').next().is_some_and(fs::is_staged);
                let old = before.get(path.as_str()).is_some_and(|before| *digest == *before);
                let mut folders = result.outputs.artifacts().iter().filter(|output| output.folder);
                if litter || old || folders.any(|output| inside(&output.path)) {
                    // A listing holds nothing else.
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
