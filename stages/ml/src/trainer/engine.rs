//! The interface between the training loop and a device.

use hamflow_stage_api::StageError;

use super::{Data, Epoch};
use crate::optim::OptimiserState;
use crate::weights::Parameter;
use crate::weights::Weights;

/// Accumulated results of some steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// The number of images.
    pub images: usize,
    /// The sum of their losses.
    pub loss: f64,
    /// The number of correctly classified images.
    pub correct: usize,
}

impl Tally {
    /// The mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// The fraction of correctly classified images.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

/// How the steps of an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steps {
    /// All steps were executed.
    Done(Tally),
    /// The loss of a step was not finite. The weights since the previous epoch are lost.
    Diverged {
        /// The step, 1-based over all epochs.
        step: u64,
        /// The loss.
        loss: f64,
        /// The learning rate of the step.
        learning_rate: f64,
    },
}

/// The results on the validation images.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Loss and right answers.
    pub tally: Tally,
    /// The class probabilities of each image.
    pub probabilities: Vec<Vec<f64>>,
}

/// What an engine needs to continue.
#[derive(Debug, Clone)]
pub struct EngineState {
    /// The weights.
    pub weights: Weights,
    /// The moving average of the weights, if it is enabled.
    pub average: Option<Weights>,
    /// The state of the optimiser.
    pub optimiser: OptimiserState,
}

/// A device that trains. It holds the weights and the optimiser's moments.
///
/// Random numbers and learning rates are part of the epoch, so all engines give the same results up to rounding.
pub trait Engine {
    /// The weights after the last complete epoch.
    fn weights(&self) -> &Weights;

    /// The moving average of the weights, if it is enabled. It is what is validated and kept.
    fn average(&self) -> Option<&Weights> {
        None
    }

    /// The state of the optimiser after the last complete epoch.
    fn optimiser(&self) -> &OptimiserState;

    /// Replaces the state.
    fn restore(&mut self, state: EngineState) -> Result<(), StageError>;

    /// Executes the steps of an epoch. Calls `observe` occasionally with the results so far and the learning rate.
    fn run_steps(&mut self, epoch: &Epoch<'_>, observe: &mut dyn FnMut(Tally, f64)) -> Result<Steps, StageError>;

    /// Evaluates the validation images, which must not be empty.
    fn validate(&mut self, data: &Data<'_>) -> Result<Validated, StageError>;

    /// A description of the largest gradient in the last step, or in the diverged step, for an error message.
    fn worst_gradient(&mut self) -> Result<String, StageError>;

    /// Returns the weights, or their average if it is enabled.
    fn into_weights(self: Box<Self>) -> Weights;
}

/// A description of the parameter with the largest or with a non-finite gradient.
pub fn worst_gradient(parameters: &[Parameter], gradient: &[f32]) -> String {
    let size = |value: &f32| if value.is_nan() { f32::INFINITY } else { value.abs() };
    let largest = |range: &std::ops::Range<usize>| gradient[range.clone()].iter().map(size).fold(0.0, f32::max);
    let worst = parameters.iter().map(|parameter| (largest(&parameter.range), &parameter.name));
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
