//! Reads `pipeline.toml` into a [`Pipeline`]: every name known, every parameter checked, every default filled in.

mod diagnostic;
mod matrix;
pub mod near;
mod overlay;
pub(crate) mod ports;
mod reference;
mod remote;
mod schema;
mod sections;
mod stage;
#[cfg(test)]
pub(crate) mod tests;
mod value;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::{Kind, KindSpec, Output, Params, Port};

pub use diagnostic::{Diagnostic, Location, Sources};
pub(crate) use diagnostic::{Mistake, Mistakes};
pub use reference::{ReferenceTarget, Selection};
pub use remote::RemoteOptions;
pub use schema::{json_schema, of_every_stage};
pub use sections::parse_age;
pub use stage::parse_size;

use crate::fs::{Symlinks, read_regular};
use crate::policy::Limits;
use near::did_you_mean;
use stage::{KnownKinds, Template};
use value::{Entry, Table};

/// The kinds that a build of hamflow knows.
pub type Kinds = &'static [&'static dyn Kind];

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
    /// The profile that was applied.
    pub profile: Option<String>,
    /// Whether `--profile` or `--set` changed anything; such runs keep their lock under `cache/locks/`.
    pub overridden: bool,
    /// The texts that every [`Span`] points into.
    pub sources: Sources,
}

impl Pipeline {
    /// A mistake at a place of the file or of the command line.
    pub fn diagnostic(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        self.sources.diagnostic(span, message)
    }
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
    /// Whether a profile or `--set` made it another than the file's: what is known of that one says nothing of it.
    pub overridden: bool,
    /// Whether `--set` made it another than the profile's.
    pub set: bool,
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
    /// What the kind says of itself.
    pub spec: Arc<KindSpec>,
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
    /// How much of what nobody needs now is kept.
    pub limits: Limits,
    /// Where results are shared, if they are.
    pub remote: Option<RemoteOptions>,
}

/// Where the store is unless `[cache] dir` says otherwise, below the project's root.
pub const DEFAULT_CACHE_DIR: &str = "cache";

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// 0 for the file, `n` for the `n`th `--set` argument.
    pub source: usize,
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

/// The tables that the file may have.
const SECTIONS: [&str; 5] = ["pipeline", "inputs", "stages", "profiles", "cache"];

/// Reads and resolves the pipeline at `path`.
///
/// Fails with every mistake that was found, sorted by place. References are resolved later, by
/// [`graph::build`](crate::graph::build).
pub fn load(path: &Path, kinds: Kinds, overrides: &Overrides) -> Result<Pipeline, Vec<Diagnostic>> {
    let (text, root, file) = read(path).map_err(|diagnostic| vec![diagnostic])?;
    let mut mistakes = Mistakes::default();
    let mut table = value::parse_document(0, &text, &mut mistakes);
    let mut sources = Sources::new(path.display().to_string(), text);
    if !mistakes.is_empty() {
        return Err(mistakes.into_diagnostics(&sources));
    }
    for argument in &overrides.set {
        sources.add_argument("--set", argument);
    }
    let plain = sections::read_inputs(&mut table.clone(), &mut Mistakes::default());
    overlay::apply_profile(&mut table, overrides.profile.as_deref(), &mut mistakes);
    let of_profile = sections::read_inputs(&mut table.clone(), &mut Mistakes::default());
    overlay::apply_set(&mut table, overrides, 1, &mut mistakes);
    refuse_unknown_sections(&table, kinds, &mut mistakes);
    let header = sections::read_header(&mut table, &mut mistakes);
    let mut inputs = sections::read_inputs(&mut table, &mut mistakes);
    for input in &mut inputs {
        let same = |other: &InputDeclaration| other.name == input.name && other.paths == input.paths;
        (input.overridden, input.set) = (!plain.iter().any(same), !of_profile.iter().any(same));
    }
    let cache = sections::read_cache(&mut table, &mut mistakes);
    let stages = read_stages(&mut table, kinds, header.seed, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes.into_diagnostics(&sources));
    }
    Ok(Pipeline {
        name: header.name,
        seed: header.seed,
        missing_inputs: header.missing_inputs,
        root,
        file,
        inputs,
        stages,
        cache,
        profile: overrides.profile.clone(),
        overridden: overrides.profile.is_some() || !overrides.set.is_empty(),
        sources,
    })
}

/// The text of the file, the project's root and the file's absolute path.
fn read(path: &Path) -> Result<(String, PathBuf, PathBuf), Diagnostic> {
    let shown = path.display();
    let cannot = |error: io::Error| Diagnostic::new(format!("cannot read `{shown}`: {error}"));
    let bytes = read_regular(path, Symlinks::Follow).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Diagnostic::new(format!("`{shown}` does not exist")).hint("`hamflow init` writes one to start from")
        }
        _ => cannot(error),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Diagnostic::new(format!("`{shown}` is not UTF-8 in line {}", line + 1)).hint("save it as UTF-8")
    })?;
    let (root, file) = locate(path).map_err(cannot)?;
    Ok((text, root, file))
}

/// The project's root and the absolute path of the pipeline file at `path`.
///
/// The folder's symbolic links are resolved, the file's own are not: the project is where the file is seen.
pub fn locate(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let root = fs::canonicalize(folder)?;
    let file = root.join(path.file_name().unwrap_or_default());
    Ok((root, file))
}

fn refuse_unknown_sections(table: &Table, kinds: Kinds, mistakes: &mut Mistakes) {
    for entry in table.entries.iter().filter(|entry| !SECTIONS.contains(&entry.key.as_str())) {
        let key = &entry.key;
        let hint = match kinds.iter().any(|kind| kind.spec().name == key) {
            true => format!("did you mean `[stages.{key}]`?"),
            false => {
                did_you_mean(key, SECTIONS).unwrap_or_else(|| format!("the file may have {}", near::listed(SECTIONS)))
            }
        };
        mistakes.push(Mistake::new(entry.header(), format!("unknown key `{key}`")).hint(hint));
    }
}

fn read_stages(root: &mut Table, kinds: Kinds, seed: u64, mistakes: &mut Mistakes) -> Vec<Stage> {
    let table = sections::section(root, "stages", mistakes);
    if table.entries.is_empty() && mistakes.is_empty() {
        mistakes.push(
            Mistake::placeless("the pipeline has no stages")
                .hint("add `[stages.NAME]`; `hamflow kinds` lists what a stage can do".to_owned()),
        );
    }
    let names: Vec<&str> = table.keys().collect();
    let mut known = KnownKinds::new(kinds);
    let read = |entry: &Entry| stage::read_stage(entry, &mut known, &names, mistakes);
    let templates: Vec<Template> = table.entries.iter().filter_map(read).collect();
    let stages = matrix::expand(&templates, seed, mistakes);
    ports::check(&stages, mistakes);
    ports::require_ports(&templates, &stages, mistakes);
    stages
}
