//! The paired comparison of two evaluations of the same rows.

use hamflow_stage_api::{Input, PairedDifference, Pairs, StageError};

use crate::ml::metric::{METRICS, Metric, PairedBootstrap, Resampling};
use crate::paired_predictions::PairedPredictions;
use crate::prediction_table::PredictionTable;

/// The number of bootstrap resamples.
const RESAMPLES: usize = 1000;

/// Compares the predictions of two evaluations, split by split.
pub struct PairedEvaluations;

impl Pairs for PairedEvaluations {
    fn output(&self) -> &'static str {
        "predictions"
    }

    fn differences(&self, results: [&Input; 2]) -> Result<Vec<PairedDifference>, StageError> {
        let inputs = results.map(Clone::clone);
        let mut found = Vec::new();
        for split in PredictionTable::splits(results[0])? {
            let predictions = PairedPredictions::read(&split, &inputs)?;
            found.extend(of_split(&split, &predictions));
        }
        Ok(found)
    }
}

fn of_split(split: &str, predictions: &PairedPredictions) -> Vec<PairedDifference> {
    let [reference, other] = &predictions.scores[..] else { return Vec::new() };
    let resampling = Resampling::over(predictions.lesions.iter().map(String::as_str));
    let metrics: Vec<&Metric> = METRICS.iter().collect();
    // The same seed each time, so that a page shows the same interval whenever it is made.
    let paired = PairedBootstrap::draw(&predictions.scores, &resampling, &metrics, RESAMPLES, 0);
    let difference = |(place, metric): (usize, &&Metric)| {
        let value = (metric.measure)(other).ok()? - (metric.measure)(reference).ok()?;
        let interval = paired.difference([0, 1], place)?;
        Some(PairedDifference { metric: format!("{split}.{}", metric.name), value, interval })
    };
    metrics.iter().enumerate().filter_map(difference).collect()
}
