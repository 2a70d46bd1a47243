//! The dependencies of verdicts outside the pipeline file, recorded as they are read.
//!
//! Planning reads the world only through [`World`](super::world::World), whose methods add what they read to the trace. A
//! [`Seal`](super::Seal) is this trace with the state of everything in it, so it cannot omit a dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hamflow_stage_api::{ReadKind, Versions};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::ActionKey;

/// The device class that a kind chose for given parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceChoice {
    /// The kind.
    pub kind: String,
    /// The parameters, as JSON.
    pub params: String,
    /// The class.
    pub class: Option<String>,
    /// What decided it, if that is known.
    pub evidence: Option<String>,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Trace {
    /// Environment variables.
    pub variables: BTreeSet<String>,
    /// Device choices.
    pub devices: Vec<DeviceChoice>,
    /// The versions of software, by the kind and the question that asks for them.
    pub tools: BTreeMap<(String, String), Versions>,
    /// Files and folders outside the store: inputs, project files, folders of `out/`.
    pub paths: BTreeSet<PathBuf>,
    /// What is at paths that programs looked for: `absent`, `file`, `folder` or `other`.
    pub presence: BTreeMap<PathBuf, String>,
    /// The names in folders that programs listed; the flag is set for the project's root.
    pub names: BTreeMap<(PathBuf, ReadKind, bool), Digest>,
    /// Results in the store.
    pub results: Vec<ActionKey>,
    /// Blobs in the store.
    pub blobs: Vec<Digest>,
    /// Whether something without a comparable state was read: an input known only from the lock.
    pub is_open: bool,
}
