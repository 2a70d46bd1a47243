//! Stochastic gradient descent with momentum as in PyTorch.

use super::{Optimiser, Update};
use hamflow_kernels::network::momentum;

/// v ← momentum · v + gradient + weight_decay · weights; weights ← weights − learning rate · v.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// The decay of weights with two or more dimensions.
    pub weight_decay: f64,
    /// The share of the previous step's direction.
    pub momentum: f64,
}

impl Optimiser for Sgd {
    fn vectors(&self) -> usize {
        1
    }

    fn update(&self, update: Update<'_>, state: &mut [&mut [f32]], weights: &mut [f32]) {
        let [velocity] = state else { unreachable!("SGD has one moment") };
        let decay = if update.decays { self.weight_decay as f32 } else { 0.0 };
        let coefficients = [self.momentum as f32, decay, update.learning_rate as f32];
        momentum(update.level, coefficients, update.gradient, velocity, weights);
    }
}
