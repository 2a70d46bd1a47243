//! The training engine for a CUDA device.

use std::collections::BTreeMap;

use hamflow_stage_api::StageError;

use super::CudaError;
use super::buffer::{Buffer, Number, f32_values};
use super::cursor::Cursor;
use super::epoch_buffer::{EpochBuffer, EpochValues};
use super::queue::Queue;
use super::rate::Groups;
use super::session::{Session, Settings, Source};
use crate::loss::softmax;
use crate::network::Network;
use crate::optim::OptimiserState;
use crate::precision::Precision;
use crate::recipe::Recipe;
use crate::trainer::{Data, Engine, EngineState, Epoch, INFERENCE_BATCH, Steps, Tally, Validated, worst_gradient};
use crate::weights::Weights;

/// Steps between two reads of the cursor, frequent enough for a progress display.
const CURSOR_INTERVAL: usize = 64;

/// Images per upload to the device.
const UPLOAD: usize = 1024;

/// The phase that a recording belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Training,
    Validation,
}

/// The engine that trains on a device.
pub struct CudaEngine<'a, Q: Queue> {
    network: &'a Network,
    /// The recorded commands of a step, by its number of images. Dropped before the session, whose kernels and memory
    /// they use.
    recordings: BTreeMap<(Part, usize), Q::Recording>,
    session: Session<Q>,
    training: Source,
    validation: Source,
    validation_batch: usize,
    /// The sizes of the steps of an epoch.
    step_sizes: Vec<usize>,
    /// The logits of the validation images.
    logits: Buffer,
    groups: Groups,
    weights: Weights,
    average: Option<Weights>,
    optimiser: OptimiserState,
    /// Whether these weights and moments are on the device.
    is_loaded: bool,
    /// Whether the loss of a step was not finite.
    diverged: bool,
    /// Whether steps replay what was recorded, instead of giving their commands again.
    replays: bool,
}

/// The sizes of the steps for `images` images in batches. With normalisation, a single last image joins the step before,
/// as in `Trainer`.
fn step_sizes(images: usize, batch: usize, is_normalised: bool) -> Vec<usize> {
    let joins = is_normalised && images > batch && images % batch == 1;
    let (whole, last) = match joins {
        true => (images / batch - 1, batch + 1),
        false => (images / batch, images % batch),
    };
    [(whole, batch), (1, last)]
        .into_iter()
        .filter(|&(steps, size)| steps > 0 && size > 0)
        .map(|(_, size)| size)
        .collect()
}

impl<'a, Q: Queue> CudaEngine<'a, Q> {
    /// Uploads the images, allocates all memory for training, and records the steps.
    pub fn new(
        queue: Q,
        network: &'a Network,
        recipe: &Recipe,
        precision: Precision,
        data: &Data<'_>,
        weights: Weights,
    ) -> Result<Self, CudaError> {
        let (trained, validated) = (data.training.images.len(), data.validation.images.len());
        let validation_batch = INFERENCE_BATCH.max(recipe.batch_size);
        let of_training = step_sizes(trained, recipe.batch_size, network.is_normalised());
        let of_validation = step_sizes(validated, validation_batch, false);
        let augment = recipe.augment.0;
        let colours = augment
            .is_some_and(|augment| augment.brightness > 0.0 || augment.contrast > 0.0 || augment.saturation > 0.0);
        let groups = Groups::new(network, recipe)?;
        let vectors = recipe.optimiser_config().build().vectors();
        let settings = Settings {
            precision,
            images: of_training.iter().chain(&of_validation).copied().max().unwrap_or(0),
            loss: recipe.loss(),
            clip_norm: recipe.clip_norm,
            moves: augment.is_some(),
            colours: colours && network.input().channels == 3,
            erases: augment.is_some_and(|augment| augment.erasing > 0.0),
            mixes: recipe.mixup > 0.0 || recipe.cutmix > 0.0,
            adjusts: recipe.logit_adjustment > 0.0,
            optimiser: recipe.optimiser_config(),
            averages: recipe.ema > 0.0,
            seed: recipe.seed,
            normalisation: data.normalisation,
        };
        let mut session = Session::new(queue, network, groups.numbers(), settings)?;
        let training = source(&mut session.queue, &data.training.images, recipe.batch_size, groups.len())?;
        let validation = source(&mut session.queue, &data.validation.images, validation_batch, 0)?;
        let average = (recipe.ema > 0.0).then(|| weights.snapshot()).transpose();
        let mut engine = Self {
            network,
            training,
            validation,
            validation_batch,
            step_sizes: of_training.clone(),
            logits: session.queue.allocate(Number::F32, validated * network.classes())?,
            recordings: BTreeMap::new(),
            groups,
            weights,
            average: average.map_err(|error| CudaError::failed("copy the weights", error))?,
            optimiser: OptimiserState::zeros(vectors, network.parameter_count()),
            session,
            is_loaded: false,
            diverged: false,
            replays: true,
        };
        let training = of_training.into_iter().map(|size| (Part::Training, size));
        let validation = of_validation.into_iter().map(|size| (Part::Validation, size));
        let parts: Vec<_> = training.chain(validation).collect();
        let convolutions: Vec<_> =
            parts.iter().flat_map(|(_, size)| engine.session.plan().convolutions(*size)).collect();
        engine.session.queue.prepare(&convolutions)?;
        for (part, size) in parts {
            engine.record(part, size)?;
        }
        if validated > 0 {
            let values = EpochValues::of_validation(&data.validation.classes);
            engine.validation.epoch.upload(&mut engine.session.queue, &values)?;
        }
        Ok(engine)
    }

