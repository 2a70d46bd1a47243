//! Results by key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hamflow_stage_api::ArtifactType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::remote::Trust;
use crate::digest::Digest;
use crate::fs::{self, Durability, FsError};

/// The digest of a fingerprint: names an execution by everything that decides its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey(Digest);

impl ActionKey {
    /// The key of a fingerprint, given as its canonical text.
    pub fn of(canonical: &str) -> Self {
        Self(Digest::of(canonical.as_bytes()))
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// An artifact that an execution made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultOutput {
    /// The artifact's name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,
    /// Below the stage's output directory.
    pub path: String,
    /// The file's digest, or the tree's.
    pub digest: Digest,
    /// Whether `digest` names a tree.
    pub folder: bool,
}

/// What one execution produced, with everything that decided it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// The key, in hexadecimal digits.
    pub key: String,
    /// The fingerprint whose digest the key is.
    pub fingerprint: Value,
    /// What was made, in the kind's order.
    pub outputs: Vec<ResultOutput>,
    /// The keys of the parts that it was made from, so that they are kept as long as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// What is not as it should be, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flaws: Vec<String>,
    /// How long it took, so that the dearest results can be kept longest.
    pub cost_ms: u64,
    /// Whose word is behind it or behind parts of it, where that was not made on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
}

/// Whose word is behind a result that a remote gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The scope where it was found.
    pub scope: String,
    /// The public key that had signed it.
    pub signer: String,
}

/// Whose results are believed: kept with each of them, and asked again whenever it is looked up, so that a key that is no longer listed
/// takes all that it signed with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Believed {
    /// The scopes that are read.
    pub scopes: Vec<String>,
    /// The keys that may write to them.
    pub trust: Trust,
}

impl Believed {
    fn accepts(&self, origin: &Origin) -> bool {
        self.scopes.contains(&origin.scope) && self.trust.of(&origin.scope).any(|key| key.to_string() == origin.signer)
    }
}

/// The results below `cache/ac`.
#[derive(Debug, Clone)]
pub struct ActionCache {
    folder: PathBuf,
    believed: Arc<Believed>,
}

impl ActionCache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, believed: Arc::default() }
    }

    /// From now on, believes results of others as far as this says.
    pub fn believe(&mut self, believed: Believed) {
        self.believed = Arc::new(believed);
    }

    /// The folder of all results.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Where the result of a key is, if it is there.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(&key[..2]).join(key)
    }

    /// The keys of all results, in hexadecimal digits.
    pub fn keys(&self) -> Result<Vec<String>, FsError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let files = fs::list(&self.folder, 1)?.into_iter();
        Ok(files
            .filter_map(|file| file.path.rsplit('/').next().filter(|name| is_key(name)).map(str::to_owned))
            .collect())
    }

    /// The result of `key`; none where it is absent or damaged (then it is deleted, and counts as a miss).
    pub fn get(&self, key: &ActionKey) -> Option<ActionResult> {
        self.get_hex(&key.hex())
    }

    /// The same by the key's hexadecimal digits, as locks and records keep it.
    pub fn get_hex(&self, key: &str) -> Option<ActionResult> {
        if !is_key(key) {
            return None;
        }
        let path = self.path(key);
        let text = std::fs::read(&path).ok()?;
        let result = decode(&text).filter(|result| result.key == key);
        if result.is_none() {
            let _ = std::fs::remove_file(&path);
        }
        result.filter(|result| result.origins.iter().all(|origin| self.believed.accepts(origin)))
    }

    /// Stores a result. Every blob that it names must be in the store already.
    pub fn put(&self, result: &ActionResult) -> Result<(), FsError> {
        // The result goes last. Killed before this rename, a later run finds blobs without a result: a miss, and `gc`
        // collects them. The other order would be a hit on nothing.
        fs::write(&self.path(&result.key), encode(result).as_bytes(), Durability::Synced)
    }

    /// Stores several, with few syncs for all of them. Every blob that they name must be in the store already.
    pub fn put_all<'a>(&self, results: impl Iterator<Item = &'a ActionResult>) -> Result<(), FsError> {
        let texts: Vec<(PathBuf, String)> = results.map(|result| (self.path(&result.key), encode(result))).collect();
        fs::write_all(&texts)
    }
}

/// The text of a result, with its own digest in front.
pub(super) fn encode(result: &ActionResult) -> String {
    let body = serde_json::to_string(result).expect("a result has only string keys");
    format!("{}\n{body}\n", Digest::of(body.as_bytes()))
}

/// The result of a text, where it is whole and no output would leave its folder.
pub(super) fn decode(text: &[u8]) -> Option<ActionResult> {
    let text = std::str::from_utf8(text).ok()?;
    let (digest, body) = text.split_once('\n')?;
    let body = body.strip_suffix('\n')?;
    if Digest::of(body.as_bytes()).to_string() != digest {
        return None;
    }
    serde_json::from_str(body).ok().filter(stays_inside)
}

/// Whether a text can be a key.
pub(super) fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether all outputs lie below the folder of their stage.
pub(super) fn stays_inside(result: &ActionResult) -> bool {
    let inside = |path: &str| path.is_empty() || path.split('/').all(|step| !matches!(step, "" | "." | ".."));
    result.outputs.iter().all(|output| inside(&output.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(key: &ActionKey) -> ActionResult {
        let output = ResultOutput {
            name: "table".into(),
            artifact_type: ArtifactType::Table,
            path: "table.parquet".into(),
            digest: Digest::of(b"x"),
            folder: false,
        };
        ActionResult {
            key: key.hex(),
            fingerprint: Value::Null,
            outputs: vec![output],
            parts: Vec::new(),
            flaws: Vec::new(),
            cost_ms: 5,
            origins: Vec::new(),
        }
    }

    #[test]
    fn a_result_is_read_back_and_a_damaged_one_is_a_miss() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ActionCache::new(folder.path().to_owned());
        let key = ActionKey::of("{}");
        assert_eq!(cache.get(&key), None);
        cache.put(&result(&key)).unwrap();
        assert_eq!(cache.get(&key), Some(result(&key)));
        let path = cache.path(&key.hex());
        let damaged = std::fs::read_to_string(&path).unwrap().replace("table.parquet", "table.parquit");
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(cache.get(&key), None);
        assert!(!path.exists());
    }

    #[test]
    fn a_result_under_another_key_is_a_miss() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ActionCache::new(folder.path().to_owned());
        let (one, two) = (ActionKey::of("1"), ActionKey::of("2"));
        cache.put(&result(&one)).unwrap();
        std::fs::create_dir_all(cache.path(&two.hex()).parent().unwrap()).unwrap();
        std::fs::copy(cache.path(&one.hex()), cache.path(&two.hex())).unwrap();
        assert_eq!(cache.get(&two), None);
    }
}
