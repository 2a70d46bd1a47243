//! Calibration of the probabilities.

use super::{Measured, Scores, Undefined, log_loss};

/// Number of equal-width bins over the confidence, the probability of the predicted class.
pub const BINS: usize = 15;

/// A bin of rows with similar confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// The number of rows.
    pub rows: usize,
    /// The number of correctly predicted rows.
    pub right: usize,
    /// The sum of the confidences.
    pub confidence: f64,
}

/// Assigns the rows to 15 equal-width bins by confidence; bins include their upper bound only.
pub fn bins(scores: &Scores) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for row in scores.rows() {
        let confidence = row.probabilities[row.predicted];
        let place = (libm::ceil(confidence * BINS as f64) as usize).clamp(1, BINS) - 1;
        let bin = &mut bins[place];
        bin.rows += row.count;
        bin.right += if row.truth == row.predicted { row.count } else { 0 };
        bin.confidence += row.count as f64 * confidence;
    }
    bins
}

/// The mean distance between accuracy and confidence over the bins, weighted by rows (Guo et al. 2017,
/// arXiv:1706.04599, eq. 3).
pub fn expected_calibration_error(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let distance: f64 = bins(scores).iter().map(|bin| (bin.right as f64 - bin.confidence).abs()).sum();
    Ok(distance / scores.len() as f64)
}

/// The mean squared distance between a row's probabilities and its one-hot class (Brier 1950), between 0 and 2
/// (`brier_score_loss(scale_by_half=False)`).
pub fn brier(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let total: f64 = scores
        .rows()
        .map(|row| {
            let wanted = |class: usize| if class == row.truth { 1.0 } else { 0.0 };
            let squares =
                row.probabilities.iter().enumerate().map(|(class, p)| (p - wanted(class)) * (p - wanted(class)));
            row.count as f64 * squares.sum::<f64>()
        })
        .sum();
    Ok(total / scores.len() as f64)
}

/// The search range for temperatures.
const TEMPERATURES: (f64, f64) = (0.05, 20.0);

/// The temperature T that minimises the log loss of softmax(ln p / T) (Guo et al. 2017, section 4.2).
///
/// The loss is convex in 1/T, so its minimum is found by bisection of the slope between 0.05 and 20. Undefined if the
/// minimum is at a bound, e.g. if every row is correct.
pub fn temperature(scores: &Scores) -> Measured {
    scores.require_rows()?;
    let rows: Vec<(Vec<f64>, usize, f64)> = scores
        .rows()
        .map(|row| (row.probabilities.iter().map(|p| logit(*p)).collect(), row.truth, row.count as f64))
        .collect();
    // The slope of the loss in β = 1/T: the mean over rows of Σ q ln p − ln p of the true class.
    let slope = |beta: f64| -> f64 {
        let of_row = |(logits, truth, count): &(Vec<f64>, usize, f64)| {
            let q = softmax(logits, beta);
            let mean: f64 = q.iter().zip(logits).map(|(q, l)| q * l).sum();
            count * (mean - logits[*truth])
        };
        rows.iter().map(of_row).sum()
    };
    let (mut low, mut high) = (1.0 / TEMPERATURES.1, 1.0 / TEMPERATURES.0);
    if slope(low) >= 0.0 || slope(high) <= 0.0 {
        let (least, most) = TEMPERATURES;
        return Err(Undefined::new(format!("no temperature between {least} and {most} makes the loss least")));
    }
    while high - low > 1e-12 * high {
        let middle = (low + high) / 2.0;
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(2.0 / (low + high))
}

/// The scores with every row's probabilities raised to 1/`temperature` and renormalised.
pub fn tempered(scores: &Scores, temperature: f64) -> Scores {
    let row = |row: &Vec<f64>| {
        let logits: Vec<f64> = row.iter().map(|p| logit(*p)).collect();
        softmax(&logits, 1.0 / temperature)
    };
    let rows = scores.probabilities().iter().map(row).collect();
    Scores::new(scores.truth().to_vec(), rows, scores.classes()).expect("the rows of a softmax sum to 1")
}

/// The logarithm of a probability, clamped to at least ε = 2⁻⁵² as in [`log_loss`](log_loss::log_loss).
fn logit(probability: f64) -> f64 {
    libm::log(probability.max(f64::EPSILON))
}

fn softmax(logits: &[f64], beta: f64) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|l| libm::exp(beta * (l - largest))).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

/// The log loss, Brier score and calibration error at a temperature.
pub fn at_temperature(scores: &Scores, temperature: f64) -> Result<[f64; 3], Undefined> {
    let scores = tempered(scores, temperature);
    Ok([log_loss::log_loss(&scores)?, brier(&scores)?, expected_calibration_error(&scores)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    // edges = np.linspace(0, 1, 16); c = p.max(1); b = np.digitize(c, edges, right=True) - 1      # on the fixture
    // sum(abs((truth == predicted)[b == i].mean() - c[b == i].mean()) * (b == i).mean() for i in range(15) if (b == i).any())
    #[test]
    fn the_calibration_error_matches_numpy() {
        let found = expected_calibration_error(&fixture::scores()).unwrap();
        assert!((found - fixture::CALIBRATION_ERROR).abs() < 1e-12, "{found}");
        assert_eq!(bins(&fixture::scores()).iter().map(|bin| bin.rows).sum::<usize>(), 120);
    }

    // from scipy.optimize import minimize_scalar; from scipy.special import logsumexp
    // l = np.log(np.maximum(p, np.finfo(float).eps))
    // nll = lambda b: (logsumexp(b * l, axis=1) - b * l[np.arange(120), truth]).mean()
    // t = 1 / minimize_scalar(nll, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-12}).x; print(t, nll(1 / t))
    #[test]
    fn the_temperature_matches_scipy() {
        let found = temperature(&fixture::scores()).unwrap();
        let (expected, loss) = fixture::TEMPERATURE;
        assert!((found - expected).abs() < 1e-5, "{found}");
        let [after, ..] = at_temperature(&fixture::scores(), found).unwrap();
        assert!((after - loss).abs() < 1e-9 && after < fixture::EXPECTED[10].1, "{after}");
    }

    #[test]
    fn all_correct_rows_have_no_temperature() {
        let rows = vec![vec![0.9, 0.1], vec![0.2, 0.8]];
        let reason = temperature(&Scores::new(vec![0, 1], rows, 2).unwrap()).unwrap_err().reason;
        assert!(reason.starts_with("no temperature between"), "{reason}");
    }
}
