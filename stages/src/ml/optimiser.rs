//! Adam as in Keras, with accessible moments.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout};
use rayon::prelude::*;

use crate::ml::kernels::{AdamStep, Level, adam};
use crate::ml::weights::Parameter;
use crate::ml::weights::Weights;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-7;

/// Weights per task.
const CHUNK: usize = 16_384;

/// Adam (Kingma, Ba 2015) as in Keras: ε is added to the square root of the second moment before bias correction.
#[derive(Debug, Clone)]
pub struct Adam {
    step: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Adam {
    /// Moments of 0 for `count` weights.
    pub fn new(count: usize) -> Self {
        Self { step: 0, first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// The number of steps so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The first and second moments, in parameter order.
    pub fn moments(&self) -> (&[f32], &[f32]) {
        (&self.first, &self.second)
    }

    /// Restores saved moments.
    pub fn from_moments(step: u64, first: Vec<f32>, second: Vec<f32>) -> Self {
        Self { step, first, second }
    }

    /// The coefficients of step `step`, 1-based.
    pub fn numbers(learning_rate: f64, step: u64) -> AdamStep {
        let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
        AdamStep {
            alpha: (learning_rate * correction(BETA2).sqrt() / correction(BETA1)) as f32,
            rate1: (1.0 - BETA1) as f32,
            rate2: (1.0 - BETA2) as f32,
            epsilon: EPSILON as f32,
        }
    }

    /// Updates the weights with a gradient.
    pub fn step(
        &mut self,
        level: Level,
        learning_rate: f64,
        parameters: &[Parameter],
        gradient: &[f32],
        weights: &Weights,
    ) -> candle_core::Result<()> {
        self.step += 1;
        let step = Self::numbers(learning_rate, self.step);
        for (parameter, (_, tensor)) in parameters.iter().zip(weights.iter()) {
            let range = parameter.range.clone();
            let moments = RefCell::new((&mut self.first[range.clone()], &mut self.second[range.clone()]));
            tensor.inplace_op1(&Move { level, step, gradient: &gradient[range], moments })?;
        }
        Ok(())
    }
}

/// One step for one tensor, as a candle operation in place.
struct Move<'a> {
    level: Level,
    step: AdamStep,
    gradient: &'a [f32],
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for Move<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(weights), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("weights must be contiguous f32");
        };
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        let gradient = self.gradient.par_chunks(CHUNK);
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        let (level, step) = (self.level, self.step);
        weights[start..end]
            .par_chunks_mut(CHUNK)
            .zip(gradient)
            .zip(moments)
            .for_each(|((weights, gradient), (first, second))| adam(level, step, gradient, first, second, weights));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::op::{Initial, ParameterConfig};

    // import numpy as np
    // w, m, v = np.array([0.5, -1.0]), np.zeros(2), np.zeros(2)
    // for t, g in enumerate([np.array([0.25, -3.0]), np.array([-1.0, 1e-6])], 1):   # Keras 3.15, optimizers/adam.py
    //     m += (g - m) * (1 - 0.9); v += (g * g - v) * (1 - 0.999)
    //     w -= m * (1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)) / (np.sqrt(v) + 1e-7)
    // np.set_printoptions(precision=17); print(w)
    #[test]
    fn two_steps_match_keras() {
        let config = ParameterConfig::vector("weight", 2, Initial::Zeros);
        let parameters = [Parameter { name: "w".into(), config, range: 0..2 }];
        let weights = Weights::from_values(parameters.iter(), [vec![0.5f32, -1.0]].into_iter()).unwrap();
        let mut adam = Adam::new(2);
        for gradient in [[0.25, -3.0], [-1.0, 1e-6]] {
            adam.step(Level::detect(), 1e-3, &parameters, &gradient, &weights).unwrap();
        }
        weights
            .with_slices(|slices| {
                for (ours, keras) in slices[0].iter().zip([0.49955951442646496, -0.9983299437547806]) {
                    assert!((f64::from(*ours) - keras).abs() < 1e-7, "{ours} {keras}");
                }
            })
            .unwrap();
        assert_eq!(adam.steps(), 2);
    }
}
