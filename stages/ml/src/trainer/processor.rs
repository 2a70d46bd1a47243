//! The training engine for the CPU.

use candle_core::{Device, Tensor};
use hamflow_stage_api::StageError;
use rayon::prelude::*;

use super::groups::ParameterGroups;
use super::{Data, Engine, EngineState, Epoch, Samples, Step, Steps, Tally, Validated, candle_failed, worst_gradient};
use crate::augment::{Affine, Draw, change_colours, erase};
use crate::loss::{BatchLoss, Loss, Target, softmax};
use crate::network::{Batch, Network, Predictor, Workspace};
use crate::normalisation::{Table, normalise};
use crate::op::{Pass, mix};
use crate::optim::{self, Optimiser, OptimiserState};
use crate::recipe::Recipe;
use crate::weights::Weights;
use hamflow_kernels::network::Level;

/// The number of images per forward pass outside training.
pub const INFERENCE_BATCH: usize = 64;

/// The CPU engine. Its results are bit-identical on every machine.
pub struct Processor<'a> {
    network: &'a Network,
    level: Level,
    work: Workspace,
    weights: Weights,
    average: Option<Weights>,
    optimiser: Box<dyn Optimiser>,
    state: OptimiserState,
    groups: ParameterGroups,
}

impl<'a> Processor<'a> {
    /// Starts with these weights.
    pub fn new(network: &'a Network, recipe: &Recipe, weights: Weights) -> Result<Self, StageError> {
        let optimiser = recipe.optimiser_config().build();
        let average = (recipe.ema > 0.0).then(|| weights.snapshot()).transpose().map_err(candle_failed)?;
        Ok(Self {
            level: Level::detect(),
            work: Workspace::default(),
            weights,
            average,
            state: OptimiserState::zeros(optimiser.vectors(), network.parameter_count()),
            optimiser,
            groups: ParameterGroups::new(network, recipe),
            network,
        })
    }

    /// Executes one step, unless its loss is not finite.
    fn run_step(&mut self, epoch: &Epoch<'_>, step: Step<'_>) -> Result<BatchLoss, StageError> {
        let mut images = self.batch(epoch, step);
        let mut targets = epoch.targets(step);
        if let Some(mix) = epoch.mix(step, self.network.input()) {
            mix.apply(self.network.input(), &mut images, &mut targets);
        }
        let key = mix(epoch.recipe.seed, self.state.steps + 1);
        let pass = Pass { level: self.level, ..Pass::training(key) };
        let batch =
            Batch { images: &images, targets: &targets, loss: epoch.recipe.loss(), offsets: epoch.logit_offsets };
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
        let rates = self.groups.rates(step.learning_rate);
        let parameters = (network.parameters(), &rates[..]);
        let (gradient, weights) = (self.work.gradient(), &self.weights);
        optim::step(&*self.optimiser, &mut self.state, self.level, parameters, gradient, weights)
            .map_err(candle_failed)?;
        network.update_statistics(&self.work, &self.weights).map_err(candle_failed)?;
        if let (Some(average), Some(decay)) = (&self.average, epoch.recipe.average_decay(self.state.steps)) {
            average.blend(self.level, (1.0 - decay) as f32, &self.weights).map_err(candle_failed)?;
        }
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
                    if let Some(erased) = draw.erased {
                        erase(erased, shape, output);
                    }
                }
                None => normalise(image, shape.channels, &values, output),
            }
        });
        batch
    }
}

impl Engine for Processor<'_> {
    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn average(&self) -> Option<&Weights> {
        self.average.as_ref()
    }

    fn optimiser(&self) -> &OptimiserState {
        &self.state
    }

    fn restore(&mut self, state: EngineState) -> Result<(), StageError> {
        (self.weights, self.average, self.state) = (state.weights, state.average, state.optimiser);
        Ok(())
    }

    fn run_steps(&mut self, epoch: &Epoch<'_>, observe: &mut dyn FnMut(Tally, f64)) -> Result<Steps, StageError> {
        let mut tally = Tally::default();
        self.groups.begin_epoch(epoch.number);
        self.work.freeze(self.network, self.groups.frozen());
        for step in epoch.steps() {
            let loss = self.run_step(epoch, step)?;
            let learning_rate = step.learning_rate;
            if !loss.sum.is_finite() {
                return Ok(Steps::Diverged { step: self.state.steps + 1, loss: loss.sum, learning_rate });
            }
            tally.images += step.images.len();
            tally.loss += loss.sum;
            tally.correct += loss.correct;
            observe(tally, learning_rate);
        }
        Ok(Steps::Done(tally))
    }

    fn validate(&mut self, data: &Data<'_>) -> Result<Validated, StageError> {
        let Samples { images, classes, .. } = &data.validation;
        let values = data.normalisation.table();
        let weights = self.average.as_ref().unwrap_or(&self.weights);
        let predictor = self.network.predictor(weights).map_err(candle_failed)?;
        let mut tally = Tally { images: images.len(), ..Tally::default() };
        let mut probabilities = Vec::with_capacity(images.len());
        for (images, classes) in images.chunks(INFERENCE_BATCH).zip(classes.chunks(INFERENCE_BATCH)) {
            let logits = predict_view(&predictor, &values, images, &Draw::NONE).map_err(candle_failed)?;
            let targets: Vec<Target> = classes.iter().map(|&class| Target::new(class, 1.0)).collect();
            let (loss, _) = Loss::default().of(&logits, &targets);
            tally.loss += loss.sum;
            tally.correct += loss.correct;
            probabilities.extend(logits.chunks_exact(self.network.classes()).map(softmax));
        }
        Ok(Validated { tally, probabilities })
    }

    fn worst_gradient(&mut self) -> Result<String, StageError> {
        Ok(worst_gradient(self.network.parameters(), self.work.gradient()))
    }

    fn into_weights(self: Box<Self>) -> Weights {
        self.average.unwrap_or(self.weights)
    }
}

/// The logits of a view of images given as bytes, `[images, classes]`.
pub fn predict_view(
    predictor: &Predictor<'_>,
    values: &Table,
    images: &[&[u8]],
    view: &Draw,
) -> candle_core::Result<Vec<f32>> {
    let shape = predictor.network().input();
    let mut batch = vec![0.0; images.len() * shape.len()];
    batch.par_chunks_mut(shape.len()).zip(images).for_each(|(output, image)| match *view == Draw::NONE {
        true => normalise(image, shape.channels, values, output),
        false => Affine::new(view, shape).apply(shape, image, values, output),
    });
    let batch = Tensor::from_vec(batch, (images.len(), shape.height, shape.width, shape.channels), &Device::Cpu)?;
    predictor.predict(&batch)?.flatten_all()?.to_vec1()
}
