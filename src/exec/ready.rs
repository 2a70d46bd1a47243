//! Which stages may be looked up next: dependencies, and stages that wait for another with the same key.

use std::collections::BTreeSet;

use crate::graph::{Graph, StageId};

/// The order of the stages, their dependencies, and those among them that something has happened to.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The stages in an order in which each stands behind its dependencies.
    order: Vec<StageId>,
    /// The place of each stage in that order.
    rank: Vec<usize>,
    upstream: Vec<Vec<StageId>>,
    downstream: Vec<Vec<StageId>>,
    /// Places of stages that may be ready.
    candidates: BTreeSet<usize>,
    /// Places of stages that wait for whatever stage ends next.
    blocked: BTreeSet<usize>,
}

impl Ready {
    /// All stages are candidates. `upstream` has the dependencies of each stage, `order` every stage behind its own.
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

    /// Those of a pipeline.
    pub fn of(graph: &Graph) -> Self {
        let stages = 0..graph.pipeline.stages.len();
        let upstream = stages.map(|index| graph.dependencies(StageId::from_index(index))).collect();
        Self::new(graph.order.clone(), upstream)
    }

    /// The stages that a stage reads.
    pub fn upstream(&self, stage: StageId) -> &[StageId] {
        &self.upstream[stage.index()]
    }

    /// The stage's place in the order.
    pub fn rank(&self, stage: StageId) -> usize {
        self.rank[stage.index()]
    }

    /// The stage at a place.
    pub fn at(&self, rank: usize) -> StageId {
        self.order[rank]
    }

    /// Takes the first candidate.
    pub fn pop(&mut self) -> Option<StageId> {
        self.candidates.pop_first().map(|rank| self.order[rank])
    }

    /// Whether there are candidates.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// A stage may be ready.
    pub fn add(&mut self, stage: StageId) {
        self.candidates.insert(self.rank[stage.index()]);
    }

    /// A stage cannot go on before another one ends.
    pub fn block(&mut self, stage: StageId) {
        self.blocked.insert(self.rank[stage.index()]);
    }

    /// Those that were blocked may go on.
    pub fn unblock(&mut self) {
        self.candidates.append(&mut self.blocked);
    }

    /// A stage has ended: those that read it may be ready, and those that were blocked may go on.
    pub fn ended(&mut self, stage: StageId) {
        let downstream = self.downstream[stage.index()].iter().map(|stage| self.rank[stage.index()]);
        self.candidates.extend(downstream);
        self.unblock();
    }
}
