//! Tests of association between a class and other columns, with effect sizes.

use crate::ml::metric::percentile;

/// The result of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The effect size, between −1 and 1.
    pub effect: f64,
    /// The two-sided p-value.
    pub p: f64,
}

/// The Mann–Whitney U test of whether values of `group` tend to be larger (effect above 0) than those of `rest`, with
/// the normal approximation, corrected for ties and continuity (`scipy.stats.mannwhitneyu(method="asymptotic")`).
///
/// The effect is the rank-biserial correlation 2U/(n·m) − 1 (Kerby 2014): over all pairs, the fraction in which the
/// group's value is larger minus the fraction in which it is smaller. `None` if either side is empty or all values
/// are equal.
pub fn mann_whitney(group: &[f64], rest: &[f64]) -> Option<Test> {
    let (n, m) = (group.len() as f64, rest.len() as f64);
    let mut all: Vec<(f64, bool)> =
        group.iter().map(|value| (*value, true)).chain(rest.iter().map(|value| (*value, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut rank_sum, mut ties) = (0.0, 0.0, 0.0);
    for tie in all.chunk_by(|a, b| a.0 == b.0) {
        let length = tie.len() as f64;
        let rank = below + (length + 1.0) / 2.0;
        rank_sum += rank * tie.iter().filter(|(_, of_group)| *of_group).count() as f64;
        ties += length * length * length - length;
        below += length;
    }
    let total = n + m;
    let variance = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    if n == 0.0 || m == 0.0 || variance <= 0.0 {
        return None;
    }
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    Some(Test { effect: 2.0 * u / (n * m) - 1.0, p: two_sided(distance / variance.sqrt()) })
}

/// Pearson's χ² test of a 2×2 contingency table without continuity correction
/// (`scipy.stats.chi2_contingency(correction=False)`).
///
/// The effect is φ (Cramér 1946), the correlation of the two variables. `None` if a row or a column is empty.
pub fn chi_squared([[a, b], [c, d]]: [[usize; 2]; 2]) -> Option<Test> {
    let [a, b, c, d] = [a, b, c, d].map(|count| count as f64);
    let margins = (a + b) * (c + d) * (a + c) * (b + d);
    if margins == 0.0 {
        return None;
    }
    let phi = (a * d - b * c) / margins.sqrt();
    Some(Test { effect: phi, p: two_sided(phi.abs() * (a + b + c + d).sqrt()) })
}

/// The probability that the absolute value of a standard normal variable is at least `distance`. With one degree of
/// freedom, also the probability that χ² is at least its square.
fn two_sided(distance: f64) -> f64 {
    libm::erfc(distance / std::f64::consts::SQRT_2)
}

/// The quartiles of sorted values, interpolated as by `numpy.percentile`.
pub fn quartiles(sorted: &[f64]) -> Option<[f64; 3]> {
    (!sorted.is_empty()).then(|| [0.25, 0.5, 0.75].map(|share| percentile(sorted, share)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-300), "{found} instead of {expected}");
    }

    // import numpy as np; from scipy.stats import mannwhitneyu, chi2_contingency
    // g = np.array([40, 45, 45, 60, 70, 70, 75, 80.]); r = np.array([5, 30, 35, 40, 40, 45, 50, 50, 55, 60, 60.])
    // u, p = mannwhitneyu(g, r, method="asymptotic"); print(2 * u / 88 - 1, p)
    #[test]
    fn the_rank_test_matches_scipy() {
        let group = [40.0, 45.0, 45.0, 60.0, 70.0, 70.0, 75.0, 80.0];
        let rest = [5.0, 30.0, 35.0, 40.0, 40.0, 45.0, 50.0, 50.0, 55.0, 60.0, 60.0];
        let test = mann_whitney(&group, &rest).unwrap();
        near(test.effect, MANN_WHITNEY.0);
        near(test.p, MANN_WHITNEY.1);
        assert_eq!(mann_whitney(&rest, &group).unwrap().effect, -test.effect);
        assert_eq!(mann_whitney(&[1.0, 1.0], &[1.0]), None);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    // t = np.array([[30, 12], [100, 250]]); c = chi2_contingency(t, correction=False)
    // print(np.sqrt(c.statistic / t.sum()), c.pvalue)
    #[test]
    fn the_chi_squared_test_matches_scipy() {
        let test = chi_squared([[30, 12], [100, 250]]).unwrap();
        near(test.effect, CHI_SQUARED.0);
        near(test.p, CHI_SQUARED.1);
        assert!(chi_squared([[12, 30], [250, 100]]).unwrap().effect < 0.0);
        assert_eq!(chi_squared([[0, 0], [1, 2]]), None);
    }

    // np.percentile([1, 2, 4, 8, 9.], [25, 50, 75]); np.percentile([1, 2.], [25, 50, 75])
    #[test]
    fn quartiles_match_numpy() {
        assert_eq!(quartiles(&[1.0, 2.0, 4.0, 8.0, 9.0]), Some([2.0, 4.0, 8.0]));
        assert_eq!(quartiles(&[1.0, 2.0]), Some([1.25, 1.5, 1.75]));
        assert_eq!(quartiles(&[]), None);
    }

    const MANN_WHITNEY: (f64, f64) = (0.5681818181818181, 0.04179470117644231);
    const CHI_SQUARED: (f64, f64) = (0.2815526117176023, 2.483026860400545e-08);
}
