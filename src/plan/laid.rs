//! What lies in `out/`: which result of each stage was laid out there last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, Durability};

/// What was laid out of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaidOut {
    /// The lock that names the result, which tells pipelines of one folder, their profiles and overrides apart.
    pub lock: String,
    /// The result's key.
    pub key: String,
}

/// By stage: what was laid out last, whatever pipeline, profile or override it was for. It may be lost: then what lies there beside a
/// result is taken for somebody's.
#[derive(Debug)]
pub struct Laid {
    path: PathBuf,
    stages: BTreeMap<String, LaidOut>,
    changed: bool,
}

impl Laid {
    /// Reads what the store at `root` knows.
    pub fn load(root: &Path) -> Self {
        let path = root.join("laid");
        let text = std::fs::read(&path).unwrap_or_default();
        Self { path, stages: serde_json::from_slice(&text).unwrap_or_default(), changed: false }
    }

    /// What was laid out of a stage.
    pub fn get(&self, stage: &str) -> Option<&LaidOut> {
        self.stages.get(stage)
    }

    /// Notes what was laid out of a stage.
    pub fn set(&mut self, stage: &str, laid: LaidOut) {
        if self.stages.get(stage) != Some(&laid) {
            self.stages.insert(stage.to_owned(), laid);
            self.changed = true;
        }
    }

    /// Forgets a stage.
    pub fn remove(&mut self, stage: &str) {
        self.changed |= self.stages.remove(stage).is_some();
    }

    /// The stages that were laid out for `lock`, with their keys.
    pub fn of_lock(&self, lock: &str) -> Vec<(String, String)> {
        let of = self.stages.iter().filter(|(_, laid)| laid.lock == lock);
        of.map(|(stage, laid)| (stage.clone(), laid.key.clone())).collect()
    }

    /// Writes it if something changed. What cannot be written costs a file that stays in `out/`, and nothing else.
    pub fn save(&mut self) {
        if std::mem::take(&mut self.changed) {
            let text = serde_json::to_vec(&self.stages).expect("it has only string keys");
            let _ = fs::write(&self.path, &text, Durability::Relaxed);
        }
    }
}
