//! The training loop: epochs of steps, validation, the schedule, and which weights are kept.

mod checkpoint;
mod class_weights;
mod engine;
mod epoch;
mod processor;

pub use checkpoint::Restored;
pub use class_weights::ClassWeights;
pub use engine::{Engine, Steps, Tally, worst_gradient};
pub use epoch::{Epoch, Step};
pub use processor::{INFERENCE_BATCH, Processor, predict};

use hamflow_stage_api::{Random, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ml::augment::Augmentation;
use crate::ml::loss::Loss;
use crate::ml::network::Network;
use crate::ml::normalisation::Normalisation;
use crate::ml::schedule::{Curve, Plateau, Schedule};
use crate::ml::weights::Weights;

/// What helps where training diverged.
const DIVERGED: &str = "a smaller `learning_rate`, or `clip_norm`, usually helps";

/// Which training images an epoch sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every image once, in a random order.
    #[default]
    Shuffled,
    /// As many images as there are, each of a class drawn at random, all classes alike.
    Balanced,
}

/// Which epoch's weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those of the epoch with the highest validation accuracy, the first of equals.
    #[default]
    Best,
    /// Those of the last epoch.
    Last,
}

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Where all random numbers come from.
    pub seed: u64,
    /// How many epochs there will be, for curves that are planned over all of them.
    pub epochs: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// The rate of the first epoch, or the highest one.
    pub learning_rate: f64,
    /// How images are moved and their colours changed, if they are.
    pub augment: Option<Augmentation>,
    /// The α of MixUp; 0 for none.
    pub mixup: f64,
    /// Which images an epoch sees.
    pub sampling: Sampling,
    /// How classes count.
    pub class_weights: ClassWeights,
    /// The β of [`ClassWeights::EffectiveNumber`].
    pub effective_number_beta: f64,
    /// How the loss is computed.
    pub loss: Loss,
    /// The largest norm of the gradients of a step; 0 for any.
    pub clip_norm: f64,
    /// How the rate changes.
    pub schedule: Curve,
    /// Epochs in which the rate rises in a line from nothing.
    pub warmup: f64,
    /// How the rate falls, if it does.
    pub plateau: Option<Plateau>,
    /// Epochs without a better validation accuracy after which training stops; 0 for never.
    pub early_stopping: usize,
    /// Which weights are kept.
    pub keep: Keep,
}

/// Images and their classes.
#[derive(Debug, Clone, Default)]
pub struct Samples<'a> {
    /// Bytes of height × width × channels.
    pub images: Vec<&'a [u8]>,
    /// A class per image.
    pub classes: Vec<usize>,
}

/// What is learned from.
#[derive(Debug, Clone)]
pub struct Data<'a> {
    /// What the weights are fitted to.
    pub training: Samples<'a>,
    /// What choices are made by; may be empty where the last weights are kept.
    pub validation: Samples<'a>,
    /// Fitted on the training images.
    pub normalisation: Normalisation,
}

/// One epoch as it stands in the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// The rate of its last step.
    pub learning_rate: f64,
    /// Mean loss over the steps, weighted as in training, with dropout.
    pub train_loss: f64,
    /// Accuracy over the steps, with dropout.
    pub train_accuracy: f64,
    /// Mean loss over the validation images; none where there are none.
    pub validation_loss: Option<f64>,
    /// Accuracy over the validation images; none where there are none.
    pub validation_accuracy: Option<f64>,
}

/// What is told after each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Images of this epoch so far.
    pub images: usize,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Accuracy of this epoch so far.
    pub accuracy: f64,
    /// The rate of the step.
    pub learning_rate: f64,
}

/// The state of training between two epochs, and what it works with.
pub struct Trainer<'a> {
    network: &'a Network,
    recipe: Recipe,
    data: Data<'a>,
    class_weights: Vec<f64>,
    engine: Box<dyn Engine + 'a>,
    schedule: Schedule,
    best: Option<Best>,
    history: Vec<EpochRecord>,
    diverged: bool,
}

/// The best epoch so far.
struct Best {
    epoch: usize,
    accuracy: f64,
    weights: Weights,
}

/// What training gives.
pub struct Trained {
    /// The weights that are kept.
    pub weights: Weights,
    /// The epoch that they are of, counted from 1.
    pub epoch: usize,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
}

impl Trained {
    /// The epoch whose weights are kept.
    pub fn kept(&self) -> Option<&EpochRecord> {
        self.history.get(self.epoch.wrapping_sub(1))
    }
}

fn candle_failed(error: candle_core::Error) -> StageError {
    StageError::bug(format!("a tensor operation failed: {error}"))
}

impl<'a> Trainer<'a> {
    /// Trains on the processor.
    pub fn new(network: &'a Network, recipe: Recipe, data: Data<'a>) -> Result<Self, StageError> {
        let engine = Processor::new(network, first_weights(network, &recipe)?);
        Ok(Self::with_engine(network, recipe, data, Box::new(engine)))
    }

    /// Trains with an engine that holds the first weights, and was made for the same network, recipe and data.
    pub fn with_engine(network: &'a Network, recipe: Recipe, data: Data<'a>, engine: Box<dyn Engine + 'a>) -> Self {
        Self {
            network,
            recipe,
            class_weights: recipe.class_weights(&data.training.classes, network.classes()),
            data,
            engine,
            schedule: Schedule::new(recipe.learning_rate),
            best: None,
            history: Vec::new(),
            diverged: false,
        }
    }

    /// What an image of each class counts.
    pub fn class_weights(&self) -> &[f64] {
        &self.class_weights
    }

