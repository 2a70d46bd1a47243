//! Bootstrap confidence intervals.

use std::collections::BTreeMap;

use hamflow_stage_api::Random;

/// The bounds of the 95 % percentile interval.
pub type Interval = [f64; 2];

/// The quantiles of the interval's bounds.
const ENDS: [f64; 2] = [0.025, 0.975];

/// The groups of the cluster bootstrap (Field, Welsh 2007, *Journal of the Royal Statistical Society B* 69:369).
/// Images of one lesion are not independent observations, so whole lesions are drawn with replacement.
#[derive(Debug, Clone)]
pub struct Resampling {
    groups: Vec<Vec<u32>>,
    rows: usize,
}

impl Resampling {
    /// Rows with equal names form a group.
    pub fn over<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut groups: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut rows = 0;
        for (row, name) in (0..).zip(names) {
            groups.entry(name).or_default().push(row);
            rows += 1;
        }
        Self { groups: groups.into_values().collect(), rows }
    }

    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Draws as many groups as there are; returns how often each row was drawn.
    pub fn draw(&self, random: &mut Random) -> Vec<u32> {
        let mut counts = vec![0; self.rows];
        for _ in 0..self.groups.len() {
            let chosen = random.below(self.groups.len() as u64) as usize;
            for row in &self.groups[chosen] {
                counts[*row as usize] += 1;
            }
        }
        counts
    }
}

/// The 95 % percentile interval of a metric over resamples (Efron 1979); `None` if it is undefined in more than half
/// of them.
pub fn interval(values: &[Option<f64>]) -> Option<Interval> {
    let mut defined: Vec<f64> = values.iter().flatten().copied().collect();
    if defined.is_empty() || defined.len() * 2 < values.len() {
        return None;
    }
    defined.sort_by(f64::total_cmp);
    Some(ENDS.map(|share| percentile(&defined, share)))
}

/// The quantile `share` of sorted values, interpolated like `numpy.percentile` by default.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, part) = (libm::floor(place) as usize, place - libm::floor(place));
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{fixture, metric};

    // np.percentile([3., 1., 4., 1., 5., 9., 2., 6.], [2.5, 97.5])
    #[test]
    fn intervals_match_numpy_percentiles() {
        let values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0].map(Some);
        let [low, high] = interval(&values).unwrap();
        assert!((low - 1.0).abs() < 1e-12 && (high - 8.475).abs() < 1e-12, "{low} {high}");
        assert_eq!(interval(&[Some(1.0), None, None]), None);
        assert_eq!(interval(&[]), None);
    }

    #[test]
    fn rows_of_a_group_are_drawn_together() {
        let names = ["b", "a", "b", "c", "a", "d"];
        let resampling = Resampling::over(names);
        assert_eq!(resampling.groups(), 4);
        let mut seen = [false; 2];
        for number in 0..50 {
            let counts = resampling.draw(&mut Random::new(7, &format!("draw {number}")));
            assert_eq!((counts[0], counts[1]), (counts[2], counts[4]));
            assert_eq!(counts[0] + counts[1] + counts[3] + counts[5], 4, "as many groups as there are");
            seen[usize::from(counts[0] > 1)] = true;
        }
        assert!(seen[0] && seen[1], "with replacement");
    }

    // for k in range(5):   # on the fixture
    //     i = (np.arange(120) * (k + 2) + k * k) % 120
    //     print(balanced_accuracy_score(truth[i], predicted[i]), log_loss(truth[i], p[i], labels=range(7)),
    //           matthews_corrcoef(truth[i], predicted[i]), roc_auc_score(truth[i] == 5, p[i, 5]),
    //           average_precision_score(truth[i] == 5, p[i, 5]))
    #[test]
    fn metrics_of_resamples_match_those_of_repeated_rows() {
        let scores = fixture::scores();
        let mut drawn = 0;
        for (k, expected) in fixture::RESAMPLED.iter().enumerate() {
            let mut counts = vec![0; 120];
            for row in 0..120 {
                counts[(row * (k + 2) + k * k) % 120] += 1;
            }
            let resampled = scores.resampled(counts);
            let of = |name: &str| (metric(name).unwrap().measure)(&resampled).unwrap();
            // scikit-learn averages over fewer classes then, which is not comparable.
            let all_drawn = (0..7).all(|class| resampled.support()[class] > 0);
            assert_eq!(resampled.require_drawn_classes().is_ok(), all_drawn);
            drawn += usize::from(all_drawn);
            let ranking = crate::metric::Ranking::of(&resampled, 5).unwrap();
            let found = [
                if all_drawn { of("balanced_accuracy") } else { expected[0] },
                of("log_loss"),
                of("matthews_correlation"),
                ranking.roc_area().unwrap(),
                ranking.average_precision().unwrap(),
            ];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-9, "resample {k}: {found} instead of {expected}");
            }
        }
        assert!((1..5).contains(&drawn), "some have all classes, others do not: {drawn}");
    }
}
