//! The resolved pipeline: checked, with every default filled in.

use std::path::PathBuf;
use std::sync::Arc;

use hamflow_stage_api::{AnyKind, Digest, KindSpec, Output, Params, Port, Resolved};

use super::diagnostic::{Diagnostic, Sources, Span};
use super::matched_files::MatchedFiles;
use super::sections::{CacheOptions, ExecutorOptions, InputDeclaration, Needs, Requests};

/// The kinds that a build of hamflow knows.
pub type Kinds = &'static [&'static dyn AnyKind];

/// A pipeline file, parsed and resolved.
pub struct Pipeline {
    /// `[pipeline] name`.
    pub name: String,
    /// `[pipeline] seed`, for the kinds that draw random numbers.
    pub seed: u64,
    /// `[pipeline] missing_inputs`: where a user gets the data from, shown when an input is not there.
    pub missing_inputs: Option<String>,
    /// The folder of `pipeline.toml`: absolute, the project's root.
    pub root: PathBuf,
    /// Absolute path of the file.
    pub file: PathBuf,
    /// `[inputs]`, sorted by name.
    pub inputs: Vec<InputDeclaration>,
    /// The stages in the order of the file, matrix stages expanded.
    pub stages: Vec<Stage>,
    /// `[cache]`.
    pub cache: CacheOptions,
    /// `[executors]`, by name.
    pub executors: Vec<(String, ExecutorOptions)>,
    /// The profile that was applied.
    pub profile: Option<String>,
    /// Whether `--profile` or `--set` changed anything; such runs keep their lock under `cache/locks/`.
    pub overridden: bool,
    /// The files of parameters that were read, with their digests.
    pub params_files: Vec<(PathBuf, Digest)>,
    /// The files that stages were made for.
    pub matched_files: Vec<MatchedFiles>,
    /// The texts that every [`Span`] points into.
    pub sources: Sources,
}

impl Pipeline {
    /// A diagnostic at a span of the file or of the command line.
    pub fn diagnostic(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        self.sources.diagnostic(span, message)
    }
}

/// A stage before its references are resolved; with a matrix, one per combination.
pub struct Stage {
    /// `train`, or `train[lr=0.001]`.
    pub name: String,
    /// The name in the file: `train`.
    pub base: String,
    /// The axis values of this combination, sorted by axis.
    pub axes: Vec<(String, String)>,
    /// What the stage does.
    pub kind: &'static dyn AnyKind,
    /// The specification of the kind.
    pub spec: Arc<KindSpec>,
    /// The resolved parameters.
    pub params: Resolved,
    /// The ports and what is written at them; ports without a reference are left out.
    pub references: Vec<(Port, Vec<Reference>)>,
    /// What it makes.
    pub outputs: Vec<Output>,
    /// Variables of the environment that are passed and keyed.
    pub env: Vec<String>,
    /// Variables that are passed, never keyed nor stored.
    pub secret_env: Vec<String>,
    /// `seed` of the stage, or the pipeline's.
    pub seed: u64,
    /// What one of its jobs needs, as far as it is declared.
    pub needs: Needs,
    /// What one of its jobs asks of its executor.
    pub requests: Requests,
    /// The executor, if it is not this machine.
    pub executor: Option<String>,
    /// The file that its values come from, as written.
    pub params_file: Option<String>,
    /// Where the stage's table begins.
    pub span: Span,
}

impl Stage {
    /// The parameters that are part of keys.
    pub fn keyed_params(&self) -> Params {
        let params = self.params.json().iter().filter(|(name, _)| !self.spec.unkeyed.contains(&&name[..]));
        params.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// What is written at a port: `inputs.NAME`, `STAGE`, `STAGE.ARTIFACT`, `STAGE[*]`, `STAGE[*].ARTIFACT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The text as written.
    pub text: String,
    /// Where it is written.
    pub span: Span,
}

/// What the command line adds to the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// `--set stages.train.epochs=5`, in order.
    pub set: Vec<String>,
}
