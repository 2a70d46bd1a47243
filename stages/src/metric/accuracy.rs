//! Shares of rows that are right.

use super::{Measured, Scores, Undefined, class_counts};

/// The share of rows that are predicted right.
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

/// The accuracy of always answering the most frequent class of these rows.
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
    fn a_class_without_rows_does_not_count_in_balanced_accuracy() {
        // balanced_accuracy_score([0, 0, 1], [0, 2, 1]) == 0.75, with a warning about class 2
        let scores = fixture::certain(&[(0, 0), (0, 2), (1, 1)], 3);
        assert_eq!(balanced_accuracy(&scores).unwrap(), 0.75);
        assert_eq!(isic_2018_score(&scores).unwrap_err().reason, "1 of 3 classes have no rows");
    }

    // A constant answer has the balanced accuracy 1/2 whatever is drawn, as long as both classes are.
    #[test]
    fn a_resample_without_a_class_is_no_value_of_a_mean_over_classes() {
        let scores = fixture::certain(&[(0, 0), (0, 0), (1, 0)], 3);
        assert_eq!(balanced_accuracy(&scores.resampled(vec![1, 1, 1])).unwrap(), 0.5);
        let lost = scores.resampled(vec![2, 1, 0]);
        for metric in ["balanced_accuracy", "precision_macro", "recall_macro", "f1_macro"] {
            assert!((crate::metric::metric(metric).unwrap().measure)(&lost).is_err(), "{metric}");
        }
        assert_eq!(accuracy(&lost).unwrap(), 1.0);
    }

    #[test]
    fn a_constant_answer_gets_the_majority_class_accuracy() {
        let scores = fixture::certain(&[(0, 0), (0, 0), (1, 0)], 2);
        assert_eq!(accuracy(&scores), majority_class_accuracy(&scores));
    }
}
