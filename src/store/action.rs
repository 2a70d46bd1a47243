//! The action cache: results by key.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use hamflow_stage_api::{ArtifactType, Output, envelope};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::remote::Trust;
use crate::digest::Digest;
use crate::fs::{self, Durability, FsError, RelativePath, Symlinks};

/// The digest of a fingerprint, which identifies an execution by everything that determines its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey([u8; 32]);

impl ActionKey {
    /// The key of a fingerprint in its canonical form.
    pub fn of(canonical: &str) -> Self {
        Self(*blake3::hash(canonical.as_bytes()).as_bytes())
    }

    /// The key as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// A string that is not 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has 64 lowercase hexadecimal digits")]
pub struct ParseKeyError;

impl FromStr for ActionKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| ParseKeyError)?;
        // Keys are file names, so each has exactly one spelling.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) { Err(ParseKeyError) } else { Ok(Self(*hash.as_bytes())) }
    }
}

impl Serialize for ActionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ActionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An output of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultOutput {
    /// The name of the artifact.
    pub name: String,
    /// The name of its type.
    pub type_name: String,
    /// Whether it is a directory, so that `digest` refers to a tree.
    pub folder: bool,
    /// The path within the stage's output directory.
    pub path: RelativePath,
    /// The digest of the file or tree.
    pub digest: Digest,
}

/// The outputs of an execution.
///
/// Since a result may come from a bundle or a remote, deserialization checks that names are plain, paths stay inside the stage's
/// directory, and no two outputs have the same path. Whether the stage declares these outputs, with these types, is
/// checked when the result is looked up ([`Outputs::match_declared`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<SerializedOutput>", into = "Vec<SerializedOutput>")]
pub enum Outputs {
    /// All files of a part as one tree. The artifacts of the stage are assembled from these.
    Part(Digest),
    /// The artifacts of a stage, in the order in which its kind declares them.
    Stage(Vec<ResultOutput>),
}

/// The serialized form of an output.
#[derive(Clone, Serialize, Deserialize)]
struct SerializedOutput {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    path: String,
    digest: Digest,
    folder: bool,
}

/// The name of the tree of a part in its serialized form.
const PART: &str = "part";

impl From<Outputs> for Vec<SerializedOutput> {
    fn from(outputs: Outputs) -> Self {
        let written = |output: ResultOutput| {
            let ResultOutput { name, type_name, folder, path, digest } = output;
            SerializedOutput { name, type_name, path: path.as_str().to_owned(), digest, folder }
        };
        match outputs {
            Outputs::Stage(outputs) => outputs.into_iter().map(written).collect(),
            Outputs::Part(digest) => vec![SerializedOutput {
                name: PART.to_owned(),
                type_name: ArtifactType::FOLDER.name().to_owned(),
                path: String::new(),
                digest,
                folder: true,
            }],
        }
    }
}

impl TryFrom<Vec<SerializedOutput>> for Outputs {
    type Error = String;

    fn try_from(written: Vec<SerializedOutput>) -> Result<Self, String> {
        if let [SerializedOutput { name, type_name, path, digest, folder: true }] = &written[..]
            && type_name == ArtifactType::FOLDER.name()
            && path.is_empty()
            && name == PART
        {
            return Ok(Self::Part(*digest));
        }
        let mut outputs = Vec::with_capacity(written.len());
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for SerializedOutput { name, type_name, path, digest, folder } in written {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if name.is_empty() || !name.bytes().all(plain) || !names.insert(name.clone()) {
                return Err(format!("invalid output name {name:?}"));
            }
            if type_name.is_empty() || !type_name.bytes().all(plain) {
                return Err(format!("invalid type of output {name:?}"));
            }
            let path = RelativePath::new(path).map_err(|error| format!("output {name:?}: {error}"))?;
            if !paths.insert(path.clone()) {
                return Err(format!("two outputs have the path {path:?}"));
            }
            outputs.push(ResultOutput { name, type_name, folder, path, digest });
        }
        Ok(Self::Stage(outputs))
    }
}

