//! How the weights of each parameter group change in a step: what the optimisers' kernels read.

use super::CudaError;
use crate::network::Network;
use crate::optim::{Adam, AdamW, OptimiserConfig, OptimiserKind, OptimiserState};
use crate::recipe::Recipe;
use crate::trainer::ParameterGroups;

/// The `Rate` of `source/prelude.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// The learning rate, with the bias corrections of Adam.
    pub alpha: f32,
    /// Adam: the factor of the weights before; SGD: the share of the weights that is added to the gradient.
    pub decay: f32,
    /// Adam: what is added to the root of the second moment.
    pub epsilon: f32,
    /// Whether the weights train.
    pub trains: bool,
}

impl Rate {
    /// The size on the device in bytes.
    pub const SIZE: usize = 16;

    /// Serialises to the device's layout.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let Self { alpha, decay, epsilon, trains } = self;
        let words = [alpha.to_le_bytes(), decay.to_le_bytes(), epsilon.to_le_bytes(), u32::from(trains).to_le_bytes()];
        std::array::from_fn(|i| words[i / 4][i % 4])
    }
}

/// The parameter groups of a training on the device. Parameters of a group have the same rate in every step.
#[derive(Debug, Clone)]
pub struct Groups {
    parameters: ParameterGroups,
    /// For each parameter: its group.
    numbers: Vec<usize>,
    /// For each group: its first parameter, and whether its weights decay.
    firsts: Vec<(usize, bool)>,
    optimiser: OptimiserConfig,
}

impl Groups {
    /// The groups of a recipe.
    pub fn new(network: &Network, recipe: &Recipe) -> Result<Self, CudaError> {
        let parameters = ParameterGroups::new(network, recipe);
        let decays: Vec<bool> = network.parameters().iter().map(|parameter| parameter.config.shape.len() > 1).collect();
        let numbers = parameters.numbers(&decays);
        let count = numbers.iter().max().map_or(0, |last| last + 1);
        if count > usize::from(u8::MAX) + 1 {
            let what = format!("{count} groups of parameters with different learning rates; at most 256 are possible");
            return Err(CudaError::Unsupported { what });
        }
        let first = |group| numbers.iter().position(|number| *number == group).unwrap_or(0);
        let firsts = (0..count).map(first).map(|first| (first, decays[first])).collect();
        Ok(Self { parameters, numbers, firsts, optimiser: recipe.optimiser_config() })
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.firsts.len()
    }

    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    /// The group of each parameter.
    pub fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// Decides which parameters train in an epoch, 1-based.
    pub fn begin_epoch(&mut self, epoch: usize) {
        self.parameters.begin_epoch(epoch);
    }

    /// Whether each parameter is frozen.
    pub fn frozen(&self) -> &[bool] {
        self.parameters.frozen()
    }

    /// The rates of all groups in the `number`-th step, 1-based, after this state.
    pub fn rates(&self, learning_rate: f64, state: &OptimiserState, number: u64) -> Vec<Rate> {
        let rates = self.parameters.rates(learning_rate);
        let rate = |(first, decays): &(usize, bool)| {
            let before = state.counts.get(*first).copied().unwrap_or(state.steps);
            rates[*first].map_or_else(Rate::default, |rate| self.rate(rate, before + number, *decays))
        };
        self.firsts.iter().map(rate).collect()
    }

    fn rate(&self, learning_rate: f64, step: u64, decays: bool) -> Rate {
        let OptimiserConfig { kind, weight_decay, .. } = self.optimiser;
        match kind {
            OptimiserKind::Adam => {
                let step = Adam::coefficients(learning_rate, step);
                Rate { alpha: step.alpha, decay: 1.0, epsilon: step.epsilon, trains: true }
            }
            OptimiserKind::AdamW => {
                let step = AdamW::coefficients(learning_rate, step);
                let decay = if decays { AdamW { weight_decay }.shrinkage(learning_rate) } else { 1.0 };
                Rate { alpha: step.alpha, decay, epsilon: step.epsilon, trains: true }
            }
            OptimiserKind::Sgd => {
                let decay = if decays { weight_decay as f32 } else { 0.0 };
                Rate { alpha: learning_rate as f32, decay, epsilon: 0.0, trains: true }
            }
        }
    }

    /// The numbers of steps in which each parameter has trained, after `steps` more in this epoch.
    pub fn counts(&self, state: &OptimiserState, steps: u64) -> Vec<u64> {
        let before = |parameter| state.counts.get(parameter).copied().unwrap_or(state.steps);
        let frozen = self.frozen().iter().enumerate();
        frozen.map(|(parameter, frozen)| before(parameter) + if *frozen { 0 } else { steps }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use hamflow_kernels::shape::MapShape;

    #[test]
    fn groups_differ_in_rate_start_and_decay() {
        let shape = MapShape { height: 32, width: 32, channels: 3 };
        let network = model::find("efficientnet-lite0").unwrap().network(shape, 7).unwrap();
        let recipe = Recipe { optimiser: OptimiserKind::AdamW, weight_decay: 0.1, ..Recipe::default() };
        let mut groups = Groups::new(&network, &recipe).unwrap();
        assert_eq!(groups.len(), 2, "matrices decay, vectors do not");
        groups.begin_epoch(1);
        let state = OptimiserState::zeros(2, network.parameter_count());
        let rates = groups.rates(0.5, &state, 1);
        let mut decays: Vec<f32> = rates.iter().map(|rate| rate.decay).collect();
        decays.sort_by(f32::total_cmp);
        assert_eq!(decays, [0.95, 1.0]);
        let recipe = Recipe { freeze: vec!["conv_stem".into()], rate_factors: [("head".into(), 3.0)].into(), ..recipe };
        let mut groups = Groups::new(&network, &recipe).unwrap();
        // The stem; the other matrices and vectors; the matrix and the vector of the head.
        assert_eq!(groups.len(), 5);
        groups.begin_epoch(1);
        let rates = groups.rates(0.5, &state, 1);
        assert_eq!(rates.iter().filter(|rate| !rate.trains).count(), 1);
        assert_eq!(groups.counts(&state, 7).iter().filter(|count| **count == 0).count(), 1);
    }
}
