//! Decides what is fresh, what is stale and why.
//!
//! A stage's **fingerprint** holds every value that determines its outputs; the digest of its canonical text is its **key**.
//! The store keeps results by key, each with its whole fingerprint. So "is this stage up to date?" is a lookup, and "why
//! not?" is the difference of two fingerprints. `run`, `status`, `why` and `dag` all use [`Planner::check`].
//!
//! | in the key | not in the key |
//! | --- | --- |
//! | kind and its `REVISION` | the stage's name |
//! | parameters, defaults filled in | whether a value came from the file, a profile or `--set` |
//! | digests, by port, of the inputs' bytes, their names or the views that the kind reads | paths, names of upstream stages, times |
//! | kinds, parameters and seeds of the stages upstream, for kinds that ask for their lineage (`report`) | |
//! | axis values of gathered stages | the order in which stages ran |
//! | versions of declared tools and environments | versions of other software |
//! | declared environment | any other environment, `secret_env` |
//! | the seed, for kinds that declare randomness | threads, host, executor, SIMD level |
//! | the device class, where numbers depend on it (some kinds accept results of other devices: [`Planner::elsewhere`]) | |
//!
//! Keys hold digests of inputs, never keys of upstream stages. If a stage runs again and produces the same bytes, the keys of
//! its downstream stages do not change and nothing more runs (early cutoff). The price: a plan can only report stages
//! downstream of a stale stage as pending, and a run checks each of them again when it becomes ready.

mod check;
mod device;
mod explain;
mod fingerprint;
mod inputs;
mod look;
mod reads;
mod reason;
mod seal;
mod trace;
mod unhashed;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hamflow_stage_api::{Access, Inputs, Plan, Planning, Port, ReadKind, StageError};

pub use check::Check;
use check::read_inputs;
pub use fingerprint::{Fingerprint, FingerprintInput, FingerprintView, PartFingerprint, Reads, canonical};
pub use inputs::{Connected, Content, Declared, MissingInput, ScanError};
pub use look::{full, names};
pub use reason::{Changes, StaleReason, fingerprint_difference};
pub use seal::{Invocation, SavedLock, Seal};

use crate::config::Stage;
use crate::digest::Digest;
use crate::graph::{Graph, Source, StageId};
use crate::lock::Lockfile;
use crate::out::{Differences, OutFolder};
use crate::store::{ActionResult, Files, StatIndex, Store};
use world::World;

/// The name of the view of a stage's lineage.
const LINEAGE: &str = "parameters of the stages upstream";

/// The action that a stage needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// None: `out/` holds the result.
    Fresh,
    /// A restore: the result is in the store but not in `out/`.
    Cached,
    /// A run.
    Stale(Vec<StaleReason>),
    /// Unknown until these stages have run.
    Pending(Vec<StageId>),
}

/// The results of the finished stages.
pub type Results = BTreeMap<StageId, Arc<ActionResult>>;

/// Determines the verdict of each stage; changes nothing but the stat index.
pub struct Planner<'a> {
    graph: &'a Graph,
    lock: &'a Lockfile,
    world: World<'a>,
    allow_missing: bool,
    declared: Vec<Option<Arc<Declared>>>,
    /// The states of files that programs use, by path and by what matters of them.
    states: HashMap<(String, ReadKind), String>,
}

impl<'a> Planner<'a> {
    /// Loads the stat index and the record of `out/`; reads nothing else yet.
    pub fn new(graph: &'a Graph, store: &'a Store, lock: &'a Lockfile, allow_missing: bool) -> Self {
        let declared = graph.pipeline.inputs.iter().map(|_| None).collect();
        let world = World::new(store, &graph.pipeline.root);
        Self { graph, lock, world, allow_missing, declared, states: HashMap::new() }
    }

