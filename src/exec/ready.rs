//! The stages that may be looked up next: dependencies, and stages blocked on another with the same key.

use std::collections::BTreeSet;

use crate::graph::{Graph, StageId};

/// The order of the stages, their dependencies, and the candidates for the next lookup.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The stages in topological order.
    order: Vec<StageId>,
    /// The rank of each stage: its position in that order.
    rank: Vec<usize>,
    upstream: Vec<Vec<StageId>>,
    downstream: Vec<Vec<StageId>>,
    /// The ranks of stages that may be ready.
    candidates: BTreeSet<usize>,
    /// The ranks of stages that wait until any other stage ends.
    blocked: BTreeSet<usize>,
}

impl Ready {
    /// Creates a set with all stages as candidates. `upstream` lists the dependencies of each stage; `order` is topological.
    pub fn new(order: Vec<StageId>, upstream: Vec<Vec<StageId>>) -> Self {
        let mut rank = vec![0; order.len()];
        for (place, stage) in order.iter().enumerate() {
            rank[stage.index()] = place;
        }
        let mut downstream = vec![Vec::new(); order.len()];
        for (index, upstream) in upstream.iter().enumerate() {
            for stage in upstream {
                downstream[stage.index()].push(StageId::from_index(index));
            }
        }
        let candidates = (0..order.len()).collect();
        Self { order, rank, upstream, downstream, candidates, blocked: BTreeSet::new() }
    }

    /// Creates the set for a pipeline.
    pub fn of(graph: &Graph) -> Self {
        let stages = 0..graph.pipeline.stages.len();
        let upstream = stages.map(|index| graph.dependencies(StageId::from_index(index))).collect();
        Self::new(graph.order.clone(), upstream)
    }

    /// Returns the upstream stages of a stage.
    pub fn upstream(&self, stage: StageId) -> &[StageId] {
        &self.upstream[stage.index()]
    }

    /// Returns the rank of a stage.
    pub fn rank(&self, stage: StageId) -> usize {
        self.rank[stage.index()]
    }

    /// Returns the stage with a rank.
    pub fn at(&self, rank: usize) -> StageId {
        self.order[rank]
    }

    /// Removes and returns the first candidate.
    pub fn pop(&mut self) -> Option<StageId> {
        self.candidates.pop_first().map(|rank| self.order[rank])
    }

    /// Whether there are candidates.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Makes a stage a candidate.
    pub fn add(&mut self, stage: StageId) {
        self.candidates.insert(self.rank[stage.index()]);
    }

    /// Blocks a stage until another one ends.
    pub fn block(&mut self, stage: StageId) {
        self.blocked.insert(self.rank[stage.index()]);
    }

    /// Makes all blocked stages candidates again.
    pub fn unblock(&mut self) {
        self.candidates.append(&mut self.blocked);
    }

    /// Records the end of a stage: its downstream stages and all blocked stages become candidates.
    pub fn ended(&mut self, stage: StageId) {
        let downstream = self.downstream[stage.index()].iter().map(|stage| self.rank[stage.index()]);
        self.candidates.extend(downstream);
        self.unblock();
    }
}
