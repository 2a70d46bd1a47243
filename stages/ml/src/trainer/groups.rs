//! Parameter groups: which weights train in an epoch, and how fast.

use crate::network::Network;
use crate::recipe::Recipe;

/// The name of the last dense layer in the parameters.
pub const HEAD: &str = "head";

/// Whether a parameter belongs to a layer, to the layers below a name, or to the head.
fn is_in(network: &Network, parameter: &str, group: &str) -> bool {
    let group = if group == HEAD { network.head() } else { group };
    parameter.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a network has layers of this name.
pub fn has_layers(network: &Network, group: &str) -> bool {
    network.parameters().iter().any(|parameter| is_in(network, &parameter.name, group))
}

/// The learning rates and states of all parameters.
#[derive(Debug, Clone)]
pub struct ParameterGroups {
    /// For each parameter: the factor of the learning rate.
    factors: Vec<f64>,
    /// For each parameter: the first epoch in which it trains; `None` if it never does.
    starts: Vec<Option<usize>>,
    /// For each parameter: whether it is frozen in the current epoch.
    frozen: Vec<bool>,
}

impl ParameterGroups {
    /// The groups of a recipe.
    pub fn new(network: &Network, recipe: &Recipe) -> Self {
        let names: Vec<&str> = network.parameters().iter().map(|parameter| &parameter.name[..]).collect();
        let in_group = |name: &str, group: &str| is_in(network, name, group);
        let factor = |name: &&str| {
            // The longest group that fits.
            let fitting = recipe.rate_factors.iter().filter(|(group, _)| in_group(name, group));
            fitting.max_by_key(|(group, _)| group.len()).map_or(1.0, |(_, factor)| *factor)
        };
        let stages = stages(&names, network.head());
        let last = stages.iter().copied().max().unwrap_or(0);
        let start = |(name, stage): (&&str, &usize)| {
            let is_frozen = recipe.freeze.iter().any(|group| in_group(name, group));
            (!is_frozen).then(|| 1 + (last - stage) * recipe.unfreeze_epochs)
        };
        Self {
            factors: names.iter().map(factor).collect(),
            starts: names.iter().zip(&stages).map(start).collect(),
            frozen: vec![false; names.len()],
        }
    }

    /// Decides which parameters train in an epoch, 1-based.
    pub fn begin_epoch(&mut self, epoch: usize) {
        self.frozen = self.starts.iter().map(|start| start.is_none_or(|start| epoch < start)).collect();
    }

    /// Whether each parameter is frozen.
    pub fn frozen(&self) -> &[bool] {
        &self.frozen
    }

    /// For each parameter: its number among those with different factors or starts, or with another value of `marks`.
    pub fn numbers(&self, marks: &[bool]) -> Vec<usize> {
        let mut distinct = Vec::new();
        let parameters = self.factors.iter().zip(&self.starts).zip(marks);
        let number = |((factor, start), mark): ((&f64, &Option<usize>), &bool)| {
            let group = (factor.to_bits(), *start, *mark);
            distinct.iter().position(|other| *other == group).unwrap_or_else(|| {
                distinct.push(group);
                distinct.len() - 1
            })
        };
        parameters.map(number).collect()
    }

    /// The learning rate of each parameter; `None` if it is frozen.
    pub fn rates(&self, learning_rate: f64) -> Vec<Option<f64>> {
        let rate = |(factor, frozen): (&f64, &bool)| (!frozen).then_some(learning_rate * factor);
        self.factors.iter().zip(&self.frozen).map(rate).collect()
    }
}

/// The stage of each parameter, from the image to the head. Parameters of a block, whose names begin with a name and a
/// number such as `blocks.3`, are a stage; so are those before, between and after the blocks, and the head.
fn stages(names: &[&str], head: &str) -> Vec<usize> {
    let block = |name: &str| {
        let mut parts = name.split('.');
        let first = parts.next().unwrap_or_default();
        let number = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(format!("{first}.{number}"))
    };
    let mut stages: Vec<usize> = Vec::with_capacity(names.len());
    let mut before: Option<(Option<String>, bool)> = None;
    for name in names {
        let of_name = (block(name), name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.')));
        let stage = stages.last().map_or(0, |stage| stage + usize::from(before.as_ref() != Some(&of_name)));
        stages.push(stage);
        before = Some(of_name);
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;
    use hamflow_kernels::shape::MapShape;

    fn network() -> Network {
        let shape = MapShape { height: 64, width: 64, channels: 3 };
        model::find("efficientnet-lite0").unwrap().network(shape, 7).unwrap()
    }

    fn at(network: &Network, name: &str) -> usize {
        network.parameters().iter().position(|parameter| parameter.name == name).unwrap()
    }

    #[test]
    fn blocks_unfreeze_from_the_head_towards_the_image() {
        let network = network();
        let recipe = Recipe { unfreeze_epochs: 2, ..Recipe::default() };
        let mut groups = ParameterGroups::new(&network, &recipe);
        let mut trains = |epoch: usize, name: &str| {
            groups.begin_epoch(epoch);
            !groups.frozen()[at(&network, name)]
        };
        for (first, name) in [
            (1, "classifier.weight"),
            (3, "bn2.weight"),
            (5, "blocks.6.0.conv_pwl.weight"),
            (17, "blocks.0.0.conv_dw.weight"),
            (19, "conv_stem.weight"),
        ] {
            assert!(trains(first, name) && (first == 1 || !trains(first - 1, name)), "{name}");
        }
    }

    #[test]
    fn the_longest_group_determines_the_rate() {
        let network = network();
        let rate_factors = [("blocks", 0.5), ("blocks.6", 0.25), ("head", 10.0)];
        let recipe = Recipe {
            rate_factors: rate_factors.map(|(name, factor)| (name.to_owned(), factor)).into(),
            freeze: vec!["conv_stem".to_owned()],
            ..Recipe::default()
        };
        let mut groups = ParameterGroups::new(&network, &recipe);
        groups.begin_epoch(1);
        let rates = groups.rates(2.0);
        let rate = |name: &str| rates[at(&network, name)];
        assert_eq!(rate("conv_stem.weight"), None);
        assert_eq!(rate("bn1.weight"), Some(2.0));
        assert_eq!(rate("blocks.5.0.bn1.bias"), Some(1.0));
        assert_eq!(rate("blocks.6.0.bn1.bias"), Some(0.5));
        assert_eq!(rate("classifier.bias"), Some(20.0));
    }
}
