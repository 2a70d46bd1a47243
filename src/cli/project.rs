//! Opens what a command works on: the pipeline, its graph, the store and the lock.

use std::path::{Path, PathBuf};

use super::{CliError, Common};
use crate::config::{self, Kinds, Location, Overrides};
use crate::exec::{RunRecord, list_runs, read_run};
use crate::fs::{self, Symlinks};
use crate::graph::{self, Graph};
use crate::lock::Lockfile;
use crate::plan::MissingInput;
use crate::store::Store;

/// A pipeline and everything that belongs to it.
pub struct Project {
    /// The pipeline with its edges.
    pub graph: Graph,
    /// The store.
    pub store: Store,
    /// Where the lock of this pipeline, profile and overrides is, then those that explanations fall back to.
    pub lock_paths: Vec<PathBuf>,
    /// What it says; for overrides that never ran, what the lock without them says.
    pub lock: Lockfile,
}

/// Reads the pipeline that `common` names.
pub fn load_graph(common: &Common, kinds: Kinds) -> Result<Graph, CliError> {
    let file = pipeline_file(common);
    let overrides = Overrides { profile: common.profile.clone(), set: common.set.clone() };
    Ok(graph::build(config::load(&file, kinds, &overrides)?)?)
}

/// The pipeline file that `common` names.
pub fn pipeline_file(common: &Common) -> PathBuf {
    common.file.clone().unwrap_or_else(nearest_pipeline)
}

/// Reads the pipeline and opens its store.
pub fn open(common: &Common, kinds: Kinds) -> Result<Project, CliError> {
    let graph = load_graph(common, kinds)?;
    let pipeline = &graph.pipeline;
    if pipeline.root.to_str().is_none() {
        let path = pipeline.root.display();
        return Err(CliError::user(format!("the project's path `{path}` is not UTF-8\nhint: rename the folder")));
    }
    let mut store = Store::open(&pipeline.root.join(&pipeline.cache.dir))?;
    store.actions.set_trust_policy(super::remote::trust_policy(pipeline));
    let paths = lock_paths(&pipeline.root, store.root(), common);
    let lock = read_lock(&paths, &graph)?;
    Ok(Project { graph, store, lock_paths: paths, lock })
}

/// The store of a pipeline, whatever mistakes its file has: for what past runs left.
pub fn store_of(common: &Common) -> Result<Store, CliError> {
    let file = pipeline_file(common);
    let text = fs::read_text(&file, Symlinks::Follow).map_err(crate::fs::at("read", &file))?;
    // Of a text that is no TOML the section alone may be.
    let section = text.split_inclusive('\n').skip_while(|line| line.trim() != "[cache]");
    let section: String =
        section.enumerate().take_while(|(i, line)| *i == 0 || !line.starts_with('[')).map(|it| it.1).collect();
    let table = toml::from_str(&text).or_else(|_| toml::from_str::<toml::Table>(&section)).unwrap_or_default();
    let named = table.get("cache").and_then(|cache| cache.get("dir")?.as_str());
    let root = file.parent().unwrap_or(Path::new("."));
    Ok(Store::open(&root.join(named.unwrap_or(config::DEFAULT_CACHE_DIR)))?)
}

impl Project {
    /// What the lock of this pipeline, profile and overrides itself says.
    pub fn own_lock(&self) -> Result<Lockfile, CliError> {
        Ok(Lockfile::read(&self.lock_paths[0])?)
    }
}

/// The first of these locks that says anything; of other overrides' lock what it says of inputs that are the same.
pub fn read_lock(paths: &[PathBuf], graph: &Graph) -> Result<Lockfile, CliError> {
    for (place, path) in paths.iter().enumerate() {
        let mut lock = Lockfile::read(path)?;
        if lock.stages.is_empty() {
            continue;
        }
        if place > 0 {
            // The last is the file's own, one before it the profile's.
            let is_plain = place + 1 == paths.len();
            let others =
                graph.pipeline.inputs.iter().filter(|input| if is_plain { input.overridden } else { input.set });
            let others: Vec<String> = others.map(|input| format!("inputs.{}", input.name)).collect();
            for stage in lock.stages.values_mut() {
                stage.inputs.retain(|(_, source), _| !others.contains(source));
            }
        }
        return Ok(lock);
    }
    Ok(Lockfile::default())
}

/// The lock of these overrides, then those that explanations fall back to.
fn lock_paths(root: &Path, cache: &Path, common: &Common) -> Vec<PathBuf> {
    let locks = cache.join("locks");
    // Beside the pipeline, and called as it is: another file in the same folder has its own.
    let file = pipeline_file(common);
    let stem = file.file_stem().unwrap_or("pipeline".as_ref()).to_string_lossy();
    let mut paths = vec![root.join(format!("{stem}.lock"))];
    // No profile's name has an `@` or a `+`.
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

/// The file in this folder or in the nearest above it, as a user here would write its path.
fn nearest_pipeline() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let above = here.ancestors().position(|folder| folder.join("pipeline.toml").is_file()).unwrap_or(0);
    let mut path: PathBuf = std::iter::repeat_n("..", above).collect();
    path.push("pipeline.toml");
    path
}

/// The record of a past run: `last`, or a name that `hamflow log` lists.
pub fn find_run(store: &Store, name: &str) -> Option<RunRecord> {
    let runs = store.runs_dir();
    let found = list_runs(&runs).into_iter().find(|run| name == "last" || run == name)?;
    read_run(&runs, &found)
}

/// The record of a past run that must be there.
pub fn past_run(store: &Store, name: &str) -> Result<RunRecord, CliError> {
    let missing = || CliError::user(format!("no run `{name}` is recorded\nhint: `hamflow log` lists them"));
    find_run(store, name).ok_or_else(missing)
}

/// What is said where nothing is known under these options, but the last run had others.
pub fn other_options(opened: &Project, common: &Common) -> Option<String> {
    let last = find_run(&opened.store, "last").filter(|last| last.profile != common.profile)?;
    let command = last.command.get(1..).unwrap_or_default().join(" ");
    Some(format!("the last run was `hamflow {command}`; give the same `--profile` and `--set` here"))
}

/// What is said of declared inputs that are not there.
pub fn missing_inputs(graph: &Graph, missing: &[MissingInput]) -> CliError {
    let mut text = String::from("the pipeline reads what is not there:");
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
    text.push_str(&format!("\nhint: {}", hint.unwrap_or("put it there, or change the path under `[inputs]`")));
    CliError::user(text)
}
