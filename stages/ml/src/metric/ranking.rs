//! The ranking of a class against the rest, from which ROC and precision–recall curves are computed.

use super::{Measured, Scores, Undefined};

/// Prediction counts at decreasing thresholds, as integers: independent of row order and rounding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// False and true positives, from none to all; one entry per distinct probability.
    pub corners: Vec<(usize, usize)>,
    /// The number of rows of the class.
    pub positives: usize,
    /// The number of rows of other classes.
    pub negatives: usize,
}

impl Ranking {
    /// Ranks the rows by the probability of `class`; undefined without rows.
    pub fn of(scores: &Scores, class: usize) -> Result<Self, Undefined> {
        scores.require_rows()?;
        let mut corners = vec![(0, 0)];
        let (mut wrong, mut right) = (0, 0);
        let mut last = f64::NAN;
        for row in scores.ranked(class) {
            let probability = row.probabilities[class];
            if probability != last && wrong + right > 0 {
                corners.push((wrong, right));
            }
            last = probability;
            if row.truth == class {
                right += row.count;
            } else {
                wrong += row.count;
            }
        }
        corners.push((wrong, right));
        Ok(Self { corners, positives: right, negatives: wrong })
    }

    /// Fails if the class has no rows.
    pub fn require_positives(&self) -> Result<(), Undefined> {
        if self.positives == 0 { Err(Undefined::new("no rows of this class")) } else { Ok(()) }
    }

    /// Fails if the class or all other classes have no rows.
    pub fn require_both(&self) -> Result<(), Undefined> {
        self.require_positives()?;
        if self.negatives == 0 { Err(Undefined::new("no rows of any other class")) } else { Ok(()) }
    }

    /// The area under the ROC curve by the trapezoidal rule; ties count half (`roc_auc_score`).
    pub fn roc_area(&self) -> Measured {
        self.require_both()?;
        let steps = self.corners.windows(2);
        let doubled: u128 = steps.map(|step| ((step[1].0 - step[0].0) * (step[1].1 + step[0].1)) as u128).sum();
        Ok(doubled as f64 / (2.0 * self.positives as f64 * self.negatives as f64))
    }

    /// The mean of the precisions at each increase of recall, weighted by the increase (`average_precision_score`).
    pub fn average_precision(&self) -> Measured {
        self.require_positives()?;
        let rises = self.corners.windows(2).map(|step| {
            let (wrong, right) = step[1];
            (right - step[0].1) as f64 / self.positives as f64 * (right as f64 / (wrong + right) as f64)
        });
        Ok(rises.sum())
    }

    /// The maximum sensitivity over the thresholds with at least `percent` specificity. Thresholds are the
    /// probabilities that occur, without interpolation.
    pub fn sensitivity_at(&self, percent: usize) -> Measured {
        self.require_both()?;
        let allowed = |wrong: usize| wrong * 100 <= self.negatives * (100 - percent);
        let found = self.corners.iter().filter(|(wrong, _)| allowed(*wrong)).map(|(_, right)| *right).max();
        Ok(found.unwrap_or(0) as f64 / self.positives as f64)
    }

    /// The maximum specificity over the thresholds with at least `percent` sensitivity.
    pub fn specificity_at(&self, percent: usize) -> Measured {
        self.require_both()?;
        let found = self.corners.iter().find(|(_, right)| right * 100 >= self.positives * percent);
        Ok(1.0 - found.map_or(self.negatives, |(wrong, _)| *wrong) as f64 / self.negatives as f64)
    }

    /// Recall and precision at decreasing thresholds.
    pub fn precision_recall_points(&self) -> Vec<(f64, f64)> {
        let point = |(wrong, right): &(usize, usize)| {
            (*right as f64 / self.positives.max(1) as f64, *right as f64 / (wrong + right) as f64)
        };
        self.corners.iter().skip(1).map(point).collect()
    }
}

/// The mean average precision of all classes (`average_precision_score(average="macro")` of one-hot labels).
pub fn average_precision_macro(scores: &Scores) -> Measured {
    mean_of_classes(scores, Ranking::average_precision)
}

/// The mean over all classes of a metric of their rankings; undefined if a class has no rows.
pub fn mean_of_classes(scores: &Scores, of: fn(&Ranking) -> Measured) -> Measured {
    let values = of_classes(scores, of)?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// A metric of the ranking of each class; undefined if a class has no rows.
pub fn of_classes(scores: &Scores, of: fn(&Ranking) -> Measured) -> Result<Vec<f64>, Undefined> {
    scores.require_rows()?;
    let support = scores.support();
    let with_rows = support.iter().filter(|rows| **rows > 0).count();
    if with_rows < 2 {
        return Err(Undefined::new("rows of one class only"));
    }
    if with_rows < support.len() {
        return Err(Undefined::new(format!("{} of {} classes have no rows", support.len() - with_rows, support.len())));
    }
    (0..scores.classes()).map(|class| Ranking::of(scores, class).and_then(|ranking| of(&ranking))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    // average_precision_score(truth == c, p[:, c]) for each class of the fixture
    #[test]
    fn every_average_precision_matches_scikit_learn() {
        for (class, expected) in fixture::AVERAGE_PRECISIONS.iter().enumerate() {
            let found = Ranking::of(&fixture::scores(), class).unwrap().average_precision().unwrap();
            assert!((found - expected).abs() < 1e-12, "class {class}: {found} instead of {expected}");
        }
    }

    // fpr, tpr, _ = roc_curve(truth == c, p[:, c], drop_intermediate=False); tpr[fpr <= 0.1].max(), tpr[fpr <= 0.05].max()
    #[test]
    fn sensitivities_match_the_curve_of_scikit_learn() {
        for (class, expected) in fixture::SENSITIVITIES.iter().enumerate() {
            let ranking = Ranking::of(&fixture::scores(), class).unwrap();
            let found = [90, 95].map(|percent| ranking.sensitivity_at(percent).unwrap());
            assert!((found[0] - expected.0).abs() < 1e-12, "class {class}: {found:?}");
            assert!((found[1] - expected.1).abs() < 1e-12, "class {class}: {found:?}");
        }
    }

    #[test]
    fn precision_falls_and_recall_rises_as_the_threshold_falls() {
        let rows = [0.9, 0.8, 0.7, 0.6].map(|p| vec![p, 1.0 - p]).to_vec();
        let scores = Scores::new(vec![0, 1, 0, 1], rows, 2).unwrap();
        let ranking = Ranking::of(&scores, 0).unwrap();
        assert_eq!(ranking.precision_recall_points(), [(0.5, 1.0), (0.5, 0.5), (1.0, 2.0 / 3.0), (1.0, 0.5)]);
        assert_eq!(ranking.average_precision(), Ok(0.5 + 0.5 * (2.0 / 3.0)));
    }
}
