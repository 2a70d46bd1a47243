//! Opens the project that a command works on: the pipeline, its graph, the store and the lock.

use std::path::{Path, PathBuf};

use super::{CliError, Common};
use crate::config::{self, Kinds, Location, Origin, Overrides};
use crate::exec::{RunRecord, list_runs, read_run};
use crate::fs::{self, Symlinks};
use crate::graph::{self, Graph};
use crate::lock::Lockfile;
use crate::plan::MissingInput;
use crate::store::Store;

/// An open project.
pub struct Project {
    /// The pipeline with its resolved dependencies.
    pub graph: Graph,
    /// The cache.
    pub store: Store,
    /// The lock file of this pipeline, profile and overrides, then its fallbacks: the profile's, the pipeline's.
    pub lock_paths: Vec<PathBuf>,
    /// The contents of the first lock file that is not empty.
    pub lock: Lockfile,
}

/// Loads the pipeline that `common` selects.
pub fn load_graph(common: &Common, kinds: Kinds) -> Result<Graph, CliError> {
    let file = pipeline_file(common);
    let overrides = Overrides { profile: common.profile.clone(), set: common.set.clone() };
    Ok(graph::build(config::load(&file, kinds, &overrides)?)?)
}

/// The pipeline file that `common` selects.
pub fn pipeline_file(common: &Common) -> PathBuf {
    common.file.clone().unwrap_or_else(nearest_pipeline)
}

/// Loads the pipeline and opens its cache.
pub fn open(common: &Common, kinds: Kinds) -> Result<Project, CliError> {
    let graph = load_graph(common, kinds)?;
    let pipeline = &graph.pipeline;
    if pipeline.root.to_str().is_none() {
        let path = pipeline.root.display();
        return Err(CliError::user(format!("the project path `{path}` is not UTF-8")).hint("rename the directory"));
    }
    let mut store = Store::open(&pipeline.root.join(&pipeline.cache.dir))?;
    store.actions.set_trust_policy(super::trust::trust_policy(pipeline));
    let paths = lock_paths(&pipeline.root, store.root(), common);
    let lock = read_lock(&paths, &graph)?;
    Ok(Project { graph, store, lock_paths: paths, lock })
}

/// Opens the cache of a pipeline even if the pipeline file has errors, to show past runs.
pub fn store_of(common: &Common) -> Result<Store, CliError> {
    let file = pipeline_file(common);
    let text = fs::read_text(&file, Symlinks::Follow).map_err(crate::fs::at("read", &file))?;
    // If the file as a whole is not valid TOML, its `[cache]` section alone may be.
    let section = text.split_inclusive('\n').skip_while(|line| line.trim() != "[cache]");
    let section: String =
        section.enumerate().take_while(|(i, line)| *i == 0 || !line.starts_with('[')).map(|it| it.1).collect();
    let table = toml::from_str(&text).or_else(|_| toml::from_str::<toml::Table>(&section)).unwrap_or_default();
    let named = table.get("cache").and_then(|cache| cache.get("dir")?.as_str());
    let root = file.parent().unwrap_or(Path::new("."));
    Ok(Store::open(&root.join(named.unwrap_or(config::DEFAULT_CACHE_DIR)))?)
}

impl Project {
    /// The lock of exactly this pipeline, profile and overrides, without fallbacks.
    pub fn own_lock(&self) -> Result<Lockfile, CliError> {
        Ok(Lockfile::read(&self.lock_paths[0])?)
    }
}

