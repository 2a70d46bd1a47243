//! Records which result of each stage was last restored to `out/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, Durability, RelativePath, Symlinks};
use crate::store::ActionKey;

/// The last restored result of a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutEntry {
    /// The locks that name the result. They distinguish the pipelines of a project, their profiles and overrides.
    pub locks: BTreeSet<String>,
    /// The result's key.
    pub key: String,
}

/// The last restored result of each stage, across pipelines, profiles and overrides. If the record is lost, leftover files of earlier
/// results count as files of the user.
#[derive(Debug)]
pub struct OutRecord {
    path: PathBuf,
    stages: BTreeMap<String, OutEntry>,
    changed: bool,
}

impl OutRecord {
    /// Loads the record of the store at `root`.
    pub fn load(root: &Path) -> Self {
        let path = root.join("laid");
        let text = fs::read_regular(&path, Symlinks::Refuse).unwrap_or_default();
        Self::parse(path, &text)
    }

    /// Parses the content of the file at `path`; damaged content yields an empty record.
    pub fn parse(path: PathBuf, text: &[u8]) -> Self {
        let mut stages: BTreeMap<String, OutEntry> = serde_json::from_slice(text).unwrap_or_default();
        // Files are removed from the folders named here, so a name must not lead out of `out/`.
        stages.retain(|stage, laid| is_step(stage) && laid.key.parse::<ActionKey>().is_ok());
        Self { path, stages, changed: false }
    }

    /// Returns the entry of a stage.
    pub fn get(&self, stage: &str) -> Option<&OutEntry> {
        self.stages.get(stage)
    }

    /// Records the restored result of a stage and a lock that names it.
    pub fn set(&mut self, stage: &str, lock: &str, key: &str) {
        let laid = self.stages.entry(stage.to_owned()).or_default();
        if laid.key != key {
            *laid = OutEntry { locks: BTreeSet::new(), key: key.to_owned() };
            self.changed = true;
        }
        self.changed |= laid.locks.insert(lock.to_owned());
    }

    /// Removes the stages that `lock` named and that its pipeline no longer has, unless the lock of another pipeline names them too.
    /// Returns them with their keys.
    pub fn take_dropped(&mut self, lock: &str, is_there: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut dropped = Vec::new();
        for (stage, laid) in self.stages.iter_mut().filter(|(stage, _)| !is_there(stage)) {
            if laid.locks.remove(lock) {
                self.changed = true;
                laid.locks.retain(|other| pipeline_of(other) != pipeline_of(lock));
                if laid.locks.is_empty() {
                    dropped.push((stage.clone(), laid.key.clone()));
                }
            }
        }
        self.stages.retain(|_, laid| !laid.locks.is_empty());
        dropped
    }

    /// Writes the record if it has changed. A failed write only leaves files behind in `out/`.
    pub fn save(&mut self) {
        if std::mem::take(&mut self.changed) {
            let text = serde_json::to_vec(&self.stages).expect("it has only string keys");
            let _ = fs::write(&self.path, &text, Durability::Relaxed);
        }
    }
}

/// Whether a name is a single path component.
fn is_step(name: &str) -> bool {
    !name.contains('/') && RelativePath::new(name).is_ok()
}

/// Returns the name, without extension, of the pipeline file that a lock belongs to: the lock's own name beside the pipeline, the part
/// before the `@` in the cache (`locks/other@demo.lock`).
fn pipeline_of(lock: &str) -> &str {
    match lock.strip_prefix("locks/") {
        Some(name) => name.split_once('@').map_or("pipeline", |(file, _)| file),
        None => lock.trim_end_matches(".lock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: &str) -> String {
        ActionKey::of(of).hex()
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let stages: BTreeMap<&str, OutEntry> = ["../data", "/etc", "a/b", "..", "", "good", "train[lr=0.1]"]
            .map(|stage| (stage, OutEntry { locks: ["pipeline.lock".to_owned()].into(), key: key(stage) }))
            .into();
        std::fs::write(folder.path().join("laid"), serde_json::to_vec(&stages).unwrap()).unwrap();
        let dropped = OutRecord::load(folder.path()).take_dropped("pipeline.lock", |_| false);
        assert_eq!(dropped.iter().map(|(stage, _)| &stage[..]).collect::<Vec<_>>(), ["good", "train[lr=0.1]"]);
    }

    #[test]
    fn what_a_pipeline_no_longer_has_is_dropped_unless_another_pipeline_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut laid = OutRecord::load(folder.path());
        for (stage, lock) in [
            ("a", "pipeline.lock"),
            ("b", "pipeline.lock"),
            ("b", "locks/+set-12.lock"),
            ("c", "pipeline.lock"),
            ("c", "locks/other@demo.lock"),
            ("d", "locks/demo.lock"),
        ] {
            laid.set(stage, lock, &key(stage));
        }
        laid.save();
        let mut laid = OutRecord::load(folder.path());
        let dropped = laid.take_dropped("pipeline.lock", |stage| stage == "a");
        assert_eq!(dropped, [("b".to_owned(), key("b"))], "c is another pipeline's too, d only a profile's");
        assert!(
            laid.get("a").is_some() && laid.get("b").is_none() && laid.get("c").is_some() && laid.get("d").is_some()
        );
        laid.set("c", "pipeline.lock", &key("another"));
        assert_eq!(laid.take_dropped("other.lock", |_| false), [], "it names what lies there no longer");
        assert_eq!(laid.take_dropped("locks/demo.lock", |stage| stage != "d").len(), 1);
    }
}
