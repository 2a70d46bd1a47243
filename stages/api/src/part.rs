//! Parts: the units in which the work of a stage is split and cached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the work of a stage is split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plan {
    /// One call of [`Kind::run`](crate::Kind::run).
    Whole,
    /// One job per part, each with its own key, perhaps further rounds of parts ([`Parts::extend`](crate::Parts::extend)), and one
    /// call of [`Parts::merge`](crate::Parts::merge).
    Parts(Vec<Part>),
}

/// A piece of a stage's work with its own key.
///
/// The key covers the kind, its revision, the stage's parameters unless [`Parts::keys_parameters`](crate::Parts::keys_parameters)
/// is false, `key`, and the digests of `files` in order. Files at ports with [`Access::View`](crate::Access::View) are not in the
/// key: `key` must contain what the part reads from them. It covers no other inputs of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Unique within the stage and stable for equal content, e.g. the first image id; must be a valid file name.
    pub name: String,
    /// Everything else that determines the part's output, e.g. the image ids in order.
    pub key: Value,
    /// What the part needs but its output does not depend on, e.g. row numbers; not in the key.
    #[serde(default)]
    pub data: Value,
    /// The files that the part reads, by port: indices into [`Input::files`](crate::Input::files) of the port's first input.
    #[serde(default)]
    pub files: BTreeMap<String, Vec<u32>>,
    /// What a checkpoint of the part depends on, if the part can resume. Parts of later rounds with an equal value continue from the
    /// checkpoint; parts of one round must have different ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
    /// The amount of work in [`KindSpec::part_unit`](crate::KindSpec::part_unit); the number of files that the part reads by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
}

/// The output of one part, as passed to [`Parts::merge`](crate::Parts::merge).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOutput {
    /// The part's name.
    pub name: String,
    /// Its side files, which are not in outputs that are assembled from parts: relative path to location.
    pub side: BTreeMap<String, PathBuf>,
    /// Paths and sizes of the files that the engine assembles.
    pub assembled: BTreeMap<String, u64>,
}
