//! The dependency graph: connects the stages of a [`Pipeline`], resolves references, checks types and rejects cycles.

mod columns;
mod lineage;
mod order;
pub mod render;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use hamflow_stage_api::{
    Port,
    near_miss::{closest, there_is},
};

use resolve::candidate_paths;

use crate::config::{Diagnostic, Mistake, Mistakes, Pipeline, Stage};

/// Identifies a stage by its index in [`Pipeline::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(pub u32);

impl StageId {
    /// The index in [`Pipeline::stages`] and [`Graph::edges`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The stage at an index.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a pipeline has fewer than 2^32 stages"))
    }
}

/// A pipeline with resolved dependencies.
pub struct Graph {
    /// The pipeline. The stage `id` is `pipeline.stages[id.index()]`.
    pub pipeline: Pipeline,
    /// The input bindings of each stage.
    pub edges: Vec<Vec<Binding>>,
    /// The stages in topological order; ties are in file order.
    pub order: Vec<StageId>,
}

/// A port and the sources connected to it.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The port.
    pub port: Port,
    /// The sources in the order of the file; gathered stages are sorted by their axis values.
    pub sources: Vec<Source>,
}

/// The source of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A declared input: `pipeline.inputs[index]`.
    Declared {
        /// Index into the pipeline's inputs.
        index: usize,
    },
    /// An output of a stage.
    Artifact {
        /// The stage that produces it.
        stage: StageId,
        /// Index into the stage's outputs.
        output: usize,
        /// The axis values of a gathered stage; otherwise empty.
        labels: Vec<(String, String)>,
    },
    /// A project file named by an argument, relative to the project root.
    ProjectFile {
        /// A normalized path with `/` as the separator.
        path: String,
    },
}

/// Resolves all references of a pipeline.
///
/// Returns all errors found, sorted by location.
pub fn build(pipeline: Pipeline) -> Result<Graph, Vec<Diagnostic>> {
    let mut mistakes = Mistakes::default();
    let edges = resolve::resolve(&pipeline, &mut mistakes);
    let dependencies: Vec<BTreeSet<usize>> = edges.iter().map(|bindings| stages_of(bindings).collect()).collect();
    let order = order::topological(&dependencies);
    if order.is_none() {
        for cycle in order::cycles(&dependencies) {
            mistakes.push(cycle_mistake(&pipeline, &edges, &cycle));
        }
    }
    if let Some(order) = &order {
        columns::check(&pipeline, &edges, order, &mut mistakes);
    }
    match order {
        Some(order) if mistakes.is_empty() => {
            Ok(Graph { pipeline, edges, order: order.into_iter().map(StageId::from_index).collect() })
        }
        _ => Err(mistakes.into_diagnostics(&pipeline.sources)),
    }
}

/// The stages that the bindings read from.
fn stages_of(bindings: &[Binding]) -> impl Iterator<Item = usize> {
    bindings.iter().flat_map(|binding| &binding.sources).filter_map(|source| match source {
        Source::Artifact { stage, .. } => Some(stage.index()),
        _ => None,
    })
}

/// Reports a cycle at the reference of its first stage that closes it.
fn cycle_mistake(pipeline: &Pipeline, edges: &[Vec<Binding>], cycle: &[usize]) -> Mistake {
    let (first, last) = (cycle[0], cycle[cycle.len() - 2]);
    let reads = |port: &str| {
        edges[first]
            .iter()
            .any(|binding| binding.port.name == port && stages_of(std::slice::from_ref(binding)).any(|id| id == last))
    };
    let stage = &pipeline.stages[first];
    let base = &pipeline.stages[last].base;
    let span = stage
        .references
        .iter()
        .filter(|(port, _)| reads(&port.name))
        .flat_map(|(_, references)| references)
        .find(|reference| reference.text.starts_with(base.as_str()))
        .map_or(stage.span, |reference| reference.span);
    let names: Vec<&str> = cycle.iter().map(|&id| pipeline.stages[id].base.as_str()).collect();
    Mistake::new(span, format!("the stages form a cycle: `{}`", names.join(" -> ")))
        .hint("remove one of these references".to_owned())
}

