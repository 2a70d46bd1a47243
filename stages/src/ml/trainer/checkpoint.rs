//! The serialised training state between two epochs. It is exact: resuming gives the same bytes as uninterrupted training.

use hamflow_stage_api::{StageError, envelope};
use serde::{Deserialize, Serialize};

use super::{Best, EpochRecord, Trainer, candle_failed};
use crate::ml::optimiser::Adam;
use crate::ml::schedule::Schedule;
use crate::ml::weights::Parameter;
use crate::ml::weights::Weights;

/// Precedes the BLAKE3 hash of the rest.
const MAGIC: &[u8] = b"hamflow-training 3\n";

/// Everything that an epoch depends on from earlier ones. Random numbers come from streams of the seed and the epoch.
/// The encoding is postcard, which preserves every bit of a float.
#[derive(Serialize, Deserialize)]
struct State {
    history: Vec<EpochRecord>,
    /// The number of epochs of the learning rate schedule, if it depends on it.
    planned: Option<usize>,
    schedule: Schedule,
    weights: Vec<Vec<f32>>,
    best: Option<BestState>,
    /// The optimiser's number of steps, and its moments.
    steps: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct BestState {
    epoch: usize,
    accuracy: f64,
    weights: Vec<Vec<f32>>,
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
    postcard::from_bytes(envelope::open(MAGIC, bytes)?).ok()
}

impl Trainer<'_> {
    /// Serialises the state after the last epoch.
    pub fn checkpoint(&self) -> Result<Vec<u8>, StageError> {
        let adam = self.engine.adam();
        let (first, second) = adam.moments();
        let best = self.best.as_ref().map(|best| {
            let Best { epoch, accuracy, ref weights } = *best;
            Ok::<_, StageError>(BestState { epoch, accuracy, weights: values(weights)? })
        });
        let state = State {
            history: self.history.clone(),
            planned: self.planned(),
            schedule: self.schedule,
            weights: values(self.engine.weights())?,
            best: best.transpose()?,
            steps: adam.steps(),
            first: first.to_vec(),
            second: second.to_vec(),
        };
        let body = postcard::to_stdvec(&state)
            .map_err(|error| StageError::bug(format!("cannot serialise the training state: {error}")))?;
        Ok(envelope::seal(MAGIC, &body))
    }

    /// Restores a state that was saved with the same seed, recipe, network and data, if it has at most `most` epochs.
    pub fn restore(&mut self, bytes: &[u8], most: usize) -> Result<Restored, StageError> {
        let count = self.network.parameter_count();
        let fits = |state: &State| state.first.len() == count && state.second.len() == count;
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
            Some(BestState { epoch, accuracy, weights: values }) => match weights(self.network.tensors(), values)? {
                None => return Ok(Restored::Unusable),
                Some(weights) => Some(Best { epoch, accuracy, weights }),
            },
        };
        self.engine.restore(current, Adam::from_moments(state.steps, state.first, state.second))?;
        (self.best, self.schedule, self.history) = (best, state.schedule, state.history);
        Ok(Restored::After(self.history.len()))
    }

    fn planned(&self) -> Option<usize> {
        self.recipe.schedule.is_planned().then_some(self.recipe.epochs)
    }

    /// The epochs so far.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }
}