    /// Records a step of `size` images. Runs it once before, so that the libraries load what they need.
    fn record(&mut self, part: Part, size: usize) -> Result<(), CudaError> {
        // With a cursor after a non-finite loss, weights and results do not change.
        let idle = Cursor { bad_step: u64::MAX, ..Cursor::default() };
        let source = self.source(part);
        self.session.set_cursor(source.cursor, idle)?;
        self.order(part, size)?;
        self.session.queue.begin_recording()?;
        let ordered = self.order(part, size);
        // The recording ends even if a command fails: no other call is allowed while it lasts.
        let recording = self.session.queue.end_recording();
        ordered?;
        self.recordings.insert((part, size), recording?);
        Ok(())
    }

    /// Gives the commands of each step again instead of replaying them: the results must be the same.
    pub fn without_recordings(self) -> Self {
        Self { replays: false, ..self }
    }

    fn order(&mut self, part: Part, size: usize) -> Result<(), CudaError> {
        let source = self.source(part);
        match part {
            Part::Training => self.session.train(&source, size),
            Part::Validation => self.session.validate(&source, size, self.logits),
        }
    }

    fn source(&self, part: Part) -> Source {
        match part {
            Part::Training => self.training,
            Part::Validation => self.validation,
        }
    }

    fn replay(&mut self, part: Part, size: usize) -> Result<(), CudaError> {
        if !self.replays {
            return self.order(part, size);
        }
        let recording = self
            .recordings
            .get(&(part, size))
            .ok_or_else(|| CudaError::Unsupported { what: format!("unexpected step size of {size} images") })?;
        self.session.queue.replay(recording)
    }

    fn load(&mut self) -> Result<(), StageError> {
        if !self.is_loaded {
            self.session.load(&values(&self.weights)?)?;
            if let Some(average) = &self.average {
                self.session.load_average(&values(average)?)?;
            }
            self.session.load_moments(&self.optimiser.moments)?;
            self.is_loaded = true;
        }
        Ok(())
    }

    /// Freezes the parameters that do not train in an epoch. Other frozen ones need other commands.
    fn begin_epoch(&mut self, epoch: &Epoch<'_>) -> Result<(), CudaError> {
        self.groups.begin_epoch(epoch.number);
        if !epoch.logit_offsets.is_empty() {
            self.session.load_offsets(epoch.logit_offsets)?;
        }
        if self.session.freeze(self.groups.frozen()) {
            self.recordings.retain(|(part, _), _| *part != Part::Training);
            for size in self.step_sizes.clone() {
                self.record(Part::Training, size)?;
            }
        }
        Ok(())
    }

    /// Enqueues an epoch; stops early if a read of the cursor reveals a non-finite loss.
    fn order_epoch(&mut self, epoch: &Epoch<'_>, observe: &mut dyn FnMut(Tally, f64)) -> Result<(), CudaError> {
        let mut looked = None;
        for (number, step) in (1..).zip(epoch.steps()) {
            self.replay(Part::Training, step.images.len())?;
            if number % CURSOR_INTERVAL != 0 {
                continue;
            }
            let slot = number / CURSOR_INTERVAL % 2;
            self.session.queue.send_back(self.training.cursor, slot)?;
            // The cursor of the previous read; meanwhile, the device executes the commands since then.
            if let Some((slot, learning_rate)) = looked.replace((slot, step.learning_rate)) {
                let cursor = Cursor::from_bytes(&self.session.queue.received(slot)?);
                if cursor.bad_step != 0 {
                    return Ok(());
                }
                observe(tally(cursor), learning_rate);
            }
        }
        Ok(())
    }

    /// Downloads weights and moments from the device, after this number of steps in an epoch.
    fn take_state(&mut self, steps: u64) -> Result<(), StageError> {
        let counts = self.groups.counts(&self.optimiser, steps);
        let moments = self.session.moments(self.optimiser.moments.len())?;
        self.optimiser = OptimiserState { steps: self.optimiser.steps + steps, counts, moments };
        let (values, average) = (self.session.values()?, self.session.average()?);
        self.weights = self.weights_of(&values)?;
        self.average = average.map(|values| self.weights_of(&values)).transpose()?;
        Ok(())
    }

    /// Parameters lie one after the other, then the statistics.
    fn weights_of(&self, mut rest: &[f32]) -> Result<Weights, StageError> {
        let values = self.network.tensors().map(|tensor| {
            let (values, after) = rest.split_at(tensor.config.len());
            rest = after;
            values.to_vec()
        });
        Weights::from_values(self.network.tensors(), values).map_err(weights_failed)
    }
}