/// Reads the first lock file that is not empty. From a fallback, the inputs that this profile or these overrides change are removed.
pub fn read_lock(paths: &[PathBuf], graph: &Graph) -> Result<Lockfile, CliError> {
    for (place, path) in paths.iter().enumerate() {
        let mut lock = Lockfile::read(path)?;
        if lock.stages.is_empty() {
            continue;
        }
        if place > 0 {
            // The last path is the pipeline's own lock, the one before it the profile's.
            let whose = if place + 1 == paths.len() { Origin::File } else { Origin::Profile };
            let others = graph.pipeline.inputs.iter().filter(|input| input.origin > whose);
            let others: Vec<String> = others.map(|input| format!("inputs.{}", input.name)).collect();
            for stage in lock.stages.values_mut() {
                stage.inputs.retain(|(_, source), _| !others.contains(source));
            }
        }
        return Ok(lock);
    }
    Ok(Lockfile::default())
}

/// The lock file of these overrides, then its fallbacks.
fn lock_paths(root: &Path, cache: &Path, common: &Common) -> Vec<PathBuf> {
    let locks = cache.join("locks");
    // Named after the pipeline file, so that two pipelines in one directory have separate locks.
    let file = pipeline_file(common);
    let stem = file.file_stem().unwrap_or("pipeline".as_ref()).to_string_lossy();
    let mut paths = vec![root.join(format!("{stem}.lock"))];
    // Unambiguous: profile names contain neither `@` nor `+`.
    let of_file = if stem == "pipeline" { String::new() } else { format!("{stem}@") };
    if let Some(profile) = &common.profile {
        paths.insert(0, locks.join(format!("{of_file}{profile}.lock")));
    }
    if !common.set.is_empty() {
        let text = common.set.join("\n");
        let digest = crate::digest::Digest::of(text.as_bytes()).short();
        let profile = common.profile.as_deref().unwrap_or_default();
        paths.insert(0, locks.join(format!("{of_file}{profile}+set-{digest}.lock")));
    }
    paths
}

/// The nearest `pipeline.toml` in this directory or its parents, as a relative path.
fn nearest_pipeline() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let above = here.ancestors().position(|folder| folder.join("pipeline.toml").is_file()).unwrap_or(0);
    let mut path: PathBuf = std::iter::repeat_n("..", above).collect();
    path.push("pipeline.toml");
    path
}

/// Finds a past run by its ID; `last` is the most recent one.
pub fn find_run(store: &Store, name: &str) -> Option<RunRecord> {
    let runs = store.runs_dir();
    let found = list_runs(&runs).into_iter().find(|run| name == "last" || run == name)?;
    read_run(&runs, &found)
}

/// Like [`find_run`], but fails if there is no such run.
pub fn past_run(store: &Store, name: &str) -> Result<RunRecord, CliError> {
    let missing = || CliError::user(format!("no run `{name}` is recorded")).hint("`hamflow log` lists the runs");
    find_run(store, name).ok_or_else(missing)
}

/// A hint for when nothing is known for this profile but the last run used another one.
pub fn other_options(opened: &Project, common: &Common) -> Option<String> {
    let last = find_run(&opened.store, "last").filter(|last| last.profile != common.profile)?;
    let command = last.command.get(1..).unwrap_or_default().join(" ");
    Some(format!("the last run was `hamflow {command}`; use the same `--profile` and `--set`"))
}

/// The error for declared inputs that do not exist.
pub fn missing_inputs(graph: &Graph, missing: &[MissingInput]) -> CliError {
    let mut text = String::from("missing inputs:");
    let mut first = None;
    for MissingInput { name, path } in missing {
        let declared = graph.pipeline.inputs.iter().find(|input| input.name == *name);
        let place = declared.and_then(|input| graph.pipeline.sources.locate(input.span));
        let line = place.as_ref().map_or(String::new(), |place| format!(" (line {})", place.line));
        text.push_str(&format!("\n  `inputs.{name}`: `{}`{line}", path.display()));
        first = first.or(place);
    }
    if let Some(Location { file, line, column, .. }) = first {
        text.push_str(&format!("\n  --> {file}:{line}:{column}"));
    }
    let hint = graph.pipeline.missing_inputs.as_deref();
    CliError::user(text).hint(hint.unwrap_or("create it, or change its path under `[inputs]`"))
}
