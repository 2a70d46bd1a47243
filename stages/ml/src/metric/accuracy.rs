//! Accuracy and balanced accuracy.

use super::{Measured, Scores, Undefined, class_counts};

/// The fraction of correctly predicted rows.
pub fn accuracy(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let right: usize = scores.rows().filter(|row| row.truth == row.predicted).map(|row| row.count).sum();
    Ok(right as f64 / scores.len() as f64)
}

/// The mean recall of the classes that have rows (`balanced_accuracy_score`).
pub fn balanced_accuracy(scores: &Scores) -> Measured {
    scores.require_rows()?;
    scores.require_drawn_classes()?;
    let recalls: Vec<f64> = class_counts(scores).iter().filter_map(|counts| counts.recall().ok()).collect();
    Ok(recalls.iter().sum::<f64>() / recalls.len() as f64)
}

/// The score of the ISIC 2018 challenge, task 3: the mean recall of all classes
/// (Codella et al., *Skin Lesion Analysis Toward Melanoma Detection 2018*, arXiv:1902.03368, "balanced multi-class accuracy").
pub fn isic_2018_score(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let recalls: Vec<f64> = class_counts(scores).iter().filter_map(|counts| counts.recall().ok()).collect();
    let missing = scores.classes() - recalls.len();
    if missing > 0 {
        return Err(Undefined::new(format!("{missing} of {} classes have no rows", scores.classes())));
    }
    Ok(recalls.iter().sum::<f64>() / recalls.len() as f64)
}

/// The accuracy of always predicting the most frequent class of these rows.
pub fn majority_class_accuracy(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let largest = scores.support().into_iter().max().unwrap_or(0);
    Ok(largest as f64 / scores.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    #[test]
    fn balanced_accuracy_ignores_classes_without_rows() {
        // balanced_accuracy_score([0, 0, 1], [0, 2, 1]) == 0.75, with a warning about class 2
        let scores = fixture::certain(&[(0, 0), (0, 2), (1, 1)], 3);
        assert_eq!(balanced_accuracy(&scores).unwrap(), 0.75);
        assert_eq!(isic_2018_score(&scores).unwrap_err().reason, "1 of 3 classes have no rows");
    }

    // A constant prediction has balanced accuracy 1/2 in every resample that contains both classes.
    #[test]
    fn class_means_are_undefined_in_resamples_without_a_class() {
        let scores = fixture::certain(&[(0, 0), (0, 0), (1, 0)], 3);
        assert_eq!(balanced_accuracy(&scores.resampled(vec![1, 1, 1])).unwrap(), 0.5);
        let lost = scores.resampled(vec![2, 1, 0]);
        for metric in ["balanced_accuracy", "precision_macro", "recall_macro", "f1_macro"] {
            assert!((crate::metric::metric(metric).unwrap().measure)(&lost).is_err(), "{metric}");
        }
        assert_eq!(accuracy(&lost).unwrap(), 1.0);
    }

    #[test]
    fn a_constant_prediction_has_the_majority_class_accuracy() {
        let scores = fixture::certain(&[(0, 0), (0, 0), (1, 0)], 2);
        assert_eq!(accuracy(&scores), majority_class_accuracy(&scores));
    }
}
