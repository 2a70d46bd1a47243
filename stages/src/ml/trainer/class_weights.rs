//! How much an image of each class counts in the loss.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Recipe;

/// How much an image of each class counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// All images count the same.
    #[default]
    None,
    /// All classes count the same: an image counts rows / (classes · rows of its class), as in scikit-learn.
    Balanced,
    /// As if each further image of a class said less than the one before it (Cui et al., CVPR 2019): an image counts
    /// (1 − β) / (1 − βⁿ) for the n of its class, scaled so that the classes' weights have a mean of 1.
    EffectiveNumber,
}

impl Recipe {
    /// What an image of each of `count` classes counts, where the training images have these `classes`.
    pub fn class_weights(&self, classes: &[usize], count: usize) -> Vec<f64> {
        let rows = |class| classes.iter().filter(|&&other| other == class).count().max(1);
        match self.class_weights {
            ClassWeights::None => vec![1.0; count],
            ClassWeights::Balanced => {
                (0..count).map(|class| classes.len() as f64 / (count * rows(class)) as f64).collect()
            }
            ClassWeights::EffectiveNumber => {
                let beta = self.effective_number_beta;
                let weight = |class| (1.0 - beta) / (1.0 - libm::pow(beta, rows(class) as f64));
                let weights: Vec<f64> = (0..count).map(weight).collect();
                let mean = weights.iter().sum::<f64>() / count as f64;
                weights.iter().map(|weight| weight / mean).collect()
            }
        }
    }
}
