//! Measures the time of a prediction.

use std::time::{Duration, Instant};

use hamflow_stage_api::{Input, StageContext, StageError};

use crate::comparison_record::{Latency, ModelLatency};
use crate::ml::classifier::Classifier;

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
        let milliseconds = |images: &[&[u8]]| {
            // The first call allocates the buffers.
            classifier.probabilities(images, 1, threads)?;
            let (began, mut times) = (Instant::now(), Vec::new());
            while times.len() < LEAST || began.elapsed() < ENOUGH {
                let started = Instant::now();
                classifier.probabilities(images, 1, threads)?;
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            Ok::<f64, StageError>(times[times.len() / 2])
        };
        Ok(ModelLatency {
            one_image_ms: rounded(milliseconds(&batch[..1])?),
            batch_ms_per_image: rounded(milliseconds(&batch)? / ModelLatency::BATCH as f64),
        })
    };
    let models = models.iter().map(of_model).collect::<Result<_, StageError>>()?;
    Ok(Latency { models, threads })
}

/// To a thousandth of a millisecond.
fn rounded(milliseconds: f64) -> f64 {
    libm::round(milliseconds * 1e3) / 1e3
}
