//! Which parts of a plan train, as in `network/trainable.rs`.

use crate::cuda::plan::Plan;

/// What the backward pass computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trainable {
    /// For each step: whether its weights train.
    pub(super) steps: Vec<bool>,
    /// For each normalisation: whether its weights train. A frozen one uses its running statistics.
    pub(super) norms: Vec<bool>,
    /// For each map: whether its gradient is needed.
    pub(super) wanted: Vec<bool>,
}

impl Trainable {
    /// Everything but the parameters that are frozen; `frozen` may be empty.
    pub(super) fn new(plan: &Plan, frozen: &[bool]) -> Self {
        let trains = |parameter: usize| !frozen.get(parameter).copied().unwrap_or(false);
        let steps: Vec<bool> = plan.steps.iter().map(|step| step.parameters.clone().any(trains)).collect();
        let of_norm = |parameter: usize| (parameter..parameter + 2).any(trains);
        let norms: Vec<bool> = plan.norms.iter().map(|norm| of_norm(norm.parameter)).collect();
        let mut wanted = vec![false; plan.maps.len()];
        for (step, trains) in plan.steps.iter().zip(&steps) {
            let norm_trains = plan.maps[step.output].norm.is_some_and(|norm| norms[norm]);
            wanted[step.output] = *trains || norm_trains || step.inputs.iter().any(|map| wanted[*map]);
        }
        Self { steps, norms, wanted }
    }

    /// No weights, and the maps that depend on a map.
    pub(super) fn after(plan: &Plan, map: usize) -> Self {
        let mut wanted = vec![false; plan.maps.len()];
        wanted[map] = true;
        for step in &plan.steps {
            wanted[step.output] |= step.inputs.iter().any(|map| wanted[*map]);
        }
        Self { steps: vec![false; plan.steps.len()], norms: vec![false; plan.norms.len()], wanted }
    }
}
