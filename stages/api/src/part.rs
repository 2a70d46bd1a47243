//! How a stage's work is split, so that a small change redoes a small part.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the work of one stage is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plan {
    /// By one call of [`Kind::run`](crate::Kind::run).
    Whole,
    /// Part by part, each with its own key, then one call of [`Kind::merge`](crate::Kind::merge).
    Parts(Vec<Part>),
}

/// A piece of a stage's work with its own key.
///
/// The key covers the kind, its revision, the stage's parameters, `key`, and the digests of `files` in their order;
/// nothing else of the stage's inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Unique in the stage and the same for the same content, such as the first image id; safe as a file name.
    pub name: String,
    /// What decides the part's output beside the parameters and the files' bytes, such as the image ids in order.
    pub key: Value,
    /// What the part needs to know and no output depends on, such as row numbers; not in the key.
    #[serde(default)]
    pub data: Value,
    /// Which files of which port the part reads: indices into [`Input::files`](crate::Input::files) of the port's first input.
    #[serde(default)]
    pub files: BTreeMap<String, Vec<u32>>,
}

/// What one part made, as [`Kind::merge`](crate::Kind::merge) sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOutput {
    /// The part's name.
    pub name: String,
    /// Its small side files: what it wrote outside the outputs that are assembled from parts. Relative path → where the bytes are.
    pub side: BTreeMap<String, PathBuf>,
    /// Paths and sizes of the files that the engine assembles.
    pub assembled: BTreeMap<String, u64>,
}
