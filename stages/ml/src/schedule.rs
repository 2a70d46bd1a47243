//! Learning rate schedules: by validation accuracy, or along a fixed curve.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reduces the learning rate when validation accuracy stops improving, like Keras's `ReduceLROnPlateau`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Number of epochs without improvement before the learning rate is reduced.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub patience: u32,
    /// Factor by which the learning rate is reduced.
    #[schemars(range(max = 0.99), extend("exclusiveMinimum" = 0))]
    pub factor: f64,
    /// Lower bound of the learning rate.
    #[schemars(range(min = 0, max = 10))]
    pub min_learning_rate: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { patience: 3, factor: 0.5, min_learning_rate: 1e-5 }
    }
}

/// The learning rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// Reduce the learning rate when validation accuracy stops improving; see `plateau`.
    #[default]
    Plateau,
    /// Cosine annealing to 0 in every step (Loshchilov, Hutter 2017, without restarts).
    Cosine,
    /// Rise from 1/25 of the learning rate during the first 30 % of the steps, then anneal to nearly 0 (Smith, Topin
    /// 2018), like PyTorch's `OneCycleLR` with its defaults.
    OneCycle,
}

impl Curve {
    /// Whether the learning rate of a step depends on the total number of steps.
    pub fn is_planned(self) -> bool {
        self != Self::Plateau
    }

    /// The factor of the learning rate in step `step` (0-based) of `steps`, the first `warmup` of which rise linearly.
    pub fn factor(self, step: u64, steps: u64, warmup: u64) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let falling =
            |from: f64, to: f64, done: f64| to + (from - to) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done));
        match self {
            Self::Plateau => 1.0,
            Self::Cosine => falling(1.0, 0.0, (step - warmup) as f64 / (steps.max(warmup + 1) - warmup) as f64),
            Self::OneCycle => {
                const FIRST: f64 = 1.0 / 25.0;
                const LAST: f64 = FIRST / 1e4;
                let last = steps.max(2) as f64 - 1.0;
                // The step with the maximum learning rate, as PyTorch computes it.
                let top = 0.3 * steps as f64 - 1.0;
                let step = step as f64;
                if step <= top {
                    falling(FIRST, 1.0, if top > 0.0 { step / top } else { 1.0 })
                } else {
                    falling(1.0, LAST, ((step - top) / (last - top)).min(1.0))
                }
            }
        }
    }
}

/// The minimum increase in accuracy that counts as an improvement.
const MIN_DELTA: f64 = 1e-4;

/// The state of the plateau schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The learning rate of the next epoch.
    pub learning_rate: f64,
    best: Option<f64>,
    waited: u32,
}

impl Schedule {
    /// Starts with a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, best: None, waited: 0 }
    }

    /// Updates the state with an epoch's validation accuracy.
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
    fn the_plateau_schedule_matches_keras() {
        let plateau = Plateau { patience: 2, factor: 0.1, min_learning_rate: 2e-5 };
        let mut schedule = Schedule::new(1e-3);
        let mut rates = Vec::new();
        for accuracy in [0.5, 0.50005, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.1, 0.1, 0.1] {
            schedule.observe(&plateau, accuracy);
            rates.push((schedule.learning_rate * 1e6).round());
        }
        assert_eq!(rates, [1000.0, 1000.0, 1000.0, 1000.0, 100.0, 100.0, 20.0, 20.0, 20.0, 20.0, 20.0]);
    }

    // import torch
    // m = torch.nn.Linear(1, 1); o = torch.optim.SGD(m.parameters(), 1e-3)
    // s = torch.optim.lr_scheduler.OneCycleLR(o, 1e-3, total_steps=40, cycle_momentum=False)
    //   or SequentialLR(o, [LinearLR(o, 1 / 8, 1.0, 7), CosineAnnealingLR(o, 32)], [8])
    // r = []
    // for i in range(40): r.append(o.param_groups[0]["lr"]); o.step(); s.step()
    #[test]
    fn curves_match_pytorch() {
        let rates = |curve: Curve, warmup: u64, steps: &[u64]| -> Vec<f64> {
            steps.iter().map(|step| 1e-3 * curve.factor(*step, 40, warmup)).collect()
        };
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
        };
        near(
            rates(Curve::OneCycle, 0, &[0, 5, 11, 12, 20, 30, 39]),
            &[
                4e-5,
                0.000451688877628823,
                1e-3,
                0.0009968561175222016,
                0.0007660169741935151,
                0.0002339870258064848,
                4e-9,
            ],
        );
        near(
            rates(Curve::Cosine, 8, &[0, 4, 7, 8, 9, 20, 30, 39]),
            &[
                0.000125,
                0.000625,
                1e-3,
                1e-3,
                0.0009975923633360985,
                0.0006913417161825447,
                0.00022221488349019898,
                2.407636663901591e-06,
            ],
        );
        assert_eq!(rates(Curve::Plateau, 4, &[0, 3, 4, 39]), [2.5e-4, 1e-3, 1e-3, 1e-3]);
    }
}
