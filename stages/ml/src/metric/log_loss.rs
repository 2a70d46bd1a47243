//! The log loss (cross-entropy).

use super::{Measured, Scores};

/// The mean negative natural logarithm of the true class's probability.
///
/// As in scikit-learn for f64, probabilities are clamped to [ε, 1 − ε] with ε = 2⁻⁵², so that a single certain and
/// wrong row costs 36.04 instead of infinity.
pub fn log_loss(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let price = |probability: f64| -libm::log(probability.clamp(f64::EPSILON, 1.0 - f64::EPSILON));
    let total: f64 = scores.rows().map(|row| row.count as f64 * price(row.probabilities[row.truth])).sum();
    Ok(total / scores.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    // log_loss([1], [[1.0, 0.0]], labels=[0, 1]) == 36.04365338911715
    #[test]
    fn certain_and_wrong_costs_36() {
        let scores = fixture::certain(&[(1, 0)], 2);
        assert!((log_loss(&scores).unwrap() - 36.04365338911715).abs() < 1e-12);
    }

    // log_loss([0], [[1.0, 0.0]], labels=[0, 1]) == 2.220446049250313e-16
    #[test]
    fn certain_and_right_costs_epsilon() {
        let scores = fixture::certain(&[(0, 0)], 2);
        assert!((log_loss(&scores).unwrap() - 2.220446049250313e-16).abs() < 1e-24);
    }
}
