//! What the training loop asks of the device that does the arithmetic.

use hamflow_stage_api::StageError;

use super::{Data, Epoch};
use crate::ml::network::Parameter;
use crate::ml::optimiser::Adam;
use crate::ml::weights::Weights;

/// What some steps gave.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Images so far.
    pub images: usize,
    /// The sum of their losses.
    pub loss: f64,
    /// How many have their largest value at their class.
    pub correct: usize,
}

impl Tally {
    /// The mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// The share of right answers.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

/// How the steps of an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steps {
    /// All were done.
    Done(Tally),
    /// The loss of one was no number; the weights since the last epoch are lost.
    Diverged {
        /// Counted over all epochs, from 1.
        step: u64,
        /// What the loss became.
        loss: f64,
        /// The rate of the step.
        learning_rate: f64,
    },
}

/// A device that trains: it holds the weights and the optimiser's moments, and does what an epoch says.
///
/// All random numbers and rates come with the epoch, so every engine trains alike but for the rounding of its arithmetic.
pub trait Engine {
    /// The weights after the last whole epoch.
    fn weights(&self) -> &Weights;

    /// The moments after the last whole epoch.
    fn adam(&self) -> &Adam;

    /// Goes on from other weights and moments.
    fn restore(&mut self, weights: Weights, adam: Adam) -> Result<(), StageError>;

    /// Does the steps of an epoch; says from time to time how far it is, and at which rate.
    fn run_steps(&mut self, epoch: &Epoch<'_>, observe: &mut dyn FnMut(Tally, f64)) -> Result<Steps, StageError>;

    /// What the weights say of the validation images, of which there are some.
    fn validate(&mut self, data: &Data<'_>) -> Result<Tally, StageError>;

    /// The weights whose gradient in the step that went wrong, or the last, was the largest: for a message.
    fn worst_gradient(&mut self) -> Result<String, StageError>;

    /// Hands over the weights.
    fn into_weights(self: Box<Self>) -> Weights;
}

/// The parameter whose gradient has the largest value, or one that is no number.
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
