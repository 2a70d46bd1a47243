//! Optimisers: they move the weights along the gradient, and keep a state that training resumes from.

mod adam;
mod adamw;
mod sgd;

use candle_core::Tensor;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use adam::Adam;
pub use adamw::AdamW;
pub use sgd::Sgd;

use crate::weights::{Parameter, Weights, change};
use hamflow_kernels::network::Level;

/// Weights per task.
const CHUNK: usize = 16_384;

/// The optimiser, as a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    /// Adam (Kingma, Ba 2015) as in Keras.
    #[default]
    Adam,
    /// Adam with decoupled weight decay (Loshchilov, Hutter 2019) as in PyTorch.
    AdamW,
    /// Stochastic gradient descent with momentum as in PyTorch.
    Sgd,
}

/// The options of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimiserConfig {
    /// The optimiser.
    pub kind: OptimiserKind,
    /// The decay of weights with two or more dimensions, for AdamW and SGD.
    pub weight_decay: f64,
    /// The momentum of SGD.
    pub momentum: f64,
}

/// The state of an optimiser: what it needs besides the weights and the gradient. Its meaning is the optimiser's own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OptimiserState {
    /// The number of steps so far.
    pub steps: u64,
    /// For each parameter, the number of steps in which it trained; empty if it trained in all.
    pub counts: Vec<u64>,
    /// Vectors with one value per weight.
    pub moments: Vec<Vec<f32>>,
}

impl OptimiserState {
    /// All zeros, with this many vectors for `count` weights.
    pub fn zeros(vectors: usize, count: usize) -> Self {
        Self { moments: vec![vec![0.0; count]; vectors], ..Self::default() }
    }
}

/// One step for the weights of one task.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// The CPU features to use.
    pub level: Level,
    /// The number of the step, 1-based.
    pub step: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Whether the weights decay.
    pub decays: bool,
    /// The gradient.
    pub gradient: &'a [f32],
}

/// An optimiser.
pub trait Optimiser: Send + Sync {
    /// The number of vectors of its state.
    fn vectors(&self) -> usize;

    /// Updates some weights and their part of the state.
    fn update(&self, update: Update<'_>, state: &mut [&mut [f32]], weights: &mut [f32]);
}

impl OptimiserConfig {
    /// The optimiser.
    pub fn build(self) -> Box<dyn Optimiser> {
        let Self { kind, weight_decay, momentum } = self;
        match kind {
            OptimiserKind::Adam => Box::new(Adam),
            OptimiserKind::AdamW => Box::new(AdamW { weight_decay }),
            OptimiserKind::Sgd => Box::new(Sgd { weight_decay, momentum }),
        }
    }
}

/// Executes one step. `rates` are the learning rates of the parameters; those with `None` do not change.
pub fn step(
    optimiser: &dyn Optimiser,
    state: &mut OptimiserState,
    level: Level,
    parameters: (&[Parameter], &[Option<f64>]),
    gradient: &[f32],
    weights: &Weights,
) -> candle_core::Result<()> {
    if state.counts.is_empty() {
        state.counts = vec![state.steps; parameters.0.len()];
    }
    state.steps += 1;
    let tensors = weights.iter().map(|(_, tensor)| tensor);
    let counts = state.counts.iter_mut();
    for (((parameter, rate), tensor), step) in parameters.0.iter().zip(parameters.1).zip(tensors).zip(counts) {
        let Some(learning_rate) = *rate else { continue };
        *step += 1;
        let step = *step;
        let range = parameter.range.clone();
        let decays = parameter.config.shape.len() > 1;
        let update = Update { level, step, learning_rate, decays, gradient: &gradient[range.clone()] };
        let moments = state.moments.iter_mut().map(|vector| &mut vector[range.clone()]);
        update_tensor(optimiser, update, moments.collect(), tensor)?;
    }
    Ok(())
}

/// The gradient, the weights and the state of one task.
type Task<'a> = (&'a [f32], &'a mut [f32], Vec<&'a mut [f32]>);

