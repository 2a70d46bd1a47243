//! Lowers the learning rate when validation accuracy stops rising.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate falls when validation accuracy no longer rises, as Keras's `ReduceLROnPlateau` does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Epochs without a rise before the rate falls.
    pub patience: u32,
    /// What the rate is multiplied with.
    pub factor: f64,
    /// The rate never falls below this.
    pub min_learning_rate: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { patience: 3, factor: 0.5, min_learning_rate: 1e-5 }
    }
}

/// Accuracy that a rise must exceed.
const MIN_DELTA: f64 = 1e-4;

/// The learning rate and what led to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The rate of the next epoch.
    pub learning_rate: f64,
    best: Option<f64>,
    waited: u32,
}

impl Schedule {
    /// Starts at a rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, best: None, waited: 0 }
    }

    /// Takes note of an epoch's validation accuracy.
    pub fn observe(&mut self, plateau: &Plateau, accuracy: f64) {
        if self.best.is_none_or(|best| accuracy > best + MIN_DELTA) {
            self.best = Some(accuracy);
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if self.waited >= plateau.patience && self.learning_rate > plateau.min_learning_rate {
            self.learning_rate = (self.learning_rate * plateau.factor).max(plateau.min_learning_rate);
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import keras, numpy as np   # Keras 3: the callback alone, with a stand-in for the model
    // class O: learning_rate = keras.Variable(1e-3)
    // class M: optimizer = O()
    // c = keras.callbacks.ReduceLROnPlateau("v", factor=0.1, patience=2, mode="max", min_delta=1e-4, min_lr=2e-5)
    // c.set_model(M()); c.on_train_begin()
    // for i, a in enumerate([.5, .50005, .6, .6, .6, .6, .6, .7, .1, .1, .1]):
    //     c.on_epoch_end(i, {"v": a}); print(float(M.optimizer.learning_rate))
    #[test]
    fn the_rate_falls_as_keras_lets_it_fall() {
        let plateau = Plateau { patience: 2, factor: 0.1, min_learning_rate: 2e-5 };
        let mut schedule = Schedule::new(1e-3);
        let mut rates = Vec::new();
        for accuracy in [0.5, 0.50005, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.1, 0.1, 0.1] {
            schedule.observe(&plateau, accuracy);
            rates.push((schedule.learning_rate * 1e6).round());
        }
        assert_eq!(rates, [1000.0, 1000.0, 1000.0, 1000.0, 100.0, 100.0, 20.0, 20.0, 20.0, 20.0, 20.0]);
    }
}
