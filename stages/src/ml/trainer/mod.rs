//! The training loop: epochs of steps, validation, the schedule, and which weights are kept.

mod checkpoint;

pub use checkpoint::Restored;

use candle_core::{Device, Tensor};
use hamflow_stage_api::{Random, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ml::augment::{Affine, Augmentation};
use crate::ml::kernels::Level;
use crate::ml::layer::{Pass, mix};
use crate::ml::loss::{BatchLoss, Target, cross_entropy};
use crate::ml::network::{Batch, Network, Workspace};
use crate::ml::normalisation::Normalisation;
use crate::ml::optimiser::Adam;
use crate::ml::schedule::{Plateau, Schedule};
use crate::ml::weights::Weights;

/// Images of one forward pass outside training.
pub const INFERENCE_BATCH: usize = 64;

/// How much an image of each class counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// All images count the same.
    #[default]
    None,
    /// All classes count the same: an image counts rows / (classes · rows of its class), as in scikit-learn.
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
    /// Images of a step.
    pub batch_size: usize,
    /// The rate of the first epoch.
    pub learning_rate: f64,
    /// How images are moved, if they are.
    pub augment: Option<Augmentation>,
    /// How classes count.
    pub class_weights: ClassWeights,
    /// How the rate falls, if it does.
    pub plateau: Option<Plateau>,
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
    /// The rate of its steps.
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
    values: [f32; 256],
    class_weights: Vec<f64>,
    level: Level,
    work: Workspace,
    weights: Weights,
    adam: Adam,
    schedule: Schedule,
    best: Option<Best>,
    history: Vec<EpochRecord>,
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
    /// Draws the first weights.
    pub fn new(network: &'a Network, recipe: Recipe, data: Data<'a>) -> Result<Self, StageError> {
        let weights =
            Weights::draw(network.parameters(), &mut Random::new(recipe.seed, "init")).map_err(candle_failed)?;
        Ok(Self {
            network,
            recipe,
            values: data.normalisation.table(),
            class_weights: class_weights(recipe.class_weights, &data.training.classes, network.classes()),
            data,
            level: Level::detect(),
            work: Workspace::default(),
            weights,
            adam: Adam::new(network.parameter_count()),
            schedule: Schedule::new(recipe.learning_rate),
            best: None,
            history: Vec::new(),
        })
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
        let epoch = self.history.len() + 1;
        let mut order: Vec<usize> = (0..self.data.training.images.len()).collect();
        Random::new(self.recipe.seed, &format!("shuffle {epoch}")).shuffle(&mut order);
        let learning_rate = self.schedule.learning_rate;
        let (mut images, mut sum, mut correct) = (0, 0.0, 0);
        for chosen in order.chunks(self.recipe.batch_size) {
            let loss = self.run_step(epoch, images, chosen)?;
            images += chosen.len();
            sum += loss.sum;
            correct += loss.correct;
            let (loss, accuracy) = (sum / images as f64, correct as f64 / images as f64);
            observe(StepReport { epoch, images, loss, accuracy, learning_rate });
        }
        let validation = self.validate()?;
        let record = EpochRecord {
            epoch,
            learning_rate,
            train_loss: sum / images as f64,
            train_accuracy: correct as f64 / images as f64,
            validation_loss: validation.map(|(loss, _)| loss),
            validation_accuracy: validation.map(|(_, accuracy)| accuracy),
        };
        if let Some(accuracy) = record.validation_accuracy {
            if let Some(plateau) = &self.recipe.plateau {
                self.schedule.observe(plateau, accuracy);
            }
            let is_best = self.best.as_ref().is_none_or(|best| accuracy > best.accuracy);
            if is_best && self.recipe.keep == Keep::Best {
                let weights = self.weights.snapshot().map_err(candle_failed)?;
                self.best = Some(Best { epoch, accuracy, weights });
            }
        }
        self.history.push(record);
        Ok(record)
    }

    /// Hands over the weights that the recipe keeps.
    pub fn finish(self) -> Trained {
        match self.best {
            Some(Best { epoch, weights, .. }) => Trained { weights, epoch, history: self.history },
            None => Trained { weights: self.weights, epoch: self.history.len(), history: self.history },
        }
    }

    /// One step on the training images `chosen`, of which the first is at `position` in the epoch's order.
    fn run_step(&mut self, epoch: usize, position: usize, chosen: &[usize]) -> Result<BatchLoss, StageError> {
        let images = self.batch(epoch, position, chosen);
        let target = |&i: &usize| {
            let class = self.data.training.classes[i];
            Target { class, weight: self.class_weights[class] }
        };
        let targets: Vec<Target> = chosen.iter().map(target).collect();
        let step = self.adam.steps() + 1;
        let pass = Pass { level: self.level, dropout: Some(mix(self.recipe.seed, step)) };
        let batch = Batch { images: &images, targets: &targets };
        let (network, work) = (self.network, &mut self.work);
        let loss = self
            .weights
            .with_slices(|weights| network.gradients(weights, &pass, batch, work))
            .map_err(candle_failed)?;
        let rate = self.schedule.learning_rate;
        if !loss.sum.is_finite() {
            return Err(StageError::failed(format!(
                "the loss became {} at step {step} (epoch {epoch}) with learning rate {rate}",
                loss.sum
            ))
            .hint("a smaller `learning_rate` usually helps"));
        }
        self.adam
            .step(self.level, rate, network.parameters(), self.work.gradient(), &self.weights)
            .map_err(candle_failed)?;
        Ok(loss)
    }

    /// Normalises the chosen images, and moves them if the recipe says so.
    fn batch(&self, epoch: usize, position: usize, chosen: &[usize]) -> Vec<f32> {
        let shape = self.network.input();
        let mut batch = vec![0.0; chosen.len() * shape.len()];
        batch.par_chunks_mut(shape.len()).zip(chosen).enumerate().for_each(|(offset, (output, &i))| {
            let image = self.data.training.images[i];
            match &self.recipe.augment {
                Some(augment) => {
                    let purpose = format!("augment {epoch} {}", position + offset);
                    let draw = augment.draw(&mut Random::new(self.recipe.seed, &purpose));
                    Affine::new(&draw, shape).apply(shape, image, &self.values, output);
                }
                None => normalise(image, &self.values, output),
            }
        });
        batch
    }

    /// Mean loss and accuracy over the validation images, if there are any.
    fn validate(&self) -> Result<Option<(f64, f64)>, StageError> {
        let Samples { images, classes } = &self.data.validation;
        let (mut sum, mut correct) = (0.0, 0);
        for (images, classes) in images.chunks(INFERENCE_BATCH).zip(classes.chunks(INFERENCE_BATCH)) {
            let logits = predict(self.network, &self.weights, &self.values, images).map_err(candle_failed)?;
            let targets: Vec<Target> = classes.iter().map(|&class| Target { class, weight: 1.0 }).collect();
            let (loss, _) = cross_entropy(&logits, &targets);
            sum += loss.sum;
            correct += loss.correct;
        }
        let count = images.len() as f64;
        Ok((!images.is_empty()).then(|| (sum / count, correct as f64 / count)))
    }
}