impl Graph {
    /// The paths that arguments of stages may refer to, and whether each was a file when the graph was built: what is found there is an
    /// input.
    pub fn looked_for(&self) -> impl Iterator<Item = (PathBuf, bool)> {
        let stages = self.pipeline.stages.iter().zip(&self.edges);
        stages.flat_map(move |(stage, edges)| {
            candidate_paths(&self.pipeline, stage).into_iter().map(move |path| {
                let full = self.pipeline.root.join(&path);
                let source = Source::ProjectFile { path };
                (full, edges.iter().any(|binding| binding.sources.contains(&source)))
            })
        })
    }

    /// The stage with this ID.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.pipeline.stages[id.index()]
    }

    /// The input bindings of a stage.
    pub fn bindings(&self, id: StageId) -> &[Binding] {
        &self.edges[id.index()]
    }

    /// Finds a stage by its exact name: `train`, or `train[lr=0.001]`.
    pub fn find(&self, name: &str) -> Option<StageId> {
        self.pipeline.stages.iter().position(|stage| stage.name == name).map(StageId::from_index)
    }

    /// Finds a stage by name, or all combinations of a matrix by their common name (`train`, `train[*]`).
    pub fn find_all(&self, name: &str) -> Vec<StageId> {
        let base = name.strip_suffix("[*]").unwrap_or(name);
        let stages = self.pipeline.stages.iter().enumerate();
        stages
            .filter(|(_, stage)| stage.name == name || stage.base == base)
            .map(|(index, _)| StageId::from_index(index))
            .collect()
    }

    /// The direct dependencies of a stage, without duplicates, in file order.
    pub fn dependencies(&self, id: StageId) -> Vec<StageId> {
        let stages: BTreeSet<usize> = stages_of(self.bindings(id)).collect();
        stages.into_iter().map(StageId::from_index).collect()
    }

    /// The stages and all their transitive dependencies, in topological [`order`](Self::order).
    pub fn upstream(&self, stages: &[StageId]) -> Vec<StageId> {
        let mut wanted = vec![false; self.edges.len()];
        let mut todo: Vec<usize> = stages.iter().map(|id| id.index()).collect();
        while let Some(index) = todo.pop() {
            if !std::mem::replace(&mut wanted[index], true) {
                todo.extend(stages_of(&self.edges[index]));
            }
        }
        self.order.iter().copied().filter(|id| wanted[id.index()]).collect()
    }

    /// The direct dependents of a stage, without duplicates, in file order.
    pub fn dependents(&self, id: StageId) -> Vec<StageId> {
        let reads = |bindings: &[Binding]| stages_of(bindings).any(|stage| stage == id.index());
        let readers = self.edges.iter().enumerate().filter(|(_, bindings)| reads(bindings));
        readers.map(|(index, _)| StageId::from_index(index)).collect()
    }

    /// Selects exactly the stages that match `patterns`, in topological [`order`](Self::order); all stages if there are no patterns.
    ///
    /// `train` selects the stage (or all combinations of a matrix), `+train` adds everything upstream, `train+` adds everything
    /// downstream, `+train+` adds both. Dependencies are not added implicitly: to run a stage, select `+train`.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<StageId>, Diagnostic> {
        if patterns.is_empty() {
            return Ok(self.order.clone());
        }
        let dependencies: Vec<BTreeSet<usize>> =
            self.edges.iter().map(|bindings| stages_of(bindings).collect()).collect();
        let dependents = order::reversed(&dependencies);
        let mut selected = BTreeSet::new();
        for pattern in patterns {
            let (upstream, name) = match pattern.strip_prefix('+') {
                Some(rest) => (true, rest),
                None => (false, pattern.as_str()),
            };
            let (downstream, name) = match name.strip_suffix('+') {
                Some(rest) => (true, rest),
                None => (false, name),
            };
            let stages = self.find_all(name);
            if stages.is_empty() {
                return Err(self.unknown(name));
            }
            for id in stages {
                selected.insert(id.index());
                if upstream {
                    selected.extend(order::closure(&dependencies, id.index()));
                }
                if downstream {
                    selected.extend(order::closure(&dependents, id.index()));
                }
            }
        }
        Ok(self.order.iter().copied().filter(|id| selected.contains(&id.index())).collect())
    }

    fn unknown(&self, name: &str) -> Diagnostic {
        let mut names: Vec<&str> = self.pipeline.stages.iter().map(|stage| stage.base.as_str()).collect();
        names.dedup();
        let combinations = self.pipeline.stages.iter().map(|stage| stage.name.as_str());
        let hint = match closest(name, names.iter().copied().chain(combinations)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => there_is("stage", names),
        };
        Diagnostic::new(format!("no stage `{name}`")).hint(hint)
    }
}
