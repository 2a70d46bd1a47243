//! The training loop: epochs of steps, validation, the schedule, and which weights are kept.

mod checkpoint;

pub use checkpoint::Restored;

use candle_core::{Device, Tensor};
use hamflow_stage_api::{Random, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ml::augment::{Affine, Augmentation, change_colours};
use crate::ml::kernels::Level;
use crate::ml::layer::{Pass, mix};
use crate::ml::loss::{BatchLoss, Loss, Target};
use crate::ml::mixup::Mix;
use crate::ml::network::{Batch, Network, Workspace};
use crate::ml::normalisation::Normalisation;
use crate::ml::optimiser::Adam;
use crate::ml::schedule::{Curve, Plateau, Schedule};
use crate::ml::weights::Weights;

/// Images of one forward pass outside training.
pub const INFERENCE_BATCH: usize = 64;

/// What helps where training diverged.
const DIVERGED: &str = "a smaller `learning_rate`, or `clip_norm`, usually helps";

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
    values: [f32; 256],
    class_weights: Vec<f64>,
    level: Level,
    work: Workspace,
    weights: Weights,
    adam: Adam,
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
    /// Draws the first weights.
    pub fn new(network: &'a Network, recipe: Recipe, data: Data<'a>) -> Result<Self, StageError> {
        let weights =
            Weights::draw(network.parameters(), &mut Random::new(recipe.seed, "init")).map_err(candle_failed)?;
        Ok(Self {
            network,
            recipe,
            values: data.normalisation.table(),
            class_weights: class_weights(&recipe, &data.training.classes, network.classes()),
            data,
            level: Level::detect(),
            work: Workspace::default(),
            weights,
            adam: Adam::new(network.parameter_count()),
            schedule: Schedule::new(recipe.learning_rate),
            best: None,
            history: Vec::new(),
            diverged: false,
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
        let order = self.order(epoch);
        let mut learning_rate = self.schedule.learning_rate;
        let (mut images, mut sum, mut correct) = (0, 0.0, 0);
        for chosen in order.chunks(self.recipe.batch_size) {
            learning_rate = self.rate(order.len());
            let loss = self.run_step(epoch, images, chosen, learning_rate)?;
            images += chosen.len();
            sum += loss.sum;
            correct += loss.correct;
            let (loss, accuracy) = (sum / images as f64, correct as f64 / images as f64);
            observe(StepReport { epoch, images, loss, accuracy, learning_rate });
        }
        let validation = self.validate()?;
        let measurable = validation.is_none_or(|(loss, _)| loss.is_finite());
        if !measurable || !self.weights.are_finite().map_err(candle_failed)? {
            self.diverged = true;
            return Err(StageError::failed(format!(
                "the weights stopped being numbers in epoch {epoch} with learning rate {learning_rate}; the worst gradient was {}",
                self.worst_gradient()
            ))
            .hint(DIVERGED));
        }
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

    /// The learning rate of the next step, in epochs of `images`.
    fn rate(&self, images: usize) -> f64 {
        let Recipe { epochs, batch_size, schedule, warmup, .. } = self.recipe;
        let steps = images.div_ceil(batch_size) as u64;
        let warmup = libm::round(warmup * steps as f64) as u64;
        self.schedule.learning_rate * schedule.factor(self.adam.steps(), steps * epochs as u64, warmup)
    }

    /// Hands over the weights that the recipe keeps.
    pub fn finish(self) -> Trained {
        match self.best {
            Some(Best { epoch, weights, .. }) => Trained { weights, epoch, history: self.history },
            None => Trained { weights: self.weights, epoch: self.history.len(), history: self.history },
        }
    }

    /// One step on the training images `chosen`, of which the first is at `position` in the epoch's order.
    fn run_step(
        &mut self,
        epoch: usize,
        position: usize,
        chosen: &[usize],
        rate: f64,
    ) -> Result<BatchLoss, StageError> {
        let mut images = self.batch(epoch, position, chosen);
        let target = |&i: &usize| {
            let class = self.data.training.classes[i];
            Target::new(class, self.class_weights[class])
        };
        let mut targets: Vec<Target> = chosen.iter().map(target).collect();
        if self.recipe.mixup > 0.0 {
            let mut random = Random::new(self.recipe.seed, &format!("mixup {epoch} {position}"));
            Mix::draw(&mut random, self.recipe.mixup, chosen.len()).apply(&mut images, &mut targets);
        }
        let step = self.adam.steps() + 1;
        let pass = Pass { level: self.level, dropout: Some(mix(self.recipe.seed, step)) };
        let batch = Batch { images: &images, targets: &targets, loss: self.recipe.loss };
        let (network, work) = (self.network, &mut self.work);
        let loss = self
            .weights
            .with_slices(|weights| network.gradients(weights, &pass, batch, work))
            .map_err(candle_failed)?;
        if !loss.sum.is_finite() {
            self.diverged = true;
            return Err(StageError::failed(format!(
                "the loss became {} at step {step} (epoch {epoch}) with learning rate {rate}; the worst gradient was {}",
                loss.sum,
                self.worst_gradient()
            ))
            .hint(DIVERGED));
        }
        if self.recipe.clip_norm > 0.0 {
            self.work.clip(self.recipe.clip_norm);
        }
        self.adam
            .step(self.level, rate, network.parameters(), self.work.gradient(), &self.weights)
            .map_err(candle_failed)?;
        Ok(loss)
    }

    /// The weights whose gradient in the last step has the largest value, or one that is no number.
    fn worst_gradient(&self) -> String {
        let size = |value: &f32| if value.is_nan() { f32::INFINITY } else { value.abs() };
        let gradient = self.work.gradient();
        let largest = |range: &std::ops::Range<usize>| gradient[range.clone()].iter().map(size).fold(0.0, f32::max);
        let worst = self.network.parameters().iter().map(|parameter| (largest(&parameter.range), &parameter.name));
        let worst = worst.fold(None, |worst: Option<(f32, &String)>, next| match worst {
            Some(found) if found.0 >= next.0 => Some(found),
            _ => Some(next),
        });
        match worst {
            Some((size, name)) if size.is_finite() => format!("{size} in `{name}`"),
            Some((_, name)) => format!("not finite in `{name}`"),
            None => "nowhere".to_owned(),
        }
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
                    if draw.colour != [1.0; 3] && shape.channels == 3 {
                        change_colours(draw.colour, &self.data.normalisation, output);
                    }
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
            let targets: Vec<Target> = classes.iter().map(|&class| Target::new(class, 1.0)).collect();
            let (loss, _) = Loss::default().of(&logits, &targets);
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

fn class_weights(recipe: &Recipe, classes: &[usize], count: usize) -> Vec<f64> {
    let rows = |class| classes.iter().filter(|&&other| other == class).count().max(1);
    match recipe.class_weights {
        ClassWeights::None => vec![1.0; count],
        ClassWeights::Balanced => (0..count).map(|class| classes.len() as f64 / (count * rows(class)) as f64).collect(),
        ClassWeights::EffectiveNumber => {
            let beta = recipe.effective_number_beta;
            let weight = |class| (1.0 - beta) / (1.0 - libm::pow(beta, rows(class) as f64));
            let weights: Vec<f64> = (0..count).map(weight).collect();
            let mean = weights.iter().sum::<f64>() / count as f64;
            weights.iter().map(|weight| weight / mean).collect()
        }
    }
}

#[cfg(test)]
mod tests;
