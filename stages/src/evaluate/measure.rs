//! The metrics of each split, with confidence intervals over lesions and for subgroups.

use hamflow_stage_api::{Random, StageError};
use rayon::prelude::*;

use super::rows::{ATTRIBUTES, Row};
use crate::ml::metric::{Malignant, Resampling, Scores, SplitMetrics};
use crate::plot::grouped;

/// The evaluated rows and their scores.
pub struct Evaluated<'a> {
    /// The rows, in table order.
    pub rows: &'a [Row],
    /// The scores, in the same order.
    pub scores: &'a Scores,
    /// The class labels in index order.
    pub labels: &'a [String],
    /// The labels of the malignant classes.
    pub malignant: &'a [String],
    /// The number of bootstrap resamples; 0 for no intervals.
    pub resamples: usize,
    /// The seed of the resampling.
    pub seed: u64,
}

impl Evaluated<'_> {
    /// The rows and scores of one split.
    pub fn split(&self, name: &str) -> Result<(Vec<&Row>, Scores), StageError> {
        let places: Vec<usize> =
            self.rows.iter().enumerate().filter(|(_, row)| row.split == name).map(|(place, _)| place).collect();
        let truth = places.iter().map(|place| self.rows[*place].class).collect();
        let probabilities = places.iter().map(|place| self.scores.probabilities()[*place].clone()).collect();
        let scores = Scores::new(truth, probabilities, self.scores.classes());
        let scores = scores.map_err(|error| StageError::bug(error.to_string()))?;
        Ok((places.iter().map(|place| &self.rows[*place]).collect(), scores))
    }

    /// Measures a split. The temperature is fitted on `validation`, if available.
    pub fn measure(&self, name: &str, rows: &[&Row], scores: &Scores, validation: Option<&Scores>) -> SplitMetrics {
        let mut metrics = SplitMetrics::of(scores, self.labels);
        metrics.synthetic = rows.iter().any(|row| row.synthetic);
        if scores.is_empty() {
            return metrics;
        }
        let resampling = Resampling::over(rows.iter().map(|row| row.lesion_id.as_str()));
        let draws: Vec<Vec<u32>> = (0..self.resamples)
            .into_par_iter()
            .map(|number| resampling.draw(&mut Random::new(self.seed, &format!("bootstrap {name} {number}"))))
            .collect();
        metrics.add_intervals(scores, &draws, &format!("{} lesions", grouped(resampling.groups() as u64)));
        metrics.malignant = Malignant::of(scores, self.labels, self.malignant, &draws);
        for attribute in ATTRIBUTES {
            let values: Option<Vec<&str>> =
                rows.iter().map(|row| row.attributes.get(attribute).map(String::as_str)).collect();
            if let Some(values) = values {
                metrics.add_subgroups(attribute, &values, scores, &draws);
            }
        }
        if let Some(validation) = validation {
            metrics.add_calibration(scores, validation);
        }
        metrics
    }
}