/// What the network says of images of bytes: `[images, classes]` values before softmax.
pub fn predict(
    network: &Network,
    weights: &Weights,
    values: &[f32; 256],
    images: &[&[u8]],
) -> candle_core::Result<Vec<f32>> {
    let shape = network.input();
    let mut batch = vec![0.0; images.len() * shape.len()];
    batch.par_chunks_mut(shape.len()).zip(images).for_each(|(output, image)| normalise(image, values, output));
    let batch = Tensor::from_vec(batch, (images.len(), shape.height, shape.width, shape.channels), &Device::Cpu)?;
    network.predict(weights, &batch)?.flatten_all()?.to_vec1()
}

fn normalise(image: &[u8], values: &[f32; 256], output: &mut [f32]) {
    for (output, &byte) in output.iter_mut().zip(image) {
        *output = values[usize::from(byte)];
    }
}

fn class_weights(kind: ClassWeights, classes: &[usize], count: usize) -> Vec<f64> {
    match kind {
        ClassWeights::None => vec![1.0; count],
        ClassWeights::Balanced => {
            let rows = |class| classes.iter().filter(|&&other| other == class).count().max(1);
            (0..count).map(|class| classes.len() as f64 / (count * rows(class)) as f64).collect()
        }
    }
}

#[cfg(test)]
mod tests;
