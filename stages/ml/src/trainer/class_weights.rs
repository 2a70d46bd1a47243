//! Class weights of the loss.

use crate::recipe::{ClassWeights, Recipe};

impl Recipe {
    /// The weight of each of `count` classes, given the classes of the training images.
    pub fn class_weights(&self, classes: &[usize], count: usize) -> Vec<f64> {
        let rows: Vec<usize> =
            (0..count).map(|class| classes.iter().filter(|&&other| other == class).count()).collect();
        let with_rows = rows.iter().filter(|rows| **rows > 0).count();
        // The weight of a class without rows is never used.
        let each = |weight: &dyn Fn(usize) -> f64| -> Vec<f64> {
            rows.iter().map(|rows| if *rows > 0 { weight(*rows) } else { 1.0 }).collect()
        };
        match self.class_weights {
            ClassWeights::None => vec![1.0; count],
            ClassWeights::Balanced => each(&|rows| classes.len() as f64 / (with_rows * rows) as f64),
            ClassWeights::EffectiveNumber => {
                let beta = self.effective_number_beta;
                let weight = |rows: usize| (1.0 - beta) / (1.0 - libm::pow(beta, rows as f64));
                let sum: f64 = rows.iter().filter(|rows| **rows > 0).map(|rows| weight(*rows)).sum();
                let mean = sum / with_rows as f64;
                each(&|rows| weight(rows) / mean)
            }
        }
    }
}