    /// The lock that explanations compare with.
    pub fn lock(&self) -> &'a Lockfile {
        self.lock
    }

    /// The store.
    pub fn store(&self) -> &'a Store {
        self.world.store()
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The stat index.
    pub fn index(&mut self) -> &mut StatIndex {
        self.world.index()
    }

    /// The `out/` folder.
    pub fn out(&mut self) -> &mut OutFolder {
        self.world.out()
    }

    /// Removes from `out/` the outputs of stages that are no longer in the pipeline of `lock`.
    pub fn remove_dropped(&mut self, lock: &str) -> Result<(), StageError> {
        let graph = self.graph;
        self.world.remove_dropped(lock, |name| graph.find(name).is_some())
    }

    /// Scans the declared inputs that `stages` read, and returns all that are missing.
    pub fn scan(&mut self, stages: &[StageId]) -> Result<Vec<MissingInput>, StageError> {
        let mut missing = Vec::new();
        for stage in stages {
            for binding in &self.graph.edges[stage.0 as usize] {
                for source in &binding.sources {
                    let Source::Declared { index } = source else { continue };
                    match self.declared(*index) {
                        Ok(_) => {}
                        Err(ScanError::Missing(_)) => {
                            for input in inputs::missing(&self.graph.pipeline.inputs[*index], &self.graph.pipeline.root)
                            {
                                if !missing.contains(&input) {
                                    missing.push(input);
                                }
                            }
                        }
                        Err(ScanError::Unreadable(error)) => return Err(error),
                    }
                }
            }
        }
        Ok(missing)
    }

    /// Returns a declared input; its files may be listed but unread.
    fn declared(&mut self, number: usize) -> Result<Arc<Declared>, ScanError> {
        match &self.declared[number] {
            Some(known) => Ok(Arc::clone(known)),
            None => self.hashed(number),
        }
    }

    /// Returns a declared input with all its digests.
    fn hashed(&mut self, number: usize) -> Result<Arc<Declared>, ScanError> {
        if let Some(known) = self.declared[number].as_ref().filter(|known| !known.digest.is_unread()) {
            return Ok(Arc::clone(known));
        }
        let declaration = &self.graph.pipeline.inputs[number];
        let root = &self.graph.pipeline.root;
        let scanned = match self.world.scan(declaration, root) {
            Err(ScanError::Missing(missing)) if self.allow_missing => {
                self.world.remembered(declaration, root, self.lock)?.ok_or(ScanError::Missing(missing))?
            }
            other => other?,
        };
        let scanned = Arc::new(scanned);
        self.declared[number] = Some(Arc::clone(&scanned));
        Ok(scanned)
    }

    /// Returns the direct upstream stages of `stage` that have no result in `results`.
    pub fn unfinished(&self, stage: StageId, results: &Results) -> Vec<StageId> {
        let upstream = self.graph.dependencies(stage).into_iter();
        upstream.filter(|stage| !results.contains_key(stage)).collect()
    }

    /// Computes the fingerprint of a stage whose upstream stages are all in `results`, and looks up its result: the one for this
    /// machine's device class, or else an acceptable one of another class ([`Planner::elsewhere`]).
    pub fn check(&mut self, id: StageId, results: &Results) -> Result<Check, StageError> {
        let stage = self.graph.stage(id);
        let own = self.world.device_class(stage);
        if let Err(error) = &own
            && !stage.kind.accepts_other_devices(&stage.params)
        {
            return Err(error.clone());
        }
        let check = self.check_on(id, results, own.as_ref().ok().cloned().flatten())?;
        match self.elsewhere(id, &check) {
            Some(other) if own.is_err() || check.result.is_none() && other.result.is_some() => Ok(other),
            _ => own.map(|_| check),
        }
    }

    /// Like [`Planner::check`], for a given device class.
    fn check_on(&mut self, id: StageId, results: &Results, device: Option<String>) -> Result<Check, StageError> {
        let graph = self.graph;
        let stage = &graph.pipeline.stages[id.0 as usize];
        let spec = &stage.spec;
        let mut inputs = Vec::new();
        for binding in &graph.edges[id.0 as usize] {
            let connected = binding.sources.iter().map(|source| self.connect(source, binding.port.access, results));
            inputs.push((binding.port.clone(), connected.collect::<Result<Vec<_>, _>>()?));
            if spec.dynamic_ports {
                self.require_trackable(&binding.sources)?;
            }
        }
        inputs.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));

        let mut fingerprint = Fingerprint {
            kind: spec.name.to_owned(),
            revision: spec.revision,
            params: stage.keyed_params(),
            inputs: Vec::new(),
            views: Vec::new(),
            env: environment(&self.world, stage)?,
            tools: self.world.tools(stage, &graph.pipeline.root)?,
            seed: spec.seeded.then_some(stage.seed),
            device,
            reads: None,
        };
        let mut texts = Vec::new();
        let mut listings = Vec::new();
        let mut has_views = false;
        for (port, connected) in &inputs {
            for input in connected {
                let (digest, listing) = match port.access {
                    Access::Content => {
                        if let Content::Declared(declared) = &input.content {
                            listings.push(Arc::clone(declared));
                        }
                        let unhashed = || StageError::bug(format!("`{}` was not hashed", input.source));
                        (input.digest.known().ok_or_else(unhashed)?, input.is_listing())
                    }
                    Access::Names => {
                        let names = input.names(self.world.store())?;
                        let digest = Digest::of(names.as_bytes());
                        texts.push(names);
                        if let Content::Declared(declared) = &input.content {
                            listings.push(Arc::clone(declared));
                        }
                        (digest, true)
                    }
                    Access::View => {
                        has_views = true;
                        continue;
                    }
                };
                let labels = input.labels.clone();
                fingerprint.inputs.push(FingerprintInput { port: port.name.clone(), labels, digest, listing });
            }
        }
        if has_views {
            fingerprint.views = self.views(stage, &inputs)?;
        }
        if spec.lineage {
            let digest = self.world.keep(graph.lineage(id).text());
            fingerprint.views.push(FingerprintView { name: LINEAGE.to_owned(), digest });
        }
        let (key, (result, foreign)) = self.look_up(stage, &mut fingerprint);
        Ok(Check { fingerprint, key, inputs, result, foreign, names: texts, listings })
    }

    /// Returns the verdict on a checked stage.
    pub fn verdict(&mut self, id: StageId, check: &Check) -> Result<Verdict, StageError> {
        let Some((result, files)) = &check.result else {
            return Ok(Verdict::Stale(self.reasons(id, check)));
        };
        let differences = self.compare_out(id, result, files)?;
        Ok(if differences.is_empty() { Verdict::Fresh } else { Verdict::Cached })
    }

    /// Returns the differences between a stage's output directory and its result.
    pub fn compare_out(
        &mut self,
        id: StageId,
        result: &ActionResult,
        files: &Files,
    ) -> Result<Differences, StageError> {
        self.world.compare_out(&self.graph.pipeline.stages[id.index()], result, files)
    }

    /// Writes the texts that explain the verdict on a stage, and all pending results of planning. Planning itself writes nothing.
    pub fn write(&self, check: &Check) {
        for listing in &check.listings {
            self.world.keep_listing(listing);
        }
        for names in &check.names {
            self.world.keep(names.clone());
        }
        self.write_learnt();
    }

    /// Writes the pending results of planning: projections of tables and splits into parts.
    pub fn write_learnt(&self) {
        self.world.write_pending();
    }

    /// Checks that the external inputs of a stage still match its key.
    pub fn check_unchanged(&mut self, id: StageId, check: &Check) -> Result<(), StageError> {
        let graph = self.graph;
        for source in graph.edges[id.0 as usize].iter().flat_map(|binding| &binding.sources) {
            let (name, digest, path) = match source {
                Source::Artifact { .. } => continue,
                Source::Declared { index } => {
                    let declaration = &graph.pipeline.inputs[*index];
                    let (root, name) = (&graph.pipeline.root, format!("inputs.{}", declaration.name));
                    let path = root.join(&declaration.paths[0]);
                    if let Some(names) = check.unhashed_names(&name) {
                        let listed = self.world.list(declaration, root);
                        if listed.is_ok_and(|listed| listed.names() == names) {
                            continue;
                        }
                        return Err(StageError::input_changed(&path));
                    }
                    let scanned = self.world.scan(declaration, root);
                    let digest = match scanned {
                        Ok(declared) => declared.digest.known(),
                        Err(ScanError::Missing(_)) if self.allow_missing => continue,
                        Err(_) => None,
                    };
                    (name, digest, path)
                }
                Source::ProjectFile { path } => {
                    let full = graph.pipeline.root.join(path);
                    (path.clone(), self.world.hash(&full).ok(), full)
                }
            };
            let mut connected = check.inputs.iter().flat_map(|(_, connected)| connected);
            let differs = |input: &Connected| !input.digest.is_unread() && input.digest.known() != digest;
            if connected.any(|input| input.source == name && differs(input)) {
                return Err(StageError::input_changed(&path));
            }
        }
        Ok(())
    }

    /// Returns the split of a stage into parts, memoized by the inputs of the planning.
    pub fn split(&self, id: StageId, check: &Check, inputs: &Inputs) -> Result<Plan, StageError> {
        let stage = &self.graph.pipeline.stages[id.0 as usize];
        let question = question("plan", stage, &check.inputs);
        if let Some(plan) = self.world.answer(&question) {
            return Ok(plan);
        }
        let planning = Planning { inputs, seed: check.fingerprint.seed };
        let plan = stage.kind.plan(&stage.params, planning)?;
        if let Plan::Parts(_) = plan {
            self.world.remember(question, &plan);
        }
        Ok(plan)
    }

    /// Resolves a source. Its digest is known unless only names are accessed.
    fn connect(&mut self, source: &Source, access: Access, results: &Results) -> Result<Connected, StageError> {
        match source {
            Source::Declared { index } => {
                let name = format!("inputs.{}", self.graph.pipeline.inputs[*index].name);
                let declared = match access {
                    Access::Names => self.declared(*index),
                    Access::Content | Access::View => self.hashed(*index),
                };
                let declared = declared.map_err(|error| match error {
                    ScanError::Missing(MissingInput { name, path }) => {
                        StageError::input(format!("`inputs.{name}`: `{}` is not there", path.display()))
                    }
                    ScanError::Unreadable(error) => error,
                })?;
                let digest = declared.digest;
                Ok(Connected { source: name, labels: Vec::new(), digest, content: Content::Declared(declared) })
            }
            Source::Artifact { stage, output, labels } => {
                let name = &self.graph.pipeline.stages[stage.0 as usize].name;
                let result = results.get(stage);
                let output = result
                    .and_then(|result| result.outputs.artifacts().get(*output))
                    .ok_or_else(|| StageError::bug(format!("stage `{name}` is not done")))?;
                Ok(Connected {
                    source: format!("{name}.{}", output.name),
                    labels: labels.clone(),
                    digest: output.digest.into(),
                    content: Content::Artifact(output.clone()),
                })
            }
            Source::ProjectFile { path } => {
                let full = self.graph.pipeline.root.join(path);
                let digest =
                    self.world.hash(&full).map_err(|error| StageError::io(error.action, &error.path, &error.source))?;
                let content = Content::Declared(Arc::new(Declared::file(full, digest)));
                Ok(Connected { source: path.clone(), labels: Vec::new(), digest: digest.into(), content })
            }
        }
    }

    /// Fails if a folder has entries that a program can read, but that no key can name.
    fn require_trackable(&mut self, sources: &[Source]) -> Result<(), StageError> {
        let pipeline = &self.graph.pipeline;
        let declared = sources.iter().filter_map(|source| match source {
            Source::Declared { index } => Some(&pipeline.inputs[*index]),
            _ => None,
        });
        for input in declared {
            if let Some(entry) = self.world.untrackable(input, &pipeline.root) {
                let message =
                    format!("`inputs.{}`: the program could read {entry}, but no key can name it", input.name);
                return Err(StageError::input(message).hint("rename the file or folder"));
            }
        }
        Ok(())
    }

    fn views(&self, stage: &Stage, inputs: &[(Port, Vec<Connected>)]) -> Result<Vec<FingerprintView>, StageError> {
        let question = question("view", stage, inputs);
        if let Some(known) = self.world.answer(&question) {
            return Ok(known);
        }
        let read = read_inputs(inputs, self.world.store())?;
        let planning = Planning { inputs: &read, seed: None };
        let mut views = Vec::new();
        for view in stage.kind.views(&stage.params, planning)? {
            views.push(FingerprintView { name: view.name, digest: self.world.keep(view.text) });
        }
        self.world.remember(question, &views);
        Ok(views)
    }
}

