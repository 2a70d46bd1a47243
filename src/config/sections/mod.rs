//! The sections of the file, one struct each: what it takes, its defaults and its documentation.

mod cache;
mod executors;
mod inputs;
mod pipeline;
mod remote;
mod stage;

pub use cache::{CacheOptions, DEFAULT_CACHE_DIR};

pub use crate::fs::LinkMode;
pub use executors::{ExecutorKind, ExecutorOptions, LOCAL, TransportKind};
pub use inputs::InputDeclaration;
pub(super) use inputs::{NAME_PATTERN, is_name};
pub use remote::RemoteOptions;
pub(super) use stage::StageSection;
pub use stage::{Cpus, Needs, Requests};

use schemars::JsonSchema;
use serde::Deserialize;

use super::diagnostic::Mistakes;
use super::value::Table;
use cache::CacheSection;
use executors::ExecutorsSection;
use inputs::InputsSection;
use pipeline::PipelineSection;

/// A pipeline of hamflow.
//
// Its stages depend on their kinds and are read one by one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    pub(super) pipeline: PipelineSection,
    pub(super) inputs: InputsSection,
    /// What the pipeline does, stage by stage.
    pub(super) stages: Table,
    /// Changes of the file that `--profile NAME` applies.
    profiles: Table,
    pub(super) cache: CacheSection,
    /// Where stages run that name an executor.
    pub(super) executors: ExecutorsSection,
}

impl Document {
    /// Reports what the types of the sections let pass.
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        self.inputs.check(mistakes);
        self.executors.check(mistakes);
        if let Some(remote) = &self.cache.remote {
            remote.check(mistakes);
        }
    }
}
