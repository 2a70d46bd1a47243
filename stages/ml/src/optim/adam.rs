//! Adam as in Keras.

use super::{Optimiser, Update};
use hamflow_kernels::network::{AdamStep, adam};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-7;

/// Adam (Kingma, Ba 2015) as in Keras: ε is added to the square root of the second moment before bias correction.
#[derive(Debug, Clone, Copy)]
pub struct Adam;

impl Adam {
    /// The coefficients of step `step`, 1-based.
    pub fn coefficients(learning_rate: f64, step: u64) -> AdamStep {
        let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
        AdamStep {
            alpha: (learning_rate * correction(BETA2).sqrt() / correction(BETA1)) as f32,
            rate1: (1.0 - BETA1) as f32,
            rate2: (1.0 - BETA2) as f32,
            epsilon: EPSILON as f32,
        }
    }
}

impl Optimiser for Adam {
    fn vectors(&self) -> usize {
        2
    }

    fn update(&self, update: Update<'_>, state: &mut [&mut [f32]], weights: &mut [f32]) {
        let [first, second] = state else { unreachable!("Adam has two moments") };
        let step = Self::coefficients(update.learning_rate, update.step);
        adam(update.level, step, update.gradient, first, second, weights);
    }
}
