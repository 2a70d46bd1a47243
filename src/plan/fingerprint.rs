//! Fingerprints, which hold everything that determines a stage's outputs in readable form, and the keys derived from them.

use std::collections::BTreeMap;

use hamflow_stage_api::{Params, ReadKind, Versions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::store::ActionKey;

/// An input, as part of a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintInput {
    /// The port.
    pub port: String,
    /// The axis values, for gathered stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// The digest of the content, or of the names alone.
    pub digest: Digest,
    /// Whether `digest` names a listing, so that a change can be explained by file.
    #[serde(default)]
    pub listing: bool,
}

/// A view, as part of a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintView {
    /// A human-readable name.
    pub name: String,
    /// The digest of the view's text.
    pub digest: Digest,
}

/// The uses of files by path: what the program depends on, and its state: a digest, `absent`, `file`, `folder` or `other`.
pub type Reads = BTreeMap<String, (ReadKind, String)>;

/// Everything that determines the outputs of a stage.
///
/// It never contains the stage's name, paths, times, the host, the number of threads or the executor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The kind's name.
    pub kind: String,
    /// The kind's revision.
    pub revision: u32,
    /// The resolved parameters, defaults included.
    pub params: Params,
    /// The inputs, sorted by port, then in the order of connection.
    pub inputs: Vec<FingerprintInput>,
    /// The views of inputs that are not read whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<FingerprintView>,
    /// The declared environment; `None` for a variable that is not set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    /// The versions of the software that the stage depends on.
    #[serde(default, skip_serializing_if = "Versions::is_empty")]
    pub tools: Versions,
    /// The seed, for kinds that declare randomness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The device class, if numbers depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The files that the program used without a declaration, by path; `None` if that was not observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Reads>,
}

impl Fingerprint {
    /// Returns the fingerprint as JSON.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).expect("a fingerprint has only string keys")
    }

    /// Computes the key: the digest of the canonical text.
    pub fn key(&self) -> ActionKey {
        ActionKey::of(&canonical(&self.value()))
    }

    /// Computes the key of checkpoints, which omits the parameters that only extend a job.
    pub fn checkpoint_key(&self, extendable: &[&str]) -> ActionKey {
        let mut shorter = self.clone();
        shorter.params.retain(|name, _| !extendable.contains(&name.as_str()));
        shorter.key()
    }
}

/// Everything that determines the outputs of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartFingerprint {
    /// The kind's name.
    pub kind: String,
    /// The kind's revision.
    pub revision: u32,
    /// The resolved parameters.
    pub params: Params,
    /// The kind's description of the part.
    pub part: Value,
    /// The digests of the files that the part reads, by port and in its order.
    pub files: BTreeMap<String, Vec<Digest>>,
    /// The seed, for kinds that declare randomness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The device class, if numbers depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl PartFingerprint {
    /// Returns the fingerprint as JSON.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).expect("a fingerprint has only string keys")
    }

    /// Computes the key: the digest of the canonical text.
    pub fn key(&self) -> ActionKey {
        ActionKey::of(&canonical(&self.value()))
    }
}

/// Returns JSON with sorted keys and no spaces: equal values have equal texts, whatever the order of their maps.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_unstable();
            text.push('{');
            for (i, name) in names.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_scalar(&Value::String(name.clone()), text);
                text.push(':');
                write_canonical(&map[name], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => write_scalar(scalar, text),
    }
}

fn write_scalar(value: &Value, text: &mut String) {
    text.push_str(&value.to_string());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fingerprint() -> Fingerprint {
        let params = json!({"b": 1, "a": {"y": [1.5, null], "x": "é\n"}}).as_object().unwrap().clone();
        Fingerprint {
            kind: "train".into(),
            revision: 1,
            params,
            inputs: vec![FingerprintInput {
                port: "shards".into(),
                labels: vec![],
                digest: Digest::of(b"x"),
                listing: false,
            }],
            views: vec![],
            env: BTreeMap::new(),
            tools: Versions::new(),
            seed: Some(1),
            device: None,
            reads: None,
        }
    }

    #[test]
    fn the_canonical_text_has_sorted_names_and_no_spaces() {
        let value = json!({"b": 1, "a": {"y": [1.5, null], "x": "é\n"}});
        assert_eq!(canonical(&value), r#"{"a":{"x":"é\n","y":[1.5,null]},"b":1}"#);
    }

    #[test]
    fn every_field_is_in_the_key() {
        let base = fingerprint();
        let mut others = vec![base.clone(); 11];
        others[0].kind = "other".into();
        others[1].revision = 2;
        others[2].params.insert("c".into(), json!(0));
        others[3].inputs[0].digest = Digest::of(b"y");
        others[4].views.push(FingerprintView { name: "rows".into(), digest: Digest::of(b"z") });
        others[5].env.insert("LANG".into(), None);
        others[6].seed = Some(2);
        others[7].device = Some("cpu".into());
        others[8].reads = Some(Reads::new());
        others[9].reads = Some([("x".into(), (ReadKind::Presence, "absent".into()))].into());
        others[10].tools.insert("Python".into(), "3.12.1".into());
        for other in others {
            assert_ne!(other.key(), base.key(), "{other:?}");
        }
    }

    #[test]
    fn an_extendable_parameter_is_not_in_the_checkpoint_key() {
        let base = fingerprint();
        let mut longer = base.clone();
        longer.params.insert("b".into(), json!(2));
        assert_ne!(base.key(), longer.key());
        assert_eq!(base.checkpoint_key(&["b"]), longer.checkpoint_key(&["b"]));
    }
}
