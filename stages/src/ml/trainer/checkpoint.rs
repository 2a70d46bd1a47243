//! The state of training between two epochs as bytes: exact, so that going on from it gives the bytes that an uninterrupted
//! training gives.

use hamflow_stage_api::StageError;
use serde::{Deserialize, Serialize};

use super::{Best, EpochRecord, Trainer, candle_failed};
use crate::ml::network::Parameter;
use crate::ml::optimiser::Adam;
use crate::ml::schedule::Schedule;
use crate::ml::weights::Weights;

/// Stands before the BLAKE3 hash of the rest.
const MAGIC: &[u8] = b"hamflow-training 3\n";

/// All that an epoch needs of earlier ones; random numbers come from streams of the seed and the epoch alone. The encoding
/// is postcard's, which keeps every bit of a float.
#[derive(Serialize, Deserialize)]
struct State {
    history: Vec<EpochRecord>,
    /// How many epochs the learning rate was planned over, where it was.
    planned: Option<usize>,
    schedule: Schedule,
    weights: Vec<Vec<f32>>,
    best: Option<BestState>,
    /// Steps of the optimiser, and its moments.
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

/// What became of a saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// Training goes on after this epoch.
    After(usize),
    /// It has more epochs than are wanted; nothing was changed.
    Longer,
    /// Its learning rate was planned over another number of epochs; nothing was changed.
    OtherPlan,
    /// It is damaged, or of another network; nothing was changed.
    Unusable,
}

fn values(weights: &Weights) -> Result<Vec<Vec<f32>>, StageError> {
    weights.with_slices(|slices| slices.iter().map(|slice| slice.to_vec()).collect()).map_err(candle_failed)
}

/// The weights, where they are as many as the network wants.
fn weights(parameters: &[Parameter], values: Vec<Vec<f32>>) -> Result<Option<Weights>, StageError> {
    let fit = values.len() == parameters.len()
        && parameters.iter().zip(&values).all(|(parameter, values)| parameter.config.len() == values.len());
    fit.then(|| Weights::from_values(parameters, values.into_iter()).map_err(candle_failed)).transpose()
}

fn decode(bytes: &[u8]) -> Option<State> {
    let (hash, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    postcard::from_bytes(body).ok()
}

impl Trainer<'_> {
    /// The state after the last epoch.
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
            .map_err(|error| StageError::bug(format!("the state of training cannot be encoded: {error}")))?;
        Ok([MAGIC, blake3::hash(&body).as_bytes(), &body].concat())
    }

    /// Goes on from a state that was saved with the same seed, recipe, network and data, if it has at most `most` epochs.
    pub fn restore(&mut self, bytes: &[u8], most: usize) -> Result<Restored, StageError> {
        let parameters = self.network.parameters();
        let count = self.network.parameter_count();
        let fits = |state: &State| state.first.len() == count && state.second.len() == count;
        let Some(state) = decode(bytes).filter(fits) else { return Ok(Restored::Unusable) };
        if state.planned != self.planned() {
            return Ok(Restored::OtherPlan);
        }
        if state.history.len() > most {
            return Ok(Restored::Longer);
        }
        let Some(current) = weights(parameters, state.weights)? else { return Ok(Restored::Unusable) };
        let best = match state.best {
            None => None,
            Some(BestState { epoch, accuracy, weights: values }) => match weights(parameters, values)? {
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