fn update_tensor(
    optimiser: &dyn Optimiser,
    update: Update<'_>,
    moments: Vec<&mut [f32]>,
    tensor: &Tensor,
) -> candle_core::Result<()> {
    change(tensor, |weights| {
        let mut tasks: Vec<Task<'_>> = update
            .gradient
            .chunks(CHUNK)
            .zip(weights.chunks_mut(CHUNK))
            .map(|(gradient, weights)| (gradient, weights, Vec::new()))
            .collect();
        for moments in moments {
            tasks.iter_mut().zip(moments.chunks_mut(CHUNK)).for_each(|(task, moments)| task.2.push(moments));
        }
        tasks.into_par_iter().for_each(|(gradient, weights, mut moments)| {
            optimiser.update(Update { gradient, ..update }, &mut moments, weights);
        });
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use candle_nn::{Optimizer as _, ParamsAdamW};

    use super::*;
    use crate::op::{Initial, ParameterConfig, WeightLayout};

    /// The weights after four steps, from 0.5 and −1.0, of a matrix.
    pub(super) fn four_steps(config: OptimiserConfig) -> Vec<f64> {
        let (initial, layout) = (Initial::Zeros, WeightLayout::Same);
        let config_of_weights = ParameterConfig { name: "weight", shape: vec![1, 2], initial, layout };
        let parameters = [Parameter { name: "w".into(), config: config_of_weights, range: 0..2 }];
        let weights = Weights::from_values(parameters.iter(), [vec![0.5f32, -1.0]].into_iter()).unwrap();
        let optimiser = config.build();
        let mut state = OptimiserState::zeros(optimiser.vectors(), 2);
        for gradient in [[0.25, -3.0], [-1.0, 1e-6], [0.5, 0.5], [0.0, 2.0]] {
            step(&*optimiser, &mut state, Level::detect(), (&parameters, &[Some(1e-2)]), &gradient, &weights).unwrap();
        }
        assert_eq!(state.steps, 4);
        weights.with_slices(|slices| slices[0].iter().map(|value| f64::from(*value)).collect()).unwrap()
    }

    // import torch
    // G = [[0.25, -3.0], [-1.0, 1e-6], [0.5, 0.5], [0.0, 2.0]]
    // for o in (lambda w: torch.optim.AdamW([w], 1e-2, weight_decay=0.1), lambda w: torch.optim.SGD([w], 1e-2, momentum=0.9, weight_decay=0.1)):
    //     w = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True); o = o(w)
    //     for g in G: w.grad = torch.tensor(g, dtype=torch.float64); o.step()
    //     print(w.tolist())
    #[test]
    fn steps_match_pytorch() {
        let config = |kind| OptimiserConfig { kind, weight_decay: 0.1, momentum: 0.9 };
        for (kind, expected) in [(OptimiserKind::AdamW, ADAMW), (OptimiserKind::Sgd, SGD)] {
            for (ours, theirs) in four_steps(config(kind)).iter().zip(expected) {
                assert!((ours - theirs).abs() < 1e-6, "{kind:?}: {ours} {theirs}");
            }
        }
    }

    // import numpy as np
    // w, m, v = np.array([0.5, -1.0]), np.zeros(2), np.zeros(2)
    // for t, g in enumerate(map(np.array, G), 1):   # G as above; Keras 3.15, optimizers/adam.py
    //     m += (g - m) * (1 - 0.9); v += (g * g - v) * (1 - 0.999)
    //     w -= m * (1e-2 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)) / (np.sqrt(v) + 1e-7)
    // np.set_printoptions(precision=17); print(w)
    #[test]
    fn adam_matches_keras() {
        let config = OptimiserConfig { kind: OptimiserKind::Adam, weight_decay: 0.0, momentum: 0.0 };
        for (ours, keras) in four_steps(config).iter().zip(ADAM) {
            assert!((ours - keras).abs() < 1e-6, "{ours} {keras}");
        }
    }

    // A second implementation, with automatic differentiation in f64: the gradient of Σ g w by w is g.
    #[test]
    fn adamw_follows_that_of_candle() {
        let (count, rate, weight_decay) = (40, 3e-3, 0.05);
        let mut random = hamflow_stage_api::Random::new(7, "optimiser");
        let mut draw = || (0..count).map(|_| random.uniform(-1.0, 1.0)).collect::<Vec<f64>>();
        let start = draw();
        let theirs = Var::from_vec(start.clone(), (1, count), &Device::Cpu).unwrap();
        let settings = ParamsAdamW { lr: rate, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay };
        let mut candle = candle_nn::AdamW::new(vec![theirs.clone()], settings).unwrap();
        let (initial, layout) = (Initial::Zeros, WeightLayout::Same);
        let config = ParameterConfig { name: "weight", shape: vec![1, count], initial, layout };
        let parameters = [Parameter { name: "w".into(), config, range: 0..count }];
        let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        let ours = Weights::from_values(parameters.iter(), [narrow(&start)].into_iter()).unwrap();
        let optimiser = AdamW { weight_decay };
        let mut state = OptimiserState::zeros(optimiser.vectors(), count);
        for _ in 0..100 {
            let gradient = draw();
            let slope = Tensor::from_vec(gradient.clone(), (1, count), &Device::Cpu).unwrap();
            candle.backward_step(&(theirs.as_tensor() * slope).unwrap().sum_all().unwrap()).unwrap();
            let gradient = narrow(&gradient);
            step(&optimiser, &mut state, Level::detect(), (&parameters, &[Some(rate)]), &gradient, &ours).unwrap();
        }
        let theirs = theirs.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let ours = ours.with_slices(|slices| slices.concat()).unwrap();
        assert!(theirs.iter().zip(&start).any(|(now, before)| (now - before).abs() > 0.01), "nothing moved");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-5, "{ours} {theirs}");
        }
    }

    // A parameter that joins later takes the steps of one that has just begun, as in PyTorch, which counts them per tensor.
    #[test]
    fn bias_correction_counts_the_steps_of_each_parameter() {
        let config = ParameterConfig::vector("weight", 1, Initial::Zeros);
        let parameter = |name: &str, range| Parameter { name: name.into(), config: config.clone(), range };
        let parameters = [parameter("a", 0..1), parameter("b", 1..2)];
        let weights = Weights::from_values(parameters.iter(), vec![vec![0.0]; 2].into_iter()).unwrap();
        let mut state = OptimiserState::zeros(2, 2);
        let optimiser = AdamW { weight_decay: 0.0 };
        let mut run = |rates: &[Option<f64>]| {
            step(&optimiser, &mut state, Level::detect(), (&parameters, rates), &[0.5, 0.5], &weights).unwrap();
        };
        (0..1000).for_each(|_| run(&[Some(1e-3), None]));
        (0..3).for_each(|_| run(&[None, Some(1e-3)]));
        let values = weights.with_slices(|slices| slices.concat()).unwrap();
        assert!((values[1] + 3e-3).abs() < 1e-6, "each step of a constant gradient is the learning rate: {values:?}");
        assert_eq!(state.counts, [1000, 3]);
    }

    #[test]
    fn parameters_without_a_rate_do_not_change() {
        let config = ParameterConfig::vector("weight", 2, Initial::Zeros);
        let parameter = |name: &str, range| Parameter { name: name.into(), config: config.clone(), range };
        let parameters = [parameter("a", 0..2), parameter("b", 2..4)];
        let weights = Weights::from_values(parameters.iter(), vec![vec![1.0; 2]; 2].into_iter()).unwrap();
        let mut state = OptimiserState::zeros(2, 4);
        let gradient = [1.0; 4];
        step(&Adam, &mut state, Level::detect(), (&parameters, &[None, Some(0.1)]), &gradient, &weights).unwrap();
        let values = weights.with_slices(|slices| slices.concat()).unwrap();
        assert_eq!(values[..2], [1.0, 1.0]);
        assert!(values[2] < 1.0 && state.moments[0][..2] == [0.0, 0.0]);
    }

    const ADAM: [f64; 2] = [0.49759935098498115, -0.9796620195267624];
    const ADAMW: [f64; 2] = [0.4956199292852923, -0.9757154163478029];
    const SGD: [f64; 2] = [0.504474482403, -0.91756057939301];
}