impl Outputs {
    /// The artifacts of a stage; empty for a part.
    pub fn artifacts(&self) -> &[ResultOutput] {
        match self {
            Self::Part(_) => &[],
            Self::Stage(outputs) => outputs,
        }
    }

    /// The blobs of the outputs, each with whether it is a tree.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, bool)> {
        let part = if let Self::Part(digest) = self { Some((*digest, true)) } else { None };
        part.into_iter().chain(self.artifacts().iter().map(|output| (output.digest, output.folder)))
    }

    /// Whether the outputs have the names, types and paths that a stage declares.
    pub fn match_declared(&self, declared: &[Output]) -> bool {
        let Self::Stage(outputs) = self else { return false };
        outputs.len() == declared.len()
            && outputs.iter().zip(declared).all(|(made, declared)| {
                let Output { name, artifact_type, path, from_parts: _, measured: _, headline: _ } = declared;
                (&made.name[..], &made.type_name[..], made.folder, made.path.as_str())
                    == (name, artifact_type.name(), artifact_type.is_folder(), path)
            })
    }
}

/// The result of one execution, with everything that determined it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionResult {
    /// The key: the digest of the fingerprint.
    pub key: ActionKey,
    /// Everything that determines the outputs.
    pub fingerprint: Value,
    /// The outputs.
    pub outputs: Outputs,
    /// The keys of the parts that the outputs were assembled from. Parts are kept as long as the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ActionKey>,
    /// Quality problems of the outputs, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flaws: Vec<String>,
    /// How long the execution took, in milliseconds.
    pub cost_ms: u64,
    /// Where the result or parts of it came from, unless made on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
}

/// Where a result from a remote came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The scope where the result was found.
    pub scope: String,
    /// The public key that signed the result.
    pub signer: String,
}

/// Which results from remotes are trusted. Checked on every lookup, so that removing a key invalidates everything that it signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustPolicy {
    /// The scopes that are read.
    pub scopes: Vec<String>,
    /// The keys that may write to each scope.
    pub trust: Trust,
}

impl TrustPolicy {
    fn trusts(&self, origin: &Origin) -> bool {
        self.scopes.contains(&origin.scope)
            && self.trust.keys_for(&origin.scope).any(|key| key.to_string() == origin.signer)
    }
}

/// The results below `cache/ac`.
#[derive(Debug, Clone)]
pub struct ActionCache {
    folder: PathBuf,
    trust_policy: Arc<TrustPolicy>,
}

impl ActionCache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, trust_policy: Arc::default() }
    }

    /// Sets which results from remotes are used. Without a policy, only local results are.
    pub fn set_trust_policy(&mut self, trust_policy: TrustPolicy) {
        self.trust_policy = Arc::new(trust_policy);
    }

    /// The directory of all results.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// The path where the result of a key is stored.
    pub fn path(&self, key: &ActionKey) -> PathBuf {
        let hex = key.hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The keys of all results.
    pub fn keys(&self) -> Result<Vec<ActionKey>, FsError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let files = fs::list_usual(&self.folder, 1)?.into_iter();
        Ok(files.filter_map(|file| file.path.rsplit('/').next()?.parse().ok()).collect())
    }

    /// Looks up a result. Returns `None` if it is missing, damaged or not trusted. Damaged results are deleted.
    pub fn get(&self, key: &ActionKey) -> Option<ActionResult> {
        let path = self.path(key);
        let bytes = match fs::read_regular(&path, Symlinks::Refuse) {
            Ok(bytes) => bytes,
            Err(error) => {
                // A symlink or FIFO is never a result, but a file that is temporarily unreadable may be one.
                if error.kind() == std::io::ErrorKind::InvalidData {
                    let _ = std::fs::remove_file(&path);
                }
                return None;
            }
        };
        let result = decode(&bytes).filter(|result| result.key == *key);
        if result.is_none() {
            let _ = std::fs::remove_file(&path);
        }
        result.filter(|result| result.origins.iter().all(|origin| self.trust_policy.trusts(origin)))
    }

    /// Like [`get`](Self::get), with the key in hexadecimal digits. Returns `None` if that is not a valid key.
    pub fn get_hex(&self, key: &str) -> Option<ActionResult> {
        self.get(&key.parse().ok()?)
    }

    /// Stores a result. All blobs that it refers to must already be in the store.
    pub fn put(&self, result: &ActionResult) -> Result<(), FsError> {
        // The result is written last. If the process is killed before this rename, the store has blobs without a result, which is a cache
        // miss, and `gc` deletes them. In the other order it would be a hit without data.
        fs::write(&self.path(&result.key), encode(result).as_bytes(), Durability::Synced)
    }

    /// Stores several results with few syncs. All blobs that they refer to must already be in the store.
    pub fn put_all<'a>(&self, results: impl Iterator<Item = &'a ActionResult>) -> Result<(), FsError> {
        let texts: Vec<(PathBuf, String)> = results.map(|result| (self.path(&result.key), encode(result))).collect();
        fs::write_all(&texts)
    }
}

