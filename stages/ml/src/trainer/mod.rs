//! The training loop: steps, validation, learning rate schedule, and selection of the best weights.

mod checkpoint;
mod class_weights;
mod engine;
mod epoch;
mod groups;
mod processor;

pub use checkpoint::Restored;
pub use engine::{Engine, EngineState, Steps, Tally, Validated, worst_gradient};
pub use epoch::{Epoch, Step};
pub use groups::{HEAD, ParameterGroups, has_layers};
pub use processor::{INFERENCE_BATCH, Processor, predict_view};

use hamflow_stage_api::{Random, StageError};
use serde::{Deserialize, Serialize};

use crate::metric::{Direction, Scores};
use crate::network::Network;
use crate::normalisation::Normalisation;
use crate::recipe::{Keep, Recipe, Sampling};
use crate::schedule::Schedule;
use crate::weights::Weights;

/// The hint for diverged training.
const DIVERGED_HINT: &str = "a smaller `learning_rate`, or `clip_norm`, usually helps";

/// Images and their classes.
#[derive(Debug, Clone, Default)]
pub struct Samples<'a> {
    /// The images, each with height × width × channels bytes.
    pub images: Vec<&'a [u8]>,
    /// The class of each image.
    pub classes: Vec<usize>,
    /// The weight of each image in the loss; empty if all are 1.
    pub weights: Vec<f64>,
}

/// The data to train and validate on.
#[derive(Debug, Clone)]
pub struct Data<'a> {
    /// The images to fit the weights to.
    pub training: Samples<'a>,
    /// The images for model selection; may be empty if the last weights are kept.
    pub validation: Samples<'a>,
    /// The normalisation, fitted on the training images.
    pub normalisation: Normalisation,
}

/// The history entry of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The number of the epoch, 1-based.
    pub epoch: usize,
    /// The learning rate of its last step.
    pub learning_rate: f64,
    /// The mean training loss over the steps, with class weights and dropout.
    pub train_loss: f64,
    /// The training accuracy over the steps, with dropout.
    pub train_accuracy: f64,
    /// The mean loss on the validation images; `None` if there are none.
    pub validation_loss: Option<f64>,
    /// The accuracy on the validation images; `None` if there are none.
    pub validation_accuracy: Option<f64>,
}

/// The progress after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The number of the epoch, 1-based.
    pub epoch: usize,
    /// The number of images so far in this epoch.
    pub images: usize,
    /// The mean loss so far in this epoch.
    pub loss: f64,
    /// The accuracy so far in this epoch.
    pub accuracy: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
}

/// The state of training between two epochs.
pub struct Trainer<'a> {
    network: &'a Network,
    recipe: Recipe,
    data: Data<'a>,
    class_weights: Vec<f64>,
    logit_offsets: Vec<f32>,
    engine: Box<dyn Engine + 'a>,
    schedule: Schedule,
    best: Option<Best>,
    history: Vec<EpochRecord>,
    /// For each epoch of the history, the metric that chooses the epoch; `None` if it is undefined.
    scores: Vec<Option<f64>>,
    diverged: bool,
}

/// The best epoch so far.
struct Best {
    epoch: usize,
    score: f64,
    weights: Weights,
}

/// The result of training.
pub struct Trained {
    /// The selected weights.
    pub weights: Weights,
    /// The epoch of the weights, 1-based.
    pub epoch: usize,
    /// The history of all epochs.
    pub history: Vec<EpochRecord>,
    /// For each epoch of the history, the metric that chooses the epoch; `None` if it is undefined.
    pub scores: Vec<Option<f64>>,
}

impl Trained {
    /// The epoch of the selected weights.
    pub fn kept(&self) -> Option<&EpochRecord> {
        self.history.get(self.epoch.wrapping_sub(1))
    }
}

fn candle_failed(error: candle_core::Error) -> StageError {
    StageError::bug(format!("a tensor operation failed: {error}"))
}

impl<'a> Trainer<'a> {
    /// Trains on the CPU.
    pub fn new(network: &'a Network, recipe: Recipe, data: Data<'a>) -> Result<Self, StageError> {
        let engine = Processor::new(network, &recipe, first_weights(network, &recipe)?)?;
        Ok(Self::with_engine(network, recipe, data, Box::new(engine)))
    }

    /// Trains with an engine that was created with the initial weights for the same network, recipe and data.
    pub fn with_engine(network: &'a Network, recipe: Recipe, data: Data<'a>, engine: Box<dyn Engine + 'a>) -> Self {
        Self {
            network,
            class_weights: recipe.class_weights(&data.training.classes, network.classes()),
            logit_offsets: recipe.logit_offsets(&data.training.classes, network.classes()),
            schedule: Schedule::new(recipe.learning_rate),
            recipe,
            data,
            engine,
            best: None,
            history: Vec::new(),
            scores: Vec::new(),
            diverged: false,
        }
    }

    /// The weight of each class in the loss.
    pub fn class_weights(&self) -> &[f64] {
        &self.class_weights
    }

