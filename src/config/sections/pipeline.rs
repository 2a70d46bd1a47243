//! `[pipeline]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::spanned::filled;

/// The pipeline as a whole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PipelineSection {
    /// The pipeline's name, for people.
    #[serde(deserialize_with = "filled")]
    #[schemars(with = "String", length(min = 1))]
    pub(crate) name: String,
    /// Where every random number starts; a stage's own `seed` overrides it.
    pub(crate) seed: u64,
    /// Where to get the data; shown when something under `[inputs]` is not there.
    pub(crate) missing_inputs: Option<String>,
}

impl Default for PipelineSection {
    fn default() -> Self {
        Self { name: "pipeline".to_owned(), seed: 0, missing_inputs: None }
    }
}
