//! What verdicts depended on, outside the pipeline file: written down as it is read.
//!
//! Planning reads the world through [`World`](super::world::World) alone, and every method there adds what it read to the trace. A
//! [`Seal`](super::Seal) is this trace with the state of everything in it, so a dependency cannot be left out of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::ActionKey;

/// The class of device that a kind chose for some parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceChoice {
    /// The kind.
    pub kind: String,
    /// The parameters, as JSON.
    pub params: String,
    /// The class.
    pub class: Option<String>,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Trace {
    /// Variables of the environment.
    pub variables: BTreeSet<String>,
    /// Choices of devices.
    pub devices: Vec<DeviceChoice>,
    /// Files and folders outside the store: inputs, files of the project, folders of `out/`.
    pub paths: BTreeSet<PathBuf>,
    /// Results in the store.
    pub results: Vec<ActionKey>,
    /// Blobs in the store.
    pub blobs: Vec<Digest>,
    /// Whether something was read that has no state to compare with: an input that only the lock remembers.
    pub is_open: bool,
}
