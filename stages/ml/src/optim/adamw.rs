//! AdamW as in PyTorch.

use super::{Optimiser, Update};
use hamflow_kernels::network::{AdamStep, adam, scale};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Adam with decoupled weight decay (Loshchilov, Hutter 2019): weights shrink by `learning rate · weight_decay`, and ε is
/// added to the bias-corrected root of the second moment.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// The decay of weights with two or more dimensions.
    pub weight_decay: f64,
}

impl AdamW {
    /// The coefficients of step `step`, 1-based.
    pub fn coefficients(learning_rate: f64, step: u64) -> AdamStep {
        let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
        // √(v / c) + ε = (√v + ε √c) / √c.
        let root = correction(BETA2).sqrt();
        AdamStep {
            alpha: (learning_rate * root / correction(BETA1)) as f32,
            rate1: (1.0 - BETA1) as f32,
            rate2: (1.0 - BETA2) as f32,
            epsilon: (EPSILON * root) as f32,
        }
    }

    /// The factor by which the weights that decay shrink in a step.
    pub fn shrinkage(&self, learning_rate: f64) -> f32 {
        (1.0 - learning_rate * self.weight_decay) as f32
    }
}

impl Optimiser for AdamW {
    fn vectors(&self) -> usize {
        2
    }

    fn update(&self, update: Update<'_>, state: &mut [&mut [f32]], weights: &mut [f32]) {
        let [first, second] = state else { unreachable!("AdamW has two moments") };
        let Update { level, step, learning_rate, decays, gradient } = update;
        if decays && self.weight_decay > 0.0 {
            scale(level, self.shrinkage(learning_rate), weights);
        }
        adam(level, Self::coefficients(learning_rate, step), gradient, first, second, weights);
    }
}