    /// Trains one more epoch: a step per batch in an order of its own, then validation and the schedule.
    ///
    /// All that is drawn comes from streams of the seed and the epoch, so an epoch needs nothing of earlier ones but the
    /// weights, the moments and the schedule.
    pub fn run_epoch(&mut self, mut observe: impl FnMut(StepReport)) -> Result<EpochRecord, StageError> {
        let number = self.history.len() + 1;
        let order = self.order(number);
        let rates = self.rates(order.len());
        let learning_rate = rates.last().copied().unwrap_or(self.schedule.learning_rate);
        let Self { recipe, data, class_weights, engine, .. } = self;
        let epoch = Epoch { number, order, rates, recipe, data, class_weights };
        let mut tell = |done: Tally, learning_rate: f64| {
            let (images, loss, accuracy) = (done.images, done.mean_loss(), done.accuracy());
            observe(StepReport { epoch: number, images, loss, accuracy, learning_rate });
        };
        let trained = match engine.run_steps(&epoch, &mut tell)? {
            Steps::Done(tally) => tally,
            Steps::Diverged { step, loss, learning_rate } => {
                self.diverged = true;
                return Err(StageError::failed(format!(
                    "the loss became {loss} at step {step} (epoch {number}) with learning rate {learning_rate}; the worst gradient was {}",
                    self.engine.worst_gradient()?
                ))
                .hint(DIVERGED));
            }
        };
        let validation = match self.data.validation.images.is_empty() {
            true => None,
            false => Some(self.engine.validate(&self.data)?),
        };
        let measurable = validation.is_none_or(|tally| tally.loss.is_finite());
        if !measurable || !self.engine.weights().are_finite().map_err(candle_failed)? {
            self.diverged = true;
            return Err(StageError::failed(format!(
                "the weights stopped being numbers in epoch {number} with learning rate {learning_rate}; the worst gradient was {}",
                self.engine.worst_gradient()?
            ))
            .hint(DIVERGED));
        }
        let record = EpochRecord {
            epoch: number,
            learning_rate,
            train_loss: trained.mean_loss(),
            train_accuracy: trained.accuracy(),
            validation_loss: validation.map(|tally| tally.mean_loss()),
            validation_accuracy: validation.map(|tally| tally.accuracy()),
        };
        if let Some(accuracy) = record.validation_accuracy {
            if let Some(plateau) = &self.recipe.plateau {
                self.schedule.observe(plateau, accuracy);
            }
            let is_best = self.best.as_ref().is_none_or(|best| accuracy > best.accuracy);
            if is_best && self.recipe.keep == Keep::Best {
                let weights = self.engine.weights().snapshot().map_err(candle_failed)?;
                self.best = Some(Best { epoch: number, accuracy, weights });
            }
        }
        self.history.push(record);
        Ok(record)
    }

    /// Whether the loss stopped being a number; the weights since the last epoch are lost.
    pub fn diverged(&self) -> bool {
        self.diverged
    }

    /// Whether there are weights of an earlier epoch to fall back to.
    pub fn has_best(&self) -> bool {
        self.best.is_some()
    }

    /// Whether validation accuracy has not risen for as many epochs as early stopping waits.
    pub fn is_exhausted(&self) -> bool {
        let patience = self.recipe.early_stopping;
        let accuracies = || self.history.iter().filter_map(|record| record.validation_accuracy);
        let best = accuracies().enumerate().fold(None, |best: Option<(usize, f64)>, (epoch, accuracy)| match best {
            Some((_, highest)) if accuracy <= highest => best,
            _ => Some((epoch, accuracy)),
        });
        patience > 0 && best.is_some_and(|(epoch, _)| self.history.len() - (epoch + 1) >= patience)
    }

    /// The images of an epoch in the order in which they are seen.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let classes = &self.data.training.classes;
        match self.recipe.sampling {
            Sampling::Shuffled => {
                let mut order: Vec<usize> = (0..classes.len()).collect();
                Random::new(self.recipe.seed, &format!("shuffle {epoch}")).shuffle(&mut order);
                order
            }
            Sampling::Balanced => {
                let of_class = |class| (0..classes.len()).filter(|&i| classes[i] == class).collect::<Vec<usize>>();
                let members: Vec<Vec<usize>> =
                    (0..self.network.classes()).map(of_class).filter(|members| !members.is_empty()).collect();
                let mut random = Random::new(self.recipe.seed, &format!("sample {epoch}"));
                let mut one_of = |count: usize| random.below(count as u64) as usize;
                let draw = |_| {
                    let members = &members[one_of(members.len())];
                    members[one_of(members.len())]
                };
                (0..classes.len()).map(draw).collect()
            }
        }
    }

    /// The learning rate of each step of the next epoch of `images`.
    fn rates(&self, images: usize) -> Vec<f64> {
        let Recipe { epochs, batch_size, schedule, warmup, .. } = self.recipe;
        let steps = images.div_ceil(batch_size) as u64;
        let warmup = libm::round(warmup * steps as f64) as u64;
        let before = self.engine.adam().steps();
        let rate = |step| self.schedule.learning_rate * schedule.factor(before + step, steps * epochs as u64, warmup);
        (0..steps).map(rate).collect()
    }

    /// Hands over the weights that the recipe keeps.
    pub fn finish(self) -> Trained {
        match self.best {
            Some(Best { epoch, weights, .. }) => Trained { weights, epoch, history: self.history },
            None => Trained { weights: self.engine.into_weights(), epoch: self.history.len(), history: self.history },
        }
    }
}

/// The weights that training starts from.
pub fn first_weights(network: &Network, recipe: &Recipe) -> Result<Weights, StageError> {
    Weights::draw(network.parameters(), &mut Random::new(recipe.seed, "init")).map_err(candle_failed)
}

#[cfg(test)]
mod tests;