/// Returns the values of the variables that a stage declares.
fn environment(world: &World<'_>, stage: &Stage) -> Result<BTreeMap<String, Option<String>>, StageError> {
    if let Some(name) = stage.env.iter().chain(&stage.secret_env).find(|name| world.is_not_unicode(name)) {
        let message = format!("the environment variable `{name}` is not UTF-8");
        return Err(StageError::input(message).hint("change its value, or remove it from `env`"));
    }
    Ok(stage.env.iter().map(|name| (name.clone(), world.variable(name).ok())).collect())
}

/// Returns the memo key of a view or a plan, which covers everything it is computed from.
fn question(what: &str, stage: &Stage, inputs: &[(Port, Vec<Connected>)]) -> String {
    let spec = &stage.spec;
    let params = canonical(&serde_json::Value::Object(stage.keyed_params()));
    let seed = spec.seeded.then_some(stage.seed);
    let mut text = format!("{what} 2 {} {} {seed:?} {params}", spec.name, spec.revision);
    for (port, connected) in inputs {
        for input in connected {
            let digest = match &input.content {
                // Only its names may be read.
                Content::Declared(declared) if input.digest.is_unread() => {
                    Digest::of(declared.names().as_bytes()).into()
                }
                _ => input.digest,
            };
            text.push_str(&format!("\n{} {:?} {digest}", port.name, input.labels));
        }
    }
    text
}
