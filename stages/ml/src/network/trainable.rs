//! Which parts of a network train: frozen weights need no gradient, and neither do the maps before the first weight that
//! trains.

use std::ops::Range;

use super::Network;

/// What the backward pass computes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trainable {
    /// For each step: whether its weights train.
    pub(super) steps: Vec<bool>,
    /// For each normalisation: whether its weights train. A frozen one uses its running statistics, as in Keras.
    pub(super) norms: Vec<bool>,
    /// For each map: whether its gradient is needed.
    pub(super) wanted: Vec<bool>,
    /// The ranges of the gradients of frozen parameters.
    frozen: Vec<Range<usize>>,
}

impl Trainable {
    /// Everything but the parameters that are frozen; `frozen` may be empty.
    pub(super) fn new(network: &Network, frozen: &[bool]) -> Self {
        let lowered = &network.lowered;
        let trains = |parameter: usize| !frozen.get(parameter).copied().unwrap_or(false);
        let steps: Vec<bool> = lowered.steps.iter().map(|step| step.parameters.clone().any(trains)).collect();
        let norms: Vec<bool> =
            lowered.norms.iter().map(|norm| (norm.parameters..norm.parameters + 2).any(trains)).collect();
        let mut wanted = vec![false; lowered.maps.len()];
        for (step, trains) in lowered.steps.iter().zip(&steps) {
            let norm_trains = lowered.maps[step.output].norm.is_some_and(|norm| norms[norm]);
            wanted[step.output] = *trains || norm_trains || step.inputs.iter().any(|map| wanted[*map]);
        }
        let parameters = lowered.parameters.iter().zip(frozen).filter(|(_, frozen)| **frozen);
        Self { steps, norms, wanted, frozen: parameters.map(|(parameter, _)| parameter.range.clone()).collect() }
    }
    /// Sets the gradients of frozen parameters to 0.
    pub(super) fn clear_frozen(&self, gradient: &mut [f32]) {
        self.frozen.iter().for_each(|range| gradient[range.clone()].fill(0.0));
    }
}
