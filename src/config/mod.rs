//! Reads `pipeline.toml` into a [`Pipeline`]: every name known, every parameter checked, every default filled in.

use std::path::{Path, PathBuf};

use hamflow_stage_api::{Kind, Output, Params, Port};

/// The kinds that a build of hamflow knows.
pub type Kinds = &'static [&'static dyn Kind];

/// A pipeline file, parsed and resolved.
pub struct Pipeline {
    /// `[pipeline] name`.
    pub name: String,
    /// `[pipeline] seed`, for the kinds that draw random numbers.
    pub seed: u64,
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
    /// The profile that was applied.
    pub profile: Option<String>,
    /// Whether `--profile` or `--set` changed anything; such runs keep their lock under `cache/locks/`.
    pub overridden: bool,
}

/// A file or folders from outside, declared once.
#[derive(Debug, Clone)]
pub struct InputDeclaration {
    /// The name below `[inputs]`.
    pub name: String,
    /// As written: relative to the project's root, or absolute.
    pub paths: Vec<PathBuf>,
    /// Whether it was written as a list of folders.
    pub list: bool,
    /// Where it is written.
    pub span: Span,
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
    pub kind: &'static dyn Kind,
    /// The resolved parameters.
    pub params: Params,
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
    /// Bytes of memory that a job of it needs, as far as the user said.
    pub memory: Option<u64>,
    /// Where the stage's table begins.
    pub span: Span,
}

/// What is written at a port: `inputs.NAME`, `STAGE`, `STAGE.ARTIFACT`, `STAGE[*]`, `STAGE[*].ARTIFACT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The text as written.
    pub text: String,
    /// Where it is written.
    pub span: Span,
}

/// `[cache]`.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The store's root: relative to the project's root, or absolute. Default `cache`.
    pub dir: PathBuf,
    /// How `out/` is made from the store.
    pub link: LinkMode,
}

/// How files get from the store to `out/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkMode {
    /// By reflink where the file system can, else by copying.
    #[default]
    Copy,
    /// By hard link: fast, but whoever writes to such a file as root damages the store.
    Hard,
}

/// Bytes `start..end` of `pipeline.toml` (or of a `--set` argument).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// What the command line adds to the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// `--set stages.train.epochs=5`, in order.
    pub set: Vec<String>,
}

/// Reads and resolves the pipeline at `path`.
pub fn load(_path: &Path, _kinds: Kinds, _overrides: &Overrides) -> Result<Pipeline, Vec<Diagnostic>> {
    Err(Vec::new())
}

/// A mistake in the user's file, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// One sentence, lowercase at its start, place first: ``stage `train`: unknown parameter `epoch` ``.
    pub message: String,
    /// The file, the line and the column, with the line's text.
    pub place: Option<Location>,
    /// The way out.
    pub hint: Option<String>,
}

/// Where a diagnostic points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as the user would name it, or `--set` for the command line.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters the caret line marks.
    pub width: usize,
    /// The whole line.
    pub text: String,
}
