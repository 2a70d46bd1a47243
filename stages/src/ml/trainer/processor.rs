//! The training engine for the CPU.

use candle_core::{Device, Tensor};
use hamflow_stage_api::StageError;
use rayon::prelude::*;

use super::{Data, Engine, Epoch, Samples, Step, Steps, Tally, candle_failed, worst_gradient};
use crate::ml::augment::{Affine, change_colours};
use crate::ml::kernels::Level;
use crate::ml::loss::{BatchLoss, Loss, Target};
use crate::ml::network::{Batch, Network, Workspace};
use crate::ml::op::{Pass, mix};
use crate::ml::optimiser::Adam;
use crate::ml::weights::Weights;

/// The number of images per forward pass outside training.
pub const INFERENCE_BATCH: usize = 64;

/// The CPU engine. Its results are bit-identical on every machine.
pub struct Processor<'a> {
    network: &'a Network,
    level: Level,
    work: Workspace,
    weights: Weights,
    adam: Adam,
}

impl<'a> Processor<'a> {
    /// Starts with these weights.
    pub fn new(network: &'a Network, weights: Weights) -> Self {
        Self {
            network,
            level: Level::detect(),
            work: Workspace::default(),
            weights,
            adam: Adam::new(network.parameter_count()),
        }
    }

    /// Executes one step, unless its loss is not finite.
    fn run_step(&mut self, epoch: &Epoch<'_>, step: Step<'_>) -> Result<BatchLoss, StageError> {
        let mut images = self.batch(epoch, step);
        let mut targets = epoch.targets(step);
        if let Some(mix) = epoch.mix(step) {
            mix.apply(&mut images, &mut targets);
        }
        let key = mix(epoch.recipe.seed, self.adam.steps() + 1);
        let pass = Pass { level: self.level, ..Pass::training(key) };
        let batch = Batch { images: &images, targets: &targets, loss: epoch.recipe.loss() };
        let (network, work) = (self.network, &mut self.work);
        let loss = self
            .weights
            .with_slices(|weights| network.gradients(weights, &pass, batch, work))
            .map_err(candle_failed)?;
        if !loss.sum.is_finite() {
            return Ok(loss);
        }
        if epoch.recipe.clip_norm > 0.0 {
            self.work.clip(epoch.recipe.clip_norm);
        }
        self.adam
            .step(self.level, step.learning_rate, network.parameters(), self.work.gradient(), &self.weights)
            .map_err(candle_failed)?;
        network.update_statistics(&self.work, &self.weights).map_err(candle_failed)?;
        Ok(loss)
    }

    /// The normalised and, if enabled, augmented images of a step.
    fn batch(&self, epoch: &Epoch<'_>, step: Step<'_>) -> Vec<f32> {
        let shape = self.network.input();
        let normalisation = &epoch.data.normalisation;
        let values = normalisation.table();
        let mut batch = vec![0.0; step.images.len() * shape.len()];
        batch.par_chunks_mut(shape.len()).zip(step.images).enumerate().for_each(|(offset, (output, &i))| {
            let image = epoch.data.training.images[i];
            match epoch.draw(step.position + offset) {
                Some(draw) => {
                    Affine::new(&draw, shape).apply(shape, image, &values, output);
                    if draw.colour != [1.0; 3] && shape.channels == 3 {
                        change_colours(draw.colour, normalisation, output);
                    }
                }
                None => normalise(image, &values, output),
            }
        });
        batch
    }
}

impl Engine for Processor<'_> {
    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn adam(&self) -> &Adam {
        &self.adam
    }

    fn restore(&mut self, weights: Weights, adam: Adam) -> Result<(), StageError> {
        (self.weights, self.adam) = (weights, adam);
        Ok(())
    }

    fn run_steps(&mut self, epoch: &Epoch<'_>, observe: &mut dyn FnMut(Tally, f64)) -> Result<Steps, StageError> {
        let mut tally = Tally::default();
        for step in epoch.steps() {
            let loss = self.run_step(epoch, step)?;
            let learning_rate = step.learning_rate;
            if !loss.sum.is_finite() {
                return Ok(Steps::Diverged { step: self.adam.steps() + 1, loss: loss.sum, learning_rate });
            }
            tally.images += step.images.len();
            tally.loss += loss.sum;
            tally.correct += loss.correct;
            observe(tally, learning_rate);
        }
        Ok(Steps::Done(tally))
    }

    fn validate(&mut self, data: &Data<'_>) -> Result<Tally, StageError> {
        let Samples { images, classes } = &data.validation;
        let values = data.normalisation.table();
        let mut tally = Tally { images: images.len(), ..Tally::default() };
        for (images, classes) in images.chunks(INFERENCE_BATCH).zip(classes.chunks(INFERENCE_BATCH)) {
            let logits = predict(self.network, &self.weights, &values, images).map_err(candle_failed)?;
            let targets: Vec<Target> = classes.iter().map(|&class| Target::new(class, 1.0)).collect();
            let (loss, _) = Loss::default().of(&logits, &targets);
            tally.loss += loss.sum;
            tally.correct += loss.correct;
        }
        Ok(tally)
    }

    fn worst_gradient(&mut self) -> Result<String, StageError> {
        Ok(worst_gradient(self.network.parameters(), self.work.gradient()))
    }

    fn into_weights(self: Box<Self>) -> Weights {
        self.weights
    }
}

/// The logits of images given as bytes, `[images, classes]`.
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
