//! Connects the stages of a [`Pipeline`]: every reference resolved, every type checked, no cycle.

mod columns;
mod order;
pub mod render;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use hamflow_stage_api::Port;

pub use resolve::candidate_paths;

use crate::config::near::{near, there_is};
use crate::config::{Diagnostic, Mistake, Mistakes, Pipeline, Stage};

/// Names a stage by its place in [`Pipeline::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(pub u32);

impl StageId {
    /// The place in [`Pipeline::stages`] and [`Graph::edges`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The stage at this place.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a pipeline has fewer than 2^32 stages"))
    }
}

/// A pipeline whose edges are known.
pub struct Graph {
    /// The pipeline; `pipeline.stages[id.0]` is the stage `id`.
    pub pipeline: Pipeline,
    /// What each stage reads, by stage.
    pub edges: Vec<Vec<Binding>>,
    /// Every stage after the stages whose artifacts it reads; ties in the order of the file.
    pub order: Vec<StageId>,
}

/// A port and what is connected to it.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The port.
    pub port: Port,
    /// In the order written; gathered stages sorted by their axis values.
    pub sources: Vec<Source>,
}

/// What an edge comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `pipeline.inputs[index]`.
    Declared {
        /// Index into the pipeline's inputs.
        index: usize,
    },
    /// An output of a stage.
    Artifact {
        /// The stage that makes it.
        stage: StageId,
        /// Index into the stage's outputs.
        output: usize,
        /// The axis values, for gathered stages; else empty.
        labels: Vec<(String, String)>,
    },
    /// A file of the project that an argument names, relative to the root.
    ProjectFile {
        /// With `/`, without `.` and `..`.
        path: String,
    },
}

/// Resolves every reference of `pipeline`.
///
/// Fails with every mistake that was found, sorted by place.
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

/// The stages that some bindings read.
fn stages_of(bindings: &[Binding]) -> impl Iterator<Item = usize> {
    bindings.iter().flat_map(|binding| &binding.sources).filter_map(|source| match source {
        Source::Artifact { stage, .. } => Some(stage.index()),
        _ => None,
    })
}

/// Names a cycle, at the reference of its first stage that closes it.
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
        .hint("a stage can only read what is made before it; remove one of these references".to_owned())
}

impl Graph {
    /// The stage of this id.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.pipeline.stages[id.index()]
    }

    /// What the stage reads.
    pub fn bindings(&self, id: StageId) -> &[Binding] {
        &self.edges[id.index()]
    }

    /// The stage of exactly this name: `train`, or `train[lr=0.001]`.
    pub fn find(&self, name: &str) -> Option<StageId> {
        self.pipeline.stages.iter().position(|stage| stage.name == name).map(StageId::from_index)
    }

    /// The stage of this name, or all combinations of a matrix where it is the name in the file (`train`, `train[*]`).
    pub fn find_all(&self, name: &str) -> Vec<StageId> {
        let base = name.strip_suffix("[*]").unwrap_or(name);
        let stages = self.pipeline.stages.iter().enumerate();
        stages
            .filter(|(_, stage)| stage.name == name || stage.base == base)
            .map(|(index, _)| StageId::from_index(index))
            .collect()
    }

    /// The stages whose artifacts `id` reads, each once, in the order of the file.
    pub fn dependencies(&self, id: StageId) -> Vec<StageId> {
        let stages: BTreeSet<usize> = stages_of(self.bindings(id)).collect();
        stages.into_iter().map(StageId::from_index).collect()
    }

    /// The stages with everything before them, in the order of [`order`](Self::order).
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

    /// The stages that read an artifact of `id`, each once, in the order of the file.
    pub fn dependents(&self, id: StageId) -> Vec<StageId> {
        let reads = |bindings: &[Binding]| stages_of(bindings).any(|stage| stage == id.index());
        let readers = self.edges.iter().enumerate().filter(|(_, bindings)| reads(bindings));
        readers.map(|(index, _)| StageId::from_index(index)).collect()
    }

    /// Exactly the stages that `patterns` say, in the order of [`order`](Self::order); all stages for no pattern.
    ///
    /// `train` is the stage alone (of a matrix, every combination), `+train` the stage with everything upstream,
    /// `train+` with everything downstream, `+train+` with both. To run a stage, take `+train`: nothing is added here.
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
        let hint = match near(name, names.iter().copied().chain(combinations)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => there_is("stage", names),
        };
        Diagnostic::new(format!("no stage `{name}`")).hint(hint)
    }
}
