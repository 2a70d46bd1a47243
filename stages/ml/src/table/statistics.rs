//! Means and medians that are bit-identical on every machine.

/// The mean of the non-missing values, bit-identical to pandas: missing values add 0 to the sum and are not counted.
///
/// The sum is NumPy's pairwise summation (blocks of 128 with eight accumulators, recursive halving) in this fixed
/// order on every machine. `None` if all values are missing.
pub fn mean(values: &[Option<f64>]) -> Option<f64> {
    let present = values.iter().flatten().count();
    if present == 0 {
        return None;
    }
    let filled: Vec<f64> = values.iter().map(|value| value.unwrap_or(0.0)).collect();
    Some(pairwise_sum(&filled) / present as f64)
}

/// The median of the non-missing values; `None` if all values are missing.
pub fn median(values: &[Option<f64>]) -> Option<f64> {
    let mut present: Vec<f64> = values.iter().flatten().copied().collect();
    present.sort_by(f64::total_cmp);
    let middle = present.len() / 2;
    match present.len() {
        0 => None,
        n if n % 2 == 1 => Some(present[middle]),
        _ => Some(f64::midpoint(present[middle - 1], present[middle])),
    }
}

fn pairwise_sum(values: &[f64]) -> f64 {
    const BLOCK: usize = 128;
    if values.len() < 8 {
        // NumPy starts at -0.0, which makes no difference for sums of ages.
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    if values.len() <= BLOCK {
        let (eights, rest) = values.as_chunks::<8>();
        let mut sums = eights[0];
        for eight in &eights[1..] {
            for (sum, value) in sums.iter_mut().zip(eight) {
                *sum += value;
            }
        }
        let sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
        return rest.iter().fold(sum, |sum, value| sum + value);
    }
    let half = values.len() / 2;
    let (left, right) = values.split_at(half - half % 8);
    pairwise_sum(left) + pairwise_sum(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np, pandas as pd
    // for n in (5, 100, 129, 1000, 10015):
    //     s = pd.Series([(i * 0.1) * (i * 0.1) * (i * 0.1) if i % 7 else np.nan for i in range(n)])
    //     print(n, repr(s.mean()), repr(s.median()))
    #[test]
    fn mean_and_median_are_bit_identical_to_pandas() {
        let expected = [
            (5, 0.02500000000000001, 0.017500000000000005),
            (100, 243.77558823529415, 125.0),
            (129, 528.4715727272728, 268.3845),
            (1000, 249874.72661960335, 125000.0),
            (10015, 251101619.96188846, 125563347.92750002),
        ];
        for (n, mean_of, median_of) in expected {
            let values: Vec<Option<f64>> = (0..n)
                .map(|i| {
                    (i % 7 != 0).then(|| {
                        let x = i as f64 * 0.1;
                        x * x * x
                    })
                })
                .collect();
            assert_eq!(mean(&values), Some(mean_of), "{n}");
            assert_eq!(median(&values), Some(median_of), "{n}");
        }
        assert_eq!(mean(&[None]), None);
        assert_eq!(median(&[]), None);
    }
}
