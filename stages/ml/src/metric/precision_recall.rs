//! Precision, recall and F1.

use super::{Measured, Scores, Undefined};

/// The prediction counts of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Rows of the class that were predicted as the class.
    pub true_positives: usize,
    /// Rows of other classes that were predicted as the class.
    pub false_positives: usize,
    /// Rows of the class that were predicted as another class.
    pub false_negatives: usize,
}

impl ClassCounts {
    /// The number of rows of the class.
    pub fn support(&self) -> usize {
        self.true_positives + self.false_negatives
    }

    /// The number of rows that were predicted as the class.
    pub fn predicted(&self) -> usize {
        self.true_positives + self.false_positives
    }

    /// Whether the class occurs among the labels or the predictions.
    pub fn occurs(&self) -> bool {
        self.support() + self.predicted() > 0
    }

    /// The fraction of rows predicted as the class that are of the class.
    ///
    /// 0 if the class has rows but is never predicted, as in scikit-learn; undefined if it has no rows either.
    pub fn precision(&self) -> Measured {
        self.require_occurrence()?;
        Ok(ratio(self.true_positives, self.predicted()))
    }

    /// The fraction of the class's rows that are predicted as the class; undefined without rows.
    pub fn recall(&self) -> Measured {
        if self.support() == 0 {
            return Err(Undefined::new("no rows of this class"));
        }
        Ok(ratio(self.true_positives, self.support()))
    }

    /// The harmonic mean of precision and recall; undefined if the class has no rows and is never predicted.
    pub fn f1(&self) -> Measured {
        self.require_occurrence()?;
        Ok(ratio(2 * self.true_positives, self.predicted() + self.support()))
    }

    fn require_occurrence(&self) -> Result<(), Undefined> {
        if self.occurs() { Ok(()) } else { Err(Undefined::new("no rows of this class, and it is never predicted")) }
    }
}

/// The quotient with 0/0 = 0, as scikit-learn's `zero_division="warn"`.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The prediction counts of each class.
pub fn class_counts(scores: &Scores) -> Vec<ClassCounts> {
    let mut counts = vec![ClassCounts::default(); scores.classes()];
    for row in scores.rows() {
        if row.truth == row.predicted {
            counts[row.truth].true_positives += row.count;
        } else {
            counts[row.truth].false_negatives += row.count;
            counts[row.predicted].false_positives += row.count;
        }
    }
    counts
}

/// The mean over the classes that occur.
///
/// scikit-learn also averages over these, unless it is given `labels`. A class that is predicted but has no rows
/// counts with recall 0 in both.
fn macro_mean(scores: &Scores, of: fn(&ClassCounts) -> Measured) -> Measured {
    scores.require_rows()?;
    scores.require_drawn_classes()?;
    let values: Vec<f64> =
        class_counts(scores).iter().filter(|counts| counts.occurs()).map(|counts| of(counts).unwrap_or(0.0)).collect();
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean over the classes, each weighted by its rows.
fn weighted_mean(scores: &Scores, of: fn(&ClassCounts) -> Measured) -> Measured {
    scores.require_rows()?;
    let counts = class_counts(scores);
    let total: f64 = counts.iter().map(|counts| of(counts).unwrap_or(0.0) * counts.support() as f64).sum();
    Ok(total / scores.len() as f64)
}

/// The mean precision of the classes that occur.
pub fn precision_macro(scores: &Scores) -> Measured {
    macro_mean(scores, ClassCounts::precision)
}

/// The mean recall of the classes that occur.
pub fn recall_macro(scores: &Scores) -> Measured {
    macro_mean(scores, ClassCounts::recall)
}

/// The mean F1 of the classes that occur.
pub fn f1_macro(scores: &Scores) -> Measured {
    macro_mean(scores, ClassCounts::f1)
}

/// The mean precision, weighted by rows.
pub fn precision_weighted(scores: &Scores) -> Measured {
    weighted_mean(scores, ClassCounts::precision)
}

/// The mean recall, weighted by rows.
pub fn recall_weighted(scores: &Scores) -> Measured {
    weighted_mean(scores, ClassCounts::recall)
}

/// The mean F1, weighted by rows.
pub fn f1_weighted(scores: &Scores) -> Measured {
    weighted_mean(scores, ClassCounts::f1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    // precision_recall_fscore_support(truth, predicted, labels=range(7), zero_division=0) on the fixture
    #[test]
    fn every_class_matches_scikit_learn() {
        for (class, counts) in class_counts(&fixture::scores()).iter().enumerate() {
            let (precision, recall, f1, support) = fixture::PER_CLASS[class];
            assert!((counts.precision().unwrap() - precision).abs() < 1e-12, "precision of {class}");
            assert!((counts.recall().unwrap() - recall).abs() < 1e-12, "recall of {class}");
            assert!((counts.f1().unwrap() - f1).abs() < 1e-12, "F1 of {class}");
            assert_eq!(counts.support(), support);
        }
    }

    #[test]
    fn a_class_without_rows_has_no_recall() {
        let counts = class_counts(&fixture::certain(&[(0, 0), (0, 1)], 3));
        assert_eq!(counts[1].precision(), Ok(0.0));
        assert_eq!(counts[1].recall().unwrap_err().reason, "no rows of this class");
        assert!(counts[2].precision().is_err() && counts[2].f1().is_err());
    }

    // recall_score([0, 0], [0, 1], average="macro") == 0.25, precision_score 0.5, f1_score 1/3: class 2 is in neither
    #[test]
    fn macro_means_are_over_the_classes_that_occur() {
        let scores = fixture::certain(&[(0, 0), (0, 1)], 3);
        assert_eq!(recall_macro(&scores), Ok(0.25));
        assert_eq!(precision_macro(&scores), Ok(0.5));
        assert!((f1_macro(&scores).unwrap() - 1.0 / 3.0).abs() < 1e-15);
    }
}
