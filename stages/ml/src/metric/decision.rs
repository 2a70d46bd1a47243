//! The decision for rare classes: probabilities divided by a power of the class's share, chosen on validation rows
//! (post-hoc logit adjustment, Menon et al. 2021, equation 9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::accuracy::balanced_accuracy;
use super::{METRICS, Scores, confusion_matrix};

/// The powers that are tried.
const POWERS: [f64; 16] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5];

/// The metrics of a split with the adjusted decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The power; 0 for the most probable class.
    pub power: f64,
    /// The metrics of the adjusted probabilities by name; null if undefined.
    pub values: BTreeMap<String, Option<f64>>,
    /// Row counts by true class (row) and predicted class (column).
    pub confusion_matrix: Vec<Vec<usize>>,
}

impl Decision {
    /// Chooses the power with the highest balanced accuracy on `validation`, the smallest one in a tie, and measures
    /// `scores` with it. `None` if `validation` has no rows.
    pub fn of(scores: &Scores, validation: &Scores) -> Option<Self> {
        let shares = shares(validation)?;
        let mut best: Option<(f64, f64)> = None;
        for power in POWERS {
            let score = balanced_accuracy(&adjusted(validation, &shares, power)?).ok()?;
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((power, score));
            }
        }
        let (power, _) = best?;
        let scores = adjusted(scores, &shares, power)?;
        let values = METRICS.iter().map(|metric| (metric.name.to_owned(), (metric.measure)(&scores).ok()));
        Some(Self { power, values: values.collect(), confusion_matrix: confusion_matrix(&scores) })
    }

    /// The value of a metric, if defined.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied().flatten()
    }
}

/// The share of each class; a class without rows counts as if it had one.
fn shares(scores: &Scores) -> Option<Vec<f64>> {
    let rows = scores.len();
    (rows > 0).then(|| scores.support().into_iter().map(|count| count.max(1) as f64 / rows as f64).collect())
}

/// The probabilities divided by the power of the shares, with a sum of 1.
fn adjusted(scores: &Scores, shares: &[f64], power: f64) -> Option<Scores> {
    let factors: Vec<f64> = shares.iter().map(|share| libm::pow(*share, -power)).collect();
    let adjust = |row: &Vec<f64>| {
        let values: Vec<f64> = row.iter().zip(&factors).map(|(value, factor)| value * factor).collect();
        let sum: f64 = values.iter().sum();
        if sum > 0.0 { values.iter().map(|value| value / sum).collect() } else { row.clone() }
    };
    let probabilities = scores.probabilities().iter().map(adjust).collect();
    Scores::new(scores.truth().to_vec(), probabilities, scores.classes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(rows: &[(usize, [f64; 2])]) -> Scores {
        let truth = rows.iter().map(|(class, _)| *class).collect();
        Scores::new(truth, rows.iter().map(|(_, row)| row.to_vec()).collect(), 2).unwrap()
    }

    // import numpy as np; from sklearn.metrics import balanced_accuracy_score
    // p = np.array([[.9, .1], [.8, .2], [.7, .3], [.55, .45], [.95, .05], [.6, .4], [.65, .35], [.9, .1]])
    // y = np.array([0, 0, 0, 0, 0, 0, 1, 1]); s = np.array([6, 2]) / 8
    // for t in np.arange(16) / 10: print(t, balanced_accuracy_score(y, (p / s**t).argmax(1)))
    #[test]
    fn the_power_with_the_best_balanced_accuracy_is_chosen() {
        let validation = scores(&[
            (0, [0.9, 0.1]),
            (0, [0.8, 0.2]),
            (0, [0.7, 0.3]),
            (0, [0.55, 0.45]),
            (0, [0.95, 0.05]),
            (0, [0.6, 0.4]),
            (1, [0.65, 0.35]),
            (1, [0.9, 0.1]),
        ]);
        let decision = Decision::of(&validation, &validation).unwrap();
        assert_eq!(decision.power, 0.6);
        assert!((decision.value("balanced_accuracy").unwrap() - 7.0 / 12.0).abs() < 1e-12);
        assert_eq!(decision.confusion_matrix, [[4, 2], [1, 1]]);
    }

    #[test]
    fn nothing_changes_where_nothing_helps() {
        let perfect = scores(&[(0, [0.9, 0.1]), (0, [0.8, 0.2]), (1, [0.1, 0.9])]);
        let decision = Decision::of(&perfect, &perfect).unwrap();
        assert_eq!((decision.power, decision.value("accuracy")), (0.0, Some(1.0)));
        assert_eq!(Decision::of(&perfect, &scores(&[])), None);
    }
}