/// All values, one tensor after the other.
fn values(weights: &Weights) -> Result<Vec<f32>, StageError> {
    weights.with_slices(|slices| slices.concat()).map_err(weights_failed)
}

fn weights_failed(error: candle_core::Error) -> StageError {
    StageError::bug(format!("cannot store the weights: {error}"))
}

/// Uploads images and allocates buffers for the epoch's random numbers.
fn source<Q: Queue>(queue: &mut Q, images: &[&[u8]], batch: usize, groups: usize) -> Result<Source, CudaError> {
    let length: usize = images.iter().map(|image| image.len()).sum();
    let buffer: Buffer = queue.allocate(Number::U8, length)?;
    let mut start = 0;
    for chunk in images.chunks(UPLOAD) {
        let bytes = chunk.concat();
        queue.upload(buffer.slice(start..start + bytes.len()), &bytes)?;
        start += bytes.len();
    }
    Ok(Source {
        images: buffer,
        epoch: EpochBuffer::new(queue, images.len(), images.len().div_ceil(batch), groups)?,
        cursor: queue.allocate(Number::U8, Cursor::SIZE)?,
    })
}

fn tally(cursor: Cursor) -> Tally {
    Tally { images: cursor.next as usize, loss: cursor.loss, correct: cursor.correct as usize }
}

impl<Q: Queue> Engine for CudaEngine<'_, Q> {
    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn average(&self) -> Option<&Weights> {
        self.average.as_ref()
    }

    fn optimiser(&self) -> &OptimiserState {
        &self.optimiser
    }

    fn restore(&mut self, state: EngineState) -> Result<(), StageError> {
        (self.weights, self.average, self.optimiser) = (state.weights, state.average, state.optimiser);
        self.is_loaded = false;
        Ok(())
    }

    fn run_steps(&mut self, epoch: &Epoch<'_>, observe: &mut dyn FnMut(Tally, f64)) -> Result<Steps, StageError> {
        self.load()?;
        self.begin_epoch(epoch)?;
        let values = EpochValues::draw(epoch, &self.optimiser, &self.groups, self.network.input());
        self.training.epoch.upload(&mut self.session.queue, &values)?;
        let before = self.optimiser.steps;
        self.session.set_cursor(self.training.cursor, Cursor { step: before, ..Cursor::default() })?;
        self.order_epoch(epoch, observe)?;
        let cursor = Cursor::from_bytes(&self.session.queue.download(self.training.cursor)?);
        let rate = |step: u64| epoch.rates[(step - before) as usize - 1];
        if cursor.bad_step != 0 {
            (self.diverged, self.is_loaded) = (true, false);
            let learning_rate = rate(cursor.bad_step);
            return Ok(Steps::Diverged { step: cursor.bad_step, loss: cursor.loss, learning_rate });
        }
        if cursor.next != epoch.order.len() as u64 {
            let (next, all) = (cursor.next, epoch.order.len());
            let error = CudaError::failed("finish an epoch", format!("it stopped after {next} of {all} images"));
            return Err(error.into());
        }
        self.take_state(cursor.step - before)?;
        if cursor.step > before {
            observe(tally(cursor), rate(cursor.step));
        }
        Ok(Steps::Done(tally(cursor)))
    }

    fn validate(&mut self, data: &Data<'_>) -> Result<Validated, StageError> {
        self.load()?;
        self.session.begin_validation()?;
        self.session.set_cursor(self.validation.cursor, Cursor::default())?;
        for images in data.validation.images.chunks(self.validation_batch) {
            self.replay(Part::Validation, images.len())?;
        }
        let cursor = Cursor::from_bytes(&self.session.queue.download(self.validation.cursor)?);
        let tally = Tally { images: data.validation.images.len(), ..tally(cursor) };
        let logits = f32_values(&self.session.queue.download(self.logits)?);
        let probabilities = logits.chunks_exact(self.network.classes()).map(softmax).collect();
        Ok(Validated { tally, probabilities })
    }

    fn worst_gradient(&mut self) -> Result<String, StageError> {
        let gradient = self.session.last_gradient(self.diverged)?;
        Ok(worst_gradient(self.network.parameters(), &gradient))
    }

    fn into_weights(self: Box<Self>) -> Weights {
        self.average.unwrap_or(self.weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_sizes_of_those_of_an_epoch() {
        for (images, batch, is_normalised, sizes) in [
            (39, 4, true, vec![4, 3]),
            (40, 4, true, vec![4]),
            (9, 4, true, vec![4, 5]),
            (5, 4, true, vec![5]),
            (5, 4, false, vec![4, 1]),
            (3, 4, true, vec![3]),
            (1, 4, true, vec![1]),
            (0, 4, false, vec![]),
        ] {
            assert_eq!(step_sizes(images, batch, is_normalised), sizes, "{images} images in batches of {batch}");
        }
    }
}
