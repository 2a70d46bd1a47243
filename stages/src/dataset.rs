//! The terms that all kinds share about a dataset: classes and splits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The code in column `dx`.
    pub label: String,
    /// The display name. Classes are indexed in the alphabetical order of their names.
    pub name: String,
}

/// The names of the splits, in the order in which tables and figures list them.
pub const SPLITS: [&str; 3] = ["train", "validation", "test"];
