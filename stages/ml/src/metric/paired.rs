//! The paired bootstrap: the same lesions are drawn for all models.

use hamflow_stage_api::Random;
use rayon::prelude::*;

use super::{Interval, Metric, Resampling, Scores, interval};

/// The metrics of several models on resamples of the same rows.
#[derive(Debug, Clone)]
pub struct PairedBootstrap {
    /// For each resample, model and metric; `None` if undefined.
    drawn: Vec<Vec<Vec<Option<f64>>>>,
}

impl PairedBootstrap {
    /// Draws groups of rows and measures each model's `scores` on them. The scores of all models are in the order of the rows of
    /// `resampling`.
    pub fn draw(scores: &[Scores], resampling: &Resampling, metrics: &[&Metric], resamples: usize, seed: u64) -> Self {
        let measured = |counts: &Vec<u32>, scores: &Scores| {
            let resampled = scores.resampled(counts.clone());
            metrics.iter().map(|metric| (metric.measure)(&resampled).ok()).collect()
        };
        let drawn = (0..resamples)
            .into_par_iter()
            .map(|number| {
                let counts = resampling.draw(&mut Random::new(seed, &format!("bootstrap {number}")));
                scores.iter().map(|scores| measured(&counts, scores)).collect()
            })
            .collect();
        Self { drawn }
    }

    /// The interval of a model's metric, by their places.
    pub fn interval(&self, model: usize, metric: usize) -> Option<Interval> {
        interval(&self.drawn.iter().map(|models| models[model][metric]).collect::<Vec<_>>())
    }

    /// The interval of the metric of `other` minus that of `reference`.
    pub fn difference(&self, [reference, other]: [usize; 2], metric: usize) -> Option<Interval> {
        let between = |models: &Vec<Vec<Option<f64>>>| Some(models[other][metric]? - models[reference][metric]?);
        interval(&self.drawn.iter().map(between).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{fixture, metric};

    #[test]
    fn models_that_err_on_the_same_rows_differ_by_less_than_their_intervals_are_wide() {
        let scores = fixture::scores();
        // The same model, but certain of one more row.
        let mut probabilities = scores.probabilities().to_vec();
        let row = (0..scores.len()).find(|row| scores.predicted()[*row] != scores.truth()[*row]).unwrap();
        probabilities[row] = (0..7).map(|class| f64::from(class == scores.truth()[row])).collect();
        let better = Scores::new(scores.truth().to_vec(), probabilities, 7).unwrap();
        let names: Vec<String> = (0..scores.len()).map(|row| row.to_string()).collect();
        let resampling = Resampling::over(names.iter().map(String::as_str));
        let accuracy = metric("accuracy").unwrap();
        let paired = PairedBootstrap::draw(&[scores, better], &resampling, &[accuracy], 400, 3);
        let [low, high] = paired.difference([0, 1], 0).unwrap();
        // The row is drawn between 0 and 4 times in nearly all resamples of 120 rows.
        assert!(low == 0.0 && (1.0 / 120.0..=4.0 / 120.0).contains(&high), "{low} {high}");
        let [from, to] = paired.interval(0, 0).unwrap();
        assert!(to - from > 3.0 * (high - low), "{from} {to}");
        assert_eq!(paired.difference([1, 0], 0), Some([-high, -low]));
        assert_eq!(paired.difference([0, 0], 0), Some([0.0, 0.0]));
    }
}