    /// Trains one epoch: one step per batch in random order, then validation and the schedule.
    ///
    /// All random numbers come from streams of the seed and the epoch. An epoch therefore only depends on the
    /// weights, the moments and the schedule of earlier ones.
    pub fn run_epoch(&mut self, mut observe: impl FnMut(StepReport)) -> Result<EpochRecord, StageError> {
        let number = self.history.len() + 1;
        let order = self.order(number);
        let rates = self.rates(order.len());
        let learning_rate = rates.last().copied().unwrap_or(self.schedule.learning_rate);
        let Self { recipe, data, class_weights, logit_offsets, engine, .. } = self;
        let epoch = Epoch { number, order, rates, recipe, data, class_weights, logit_offsets };
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
                .hint(DIVERGED_HINT));
            }
        };
        let validated = match self.data.validation.images.is_empty() {
            true => None,
            false => Some(self.engine.validate(&self.data)?),
        };
        let validation = validated.as_ref().map(|validated| validated.tally);
        let measurable = validation.is_none_or(|tally| tally.loss.is_finite());
        if !measurable || !self.engine.weights().are_finite().map_err(candle_failed)? {
            self.diverged = true;
            return Err(StageError::failed(format!(
                "the weights stopped being numbers in epoch {number} with learning rate {learning_rate}; the worst gradient was {}",
                self.engine.worst_gradient()?
            ))
            .hint(DIVERGED_HINT));
        }
        let record = EpochRecord {
            epoch: number,
            learning_rate,
            train_loss: trained.mean_loss(),
            train_accuracy: trained.accuracy(),
            validation_loss: validation.map(|tally| tally.mean_loss()),
            validation_accuracy: validation.map(|tally| tally.accuracy()),
        };
        let score = validated.map(|validated| self.score(validated)).transpose()?;
        if let Some(score) = score {
            let better = score * self.sign();
            if let Some(plateau) = &self.recipe.followed_plateau() {
                self.schedule.observe(plateau, better);
            }
            let is_best = self.best.as_ref().is_none_or(|best| better > best.score * self.sign());
            if is_best && self.recipe.keep == Keep::Best {
                let weights = self.engine.average().unwrap_or(self.engine.weights());
                let weights = weights.snapshot().map_err(candle_failed)?;
                self.best = Some(Best { epoch: number, score, weights });
            }
        }
        self.history.push(record);
        self.scores.push(score);
        Ok(record)
    }

    /// The metric that chooses the epoch.
    fn score(&self, validated: Validated) -> Result<f64, StageError> {
        let metric = self.recipe.metric().map_err(|error| StageError::bug(error.to_string()))?;
        if metric.name == "accuracy" {
            return Ok(validated.tally.accuracy());
        }
        let scores = Scores::new(self.data.validation.classes.clone(), validated.probabilities, self.network.classes());
        let scores = scores.map_err(|error| StageError::bug(error.to_string()))?;
        (metric.measure)(&scores).map_err(|undefined| {
            let message = format!("`{}` is undefined on the validation rows: {}", metric.name, undefined.reason);
            StageError::input(message).hint("choose another metric: `keep_metric` of `train`, or `metric` of `search`")
        })
    }

    /// 1 if a higher metric is better, −1 if a lower one is.
    fn sign(&self) -> f64 {
        match self.recipe.metric().map(|metric| metric.direction) {
            Ok(Direction::Lower) => -1.0,
            _ => 1.0,
        }
    }

    /// Whether training has diverged. The weights since the previous epoch are lost.
    pub fn diverged(&self) -> bool {
        self.diverged
    }

    /// Whether there are weights of an earlier epoch to fall back to.
    pub fn has_best(&self) -> bool {
        self.best.is_some()
    }

    /// Whether the patience of early stopping is exhausted.
    pub fn is_exhausted(&self) -> bool {
        let patience = self.recipe.early_stopping;
        let scores = self.scores.iter().map(|score| score.map_or(f64::NEG_INFINITY, |score| score * self.sign()));
        let best = scores.enumerate().fold(None, |best: Option<(usize, f64)>, (epoch, score)| match best {
            Some((_, highest)) if score <= highest => best,
            _ => Some((epoch, score)),
        });
        let is_validated = self.history.iter().any(|record| record.validation_accuracy.is_some());
        patience > 0 && is_validated && best.is_some_and(|(epoch, _)| self.history.len() - (epoch + 1) >= patience)
    }

    /// The indices of the images of an epoch, in order.
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

    /// The learning rate of each step of the next epoch of `images` images.
    fn rates(&self, images: usize) -> Vec<f64> {
        let Recipe { epochs, batch_size, schedule, warmup_epochs, .. } = self.recipe;
        // The statistics of a single image would spoil the running ones: it joins the step before.
        let joins = self.network.is_normalised() && images > batch_size && images % batch_size == 1;
        let steps = (images.div_ceil(batch_size) - usize::from(joins)) as u64;
        let warmup = libm::round(warmup_epochs * steps as f64) as u64;
        let before = self.engine.optimiser().steps;
        let rate = |step| self.schedule.learning_rate * schedule.factor(before + step, steps * epochs as u64, warmup);
        (0..steps).map(rate).collect()
    }

    /// Returns the weights that the recipe selects.
    pub fn finish(self) -> Trained {
        match self.best {
            Some(Best { epoch, weights, .. }) => Trained { weights, epoch, history: self.history, scores: self.scores },
            None => {
                let (epoch, weights) = (self.history.len(), self.engine.into_weights());
                Trained { weights, epoch, history: self.history, scores: self.scores }
            }
        }
    }
}

/// The initial weights.
pub fn first_weights(network: &Network, recipe: &Recipe) -> Result<Weights, StageError> {
    Weights::draw(network.tensors(), &mut Random::new(recipe.seed, "init")).map_err(candle_failed)
}

#[cfg(test)]
mod tests;
