//! The serialised training state between two epochs. It is exact: resuming gives the same bytes as uninterrupted training.

use hamflow_stage_api::{StageError, envelope};
use serde::{Deserialize, Serialize};

use super::{Best, EngineState, EpochRecord, Trainer, candle_failed};
use crate::optim::OptimiserState;
use crate::schedule::Schedule;
use crate::weights::Parameter;
use crate::weights::Weights;

/// Precedes the BLAKE3 hash of the rest.
const MAGIC: &[u8] = b"hamflow-training 4\n";

/// The previous version, which knew only Adam and the accuracy.
const MAGIC_3: &[u8] = b"hamflow-training 3\n";

/// Everything that an epoch depends on from earlier ones. Random numbers come from streams of the seed and the epoch.
/// The encoding is postcard, which preserves every bit of a float.
#[derive(Serialize, Deserialize)]
struct State {
    history: Vec<EpochRecord>,
    scores: Vec<Option<f64>>,
    /// The number of epochs of the learning rate schedule, if it depends on it.
    planned: Option<usize>,
    schedule: Schedule,
    weights: Vec<Vec<f32>>,
    average: Option<Vec<Vec<f32>>>,
    best: Option<BestState>,
    optimiser: OptimiserState,
}

#[derive(Serialize, Deserialize)]
struct BestState {
    epoch: usize,
    score: f64,
    weights: Vec<Vec<f32>>,
}

/// A state of version 3.
#[derive(Serialize, Deserialize)]
struct State3 {
    history: Vec<EpochRecord>,
    planned: Option<usize>,
    schedule: Schedule,
    weights: Vec<Vec<f32>>,
    best: Option<BestState>,
    steps: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl From<State3> for State {
    fn from(state: State3) -> Self {
        let State3 { history, planned, schedule, weights, best, steps, first, second } = state;
        Self {
            scores: history.iter().map(|record| record.validation_accuracy).collect(),
            history,
            planned,
            schedule,
            weights,
            average: None,
            best,
            optimiser: OptimiserState { steps, counts: Vec::new(), moments: vec![first, second] },
        }
    }
}

/// The result of restoring a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// Training continues after this epoch.
    After(usize),
    /// The state has more epochs than requested; nothing was changed.
    Longer,
    /// The learning rate schedule has a different number of epochs; nothing was changed.
    OtherPlan,
    /// The state is damaged or belongs to another network; nothing was changed.
    Unusable,
}

fn values(weights: &Weights) -> Result<Vec<Vec<f32>>, StageError> {
    weights.with_slices(|slices| slices.iter().map(|slice| slice.to_vec()).collect()).map_err(candle_failed)
}

/// The weights, if their number matches the network.
fn weights<'p>(
    tensors: impl Iterator<Item = &'p Parameter> + Clone,
    values: Vec<Vec<f32>>,
) -> Result<Option<Weights>, StageError> {
    let fit = values.len() == tensors.clone().count()
        && tensors.clone().zip(&values).all(|(parameter, values)| parameter.config.len() == values.len());
    fit.then(|| Weights::from_values(tensors, values.into_iter()).map_err(candle_failed)).transpose()
}

fn decode(bytes: &[u8]) -> Option<State> {
    match envelope::open(MAGIC, bytes) {
        Some(body) => postcard::from_bytes(body).ok(),
        None => postcard::from_bytes::<State3>(envelope::open(MAGIC_3, bytes)?).ok().map(State::from),
    }
}

impl Trainer<'_> {
    /// Serialises the state after the last epoch.
    pub fn checkpoint(&self) -> Result<Vec<u8>, StageError> {
        let best = self.best.as_ref().map(|best| {
            let Best { epoch, score, ref weights } = *best;
            Ok::<_, StageError>(BestState { epoch, score, weights: values(weights)? })
        });
        let state = State {
            history: self.history.clone(),
            scores: self.scores.clone(),
            planned: self.planned(),
            schedule: self.schedule,
            weights: values(self.engine.weights())?,
            average: self.engine.average().map(values).transpose()?,
            best: best.transpose()?,
            optimiser: self.engine.optimiser().clone(),
        };
        let body = postcard::to_stdvec(&state)
            .map_err(|error| StageError::bug(format!("cannot serialise the training state: {error}")))?;
        Ok(envelope::seal(MAGIC, &body))
    }

    /// Restores a state that was saved with the same seed, recipe, network and data, if it has at most `most` epochs.
    pub fn restore(&mut self, bytes: &[u8], most: usize) -> Result<Restored, StageError> {
        let count = self.network.parameter_count();
        let vectors = self.engine.optimiser().moments.len();
        let fits = |state: &State| {
            state.optimiser.moments.len() == vectors
                && state.optimiser.moments.iter().all(|moments| moments.len() == count)
                && state.average.is_some() == self.engine.average().is_some()
                && state.scores.len() == state.history.len()
        };
        let Some(state) = decode(bytes).filter(fits) else { return Ok(Restored::Unusable) };
        if state.planned != self.planned() {
            return Ok(Restored::OtherPlan);
        }
        if state.history.len() > most {
            return Ok(Restored::Longer);
        }
        let Some(current) = weights(self.network.tensors(), state.weights)? else { return Ok(Restored::Unusable) };
        let best = match state.best {
            None => None,
            Some(BestState { epoch, score, weights: values }) => match weights(self.network.tensors(), values)? {
                None => return Ok(Restored::Unusable),
                Some(weights) => Some(Best { epoch, score, weights }),
            },
        };
        let average = match state.average {
            None => None,
            Some(values) => match weights(self.network.tensors(), values)? {
                None => return Ok(Restored::Unusable),
                average => average,
            },
        };
        self.engine.restore(EngineState { weights: current, average, optimiser: state.optimiser })?;
        (self.best, self.schedule) = (best, state.schedule);
        (self.history, self.scores) = (state.history, state.scores);
        Ok(Restored::After(self.history.len()))
    }

    fn planned(&self) -> Option<usize> {
        self.recipe.schedule.is_planned().then_some(self.recipe.epochs)
    }

    /// For each epoch so far, the metric that chooses the epoch.
    pub fn scores(&self) -> &[Option<f64>] {
        &self.scores
    }

    /// The epochs so far.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }
}

#[cfg(test)]
impl Trainer<'_> {
    /// The state as version 3 wrote it.
    pub(super) fn checkpoint_of_version_3(&self) -> Result<Vec<u8>, StageError> {
        let OptimiserState { steps, moments, .. } = self.engine.optimiser().clone();
        let [first, second] = moments.try_into().expect("Adam has two moments");
        let best = self.best.as_ref().map(|best| {
            let weights = values(&best.weights)?;
            Ok::<_, StageError>(BestState { epoch: best.epoch, score: best.score, weights })
        });
        let state = State3 {
            history: self.history.clone(),
            planned: self.planned(),
            schedule: self.schedule,
            weights: values(self.engine.weights())?,
            best: best.transpose()?,
            steps,
            first,
            second,
        };
        let body = postcard::to_stdvec(&state).map_err(|error| StageError::bug(error.to_string()))?;
        Ok(envelope::seal(MAGIC_3, &body))
    }
}