/// Serializes a result, preceded by a line with its digest.
pub(super) fn encode(result: &ActionResult) -> String {
    let body = serde_json::to_string(result).expect("a result has only string keys");
    envelope::seal_text(&body) + "\n"
}

/// Parses a serialized result; `None` if it is damaged or invalid.
pub(super) fn decode(text: &[u8]) -> Option<ActionResult> {
    let text = std::str::from_utf8(text).ok()?;
    serde_json::from_str(envelope::open_text(text.strip_suffix('\n')?)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn result(key: &ActionKey) -> ActionResult {
        let output = ResultOutput {
            name: "table".into(),
            type_name: "table".into(),
            folder: false,
            path: RelativePath::new("table.parquet").unwrap(),
            digest: Digest::of(b"x"),
        };
        ActionResult {
            key: *key,
            fingerprint: Value::Null,
            outputs: Outputs::Stage(vec![output]),
            parts: Vec::new(),
            flaws: Vec::new(),
            cost_ms: 5,
            origins: Vec::new(),
        }
    }

    fn output(name: &str, artifact_type: &str, path: &str, folder: bool) -> Value {
        json!({"name": name, "type": artifact_type, "path": path, "digest": Digest::of(b"x"), "folder": folder})
    }

    #[test]
    fn a_stored_result_is_read_back_and_a_damaged_one_is_a_miss() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ActionCache::new(folder.path().to_owned());
        let key = ActionKey::of("{}");
        assert_eq!(cache.get(&key), None);
        cache.put(&result(&key)).unwrap();
        assert_eq!(cache.get(&key), Some(result(&key)));
        let path = cache.path(&key);
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
        std::fs::create_dir_all(cache.path(&two).parent().unwrap()).unwrap();
        std::fs::copy(cache.path(&one), cache.path(&two)).unwrap();
        assert_eq!(cache.get(&two), None);
    }

    #[test]
    fn a_symlink_or_fifo_is_a_miss_and_neither_followed_nor_opened() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cache = ActionCache::new(folder.path().to_owned());
        let key = ActionKey::of("{}");
        let other = elsewhere.path().join("result");
        std::fs::write(&other, encode(&result(&key))).unwrap();
        std::fs::create_dir_all(cache.path(&key).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&other, cache.path(&key)).unwrap();
        assert_eq!(cache.get(&key), None);
        assert!(other.exists(), "only the link is removed");
        crate::sys::make_fifo(&cache.path(&key));
        assert_eq!(cache.get(&key), None);
        assert!(!cache.path(&key).exists());
    }

    #[test]
    fn the_serialized_form_of_outputs_is_stable() {
        let key = ActionKey::of("{}");
        let whole = serde_json::to_value(result(&key)).unwrap();
        assert_eq!(whole["outputs"], json!([output("table", "table", "table.parquet", false)]));
        assert_eq!(whole["key"], key.hex());
        let part = Outputs::Part(Digest::of(b"x"));
        assert_eq!(serde_json::to_value(&part).unwrap(), json!([output("part", "folder", "", true)]));
        assert_eq!(serde_json::from_value::<Outputs>(json!([output("part", "folder", "", true)])).unwrap(), part);
    }

    #[test]
    fn outputs_outside_of_the_stage_directory_are_rejected() {
        for (outputs, problem) in [
            (json!([output("evil", "folder", "", true)]), "it is empty"),
            (json!([output("part", "folder", "", true), output("o", "file", "o", false)]), "it is empty"),
            (json!([output("o", "file", "", false)]), "it is empty"),
            (json!([output("o", "file", "../o", false)]), "`..`"),
            (json!([output("o", "file", "/o", false)]), "absolute"),
            (json!([output("o", "\u{1b}[2J", "a", false)]), "invalid type"),
            (json!([output("o", "file", "a", false), output("o", "file", "b", false)]), "invalid output name"),
            (json!([output("o", "file", "a", false), output("p", "file", "a", false)]), "two outputs"),
            (json!([output("\u{1b}[2J", "file", "a", false)]), "invalid output name"),
            (json!([output("o/p", "file", "a", false)]), "invalid output name"),
        ] {
            let error = serde_json::from_value::<Outputs>(outputs.clone()).unwrap_err().to_string();
            assert!(error.contains(problem), "{outputs}: {error}");
        }
    }

    #[test]
    fn outputs_match_only_the_declared_ones() {
        let made = result(&ActionKey::of("{}")).outputs;
        let declared = |name: &str, artifact_type, path: &str| vec![Output::new(name, artifact_type, path)];
        assert!(made.match_declared(&declared("table", ArtifactType::TABLE, "table.parquet")));
        for other in [
            declared("tables", ArtifactType::TABLE, "table.parquet"),
            declared("table", ArtifactType::FILE, "table.parquet"),
            declared("table", ArtifactType::folder("table"), "table.parquet"),
            declared("table", ArtifactType::TABLE, "other.parquet"),
            Vec::new(),
        ] {
            assert!(!made.match_declared(&other), "{other:?}");
        }
        assert!(!Outputs::Part(Digest::of(b"x")).match_declared(&[]));
    }

    #[test]
    fn keys_are_lowercase_hexadecimal() {
        let key = ActionKey::of("{}");
        assert_eq!(key.hex().parse(), Ok(key));
        // 64 bytes with a character boundary in the wrong place: slicing must not panic.
        for text in ["", &key.hex()[1..], &key.hex().to_uppercase(), &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(text.parse::<ActionKey>(), Err(ParseKeyError), "{text}");
        }
    }

    proptest! {
        /// A damaged or forged result is either rejected, or its outputs stay inside their directory.
        #[test]
        fn decoded_outputs_stay_inside_their_directory(
            name in "[a-z.\u{1b}/]{0,4}|part", path in "[a./]{0,6}", folder: bool, file_type in "file|folder|table|x",
        ) {
            let body = json!({"key": ActionKey::of("{}"), "fingerprint": null, "cost_ms": 1,
                "outputs": [output(&name, &file_type, &path, folder)]});
            let text = format!("{}\n{body}\n", Digest::of(body.to_string().as_bytes()));
            if let Some(result) = decode(text.as_bytes()) {
                for output in result.outputs.artifacts() {
                    prop_assert!(RelativePath::new(output.path.as_str()).is_ok());
                    prop_assert_eq!(output.folder, folder);
                }
                let is_part = (name.as_str(), path.as_str()) == ("part", "") && folder;
                prop_assert_eq!(result.outputs.artifacts().is_empty(), is_part);
            }
        }
    }
}
