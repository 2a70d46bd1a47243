//! Agreement of predictions and true classes beyond chance.

use super::{Measured, Scores, Undefined, confusion_matrix};

/// Cohen's kappa (Cohen 1960): 1 − observed / expected disagreement (`cohen_kappa_score`).
///
/// Undefined if labels and predictions are all of one class, because the expected agreement by chance is then perfect.
pub fn cohen_kappa(scores: &Scores) -> Measured {
    let Margins { rows, right, expected, .. } = Margins::of(scores)?;
    let disagreement = (rows * rows) as f64 - expected as f64;
    if disagreement == 0.0 {
        return Err(Undefined::new("labels and predictions are all of one class"));
    }
    Ok(1.0 - (rows - right) as f64 * rows as f64 / disagreement)
}

/// The correlation of labels and predictions for several classes (Gorodkin 2004, R_K; `matthews_corrcoef`); 0 if
/// either are all of one class, as in scikit-learn.
pub fn matthews_correlation(scores: &Scores) -> Measured {
    let Margins { rows, right, expected, truth_squares, predicted_squares } = Margins::of(scores)?;
    let covariance = (right * rows) as f64 - expected as f64;
    let spread = |squares: u128| (rows * rows) as f64 - squares as f64;
    let product = spread(truth_squares) * spread(predicted_squares);
    Ok(if product == 0.0 { 0.0 } else { covariance / product.sqrt() })
}

/// Exact sums over the confusion matrix.
struct Margins {
    rows: u128,
    right: u128,
    /// Σ labels of a class × predictions of it.
    expected: u128,
    truth_squares: u128,
    predicted_squares: u128,
}

impl Margins {
    fn of(scores: &Scores) -> Result<Self, Undefined> {
        scores.require_rows()?;
        let matrix = confusion_matrix(scores);
        let mut margins =
            Self { rows: scores.len() as u128, right: 0, expected: 0, truth_squares: 0, predicted_squares: 0 };
        for (class, row) in matrix.iter().enumerate() {
            let truth = row.iter().sum::<usize>() as u128;
            let predicted = matrix.iter().map(|row| row[class]).sum::<usize>() as u128;
            margins.right += row[class] as u128;
            margins.expected += truth * predicted;
            margins.truth_squares += truth * truth;
            margins.predicted_squares += predicted * predicted;
        }
        Ok(margins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    // cohen_kappa_score([0, 0, 1], [0, 0, 0]) == 0.0, matthews_corrcoef the same; cohen_kappa_score([1, 1], [1, 1]) is nan
    #[test]
    fn a_constant_prediction_agrees_no_more_than_chance() {
        let constant = fixture::certain(&[(0, 0), (0, 0), (1, 0)], 2);
        assert_eq!((cohen_kappa(&constant), matthews_correlation(&constant)), (Ok(0.0), Ok(0.0)));
        let same = fixture::certain(&[(1, 1), (1, 1)], 2);
        assert!(cohen_kappa(&same).unwrap_err().reason.contains("all of one class"));
        assert_eq!(matthews_correlation(&same), Ok(0.0));
    }
}
