//! Measures the time of predictions and of training steps.

use std::time::{Duration, Instant};

use hamflow_stage_api::{Input, StageContext, StageError};

use crate::comparison_record::{Latency, ModelLatency};
use crate::ml::card::Member;
use crate::ml::classifier::{Classifier, thread_pool};
use crate::ml::loss::{Loss, Target};
use crate::ml::network::{Batch, Workspace};
use crate::ml::op::Pass;
use crate::ml::optim::{self, Adam, OptimiserState};

/// The least number of repetitions, of which the median counts.
const LEAST: usize = 5;
/// The time after which no more repetitions start.
const ENOUGH: Duration = Duration::from_millis(1500);

/// Measures each model with images of its size. Their content does not matter: every prediction does the same operations.
pub fn measure(models: &[Input], context: &StageContext<'_>) -> Result<Latency, StageError> {
    let threads = context.threads();
    let of_model = |model: &Input| {
        let classifier = Classifier::load(model)?;
        let [height, width, channels] = classifier.shape();
        let image: Vec<u8> = (0..height * width * channels).map(|place| (place % 251) as u8).collect();
        let batch = vec![&image[..]; ModelLatency::BATCH];
        let pool = thread_pool(threads)?;
        let predict = |images: &[&[u8]]| median(&mut || classifier.probabilities_in(&pool, images, 1).map(drop));
        let one_image_ms = rounded(predict(&batch[..1])?);
        let batch_ms_per_image = rounded(predict(&batch)? / ModelLatency::BATCH as f64);
        let mut training_ms = 0.0;
        for member in classifier.into_members() {
            training_ms += pool.install(|| training_step(&member, &image))?;
        }
        let training_ms_per_image = rounded(training_ms / ModelLatency::BATCH as f64);
        Ok(ModelLatency { one_image_ms, batch_ms_per_image, training_ms_per_image })
    };
    let models = models.iter().map(of_model).collect::<Result<_, StageError>>()?;
    Ok(Latency { models, threads })
}

/// The median milliseconds of a call. The first one, which allocates buffers, does not count.
fn median(call: &mut dyn FnMut() -> Result<(), StageError>) -> Result<f64, StageError> {
    call()?;
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.len() < LEAST || began.elapsed() < ENOUGH {
        let started = Instant::now();
        call()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// The median milliseconds of a step of training: forward and backward pass, statistics, and Adam.
fn training_step(member: &Member, image: &[u8]) -> Result<f64, StageError> {
    let Member { card, network, weights } = member;
    let weights = weights.snapshot().map_err(failed)?;
    let images: Vec<f32> =
        image.iter().map(|value| f32::from(*value) / 255.0).collect::<Vec<_>>().repeat(ModelLatency::BATCH);
    let targets: Vec<Target> = (0..ModelLatency::BATCH).map(|row| Target::new(row % card.classes.len(), 1.0)).collect();
    let mut optimiser = OptimiserState::zeros(2, network.parameter_count());
    let rates = vec![Some(1e-6); network.parameters().len()];
    let mut work = Workspace::default();
    median(&mut || {
        let pass = Pass::training(optimiser.steps);
        let batch = Batch { images: &images, targets: &targets, loss: Loss::default(), offsets: &[] };
        weights.with_slices(|weights| network.gradients(weights, &pass, batch, &mut work)).map_err(failed)?;
        network.update_statistics(&work, &weights).map_err(failed)?;
        let parameters = (network.parameters(), &rates[..]);
        optim::step(&Adam, &mut optimiser, pass.level, parameters, work.gradient(), &weights).map_err(failed)
    })
}

fn failed(error: candle_core::Error) -> StageError {
    StageError::bug(format!("a step of training failed: {error}"))
}

/// To a thousandth of a millisecond.
fn rounded(milliseconds: f64) -> f64 {
    libm::round(milliseconds * 1e3) / 1e3
}
