//! Metrics of subgroups of the rows, e.g. by sex, age or body site.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, interval};
use super::{Direction, METRICS, Scores};

/// The metrics that are means over rows. The others are computed from per-class values, so they differ between
/// subgroups with different classes even for the same model quality.
const OF_ROWS: [&str; 5] = ["accuracy", "recall_weighted", "log_loss", "brier", "expected_calibration_error"];

/// Minimum number of rows for a comparison; smaller subgroups are only shown, because their metrics are too uncertain.
pub const MIN_ROWS: usize = 20;

/// The metrics of the rows with one value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subgroup {
    /// The value, e.g. `female`.
    pub name: String,
    /// The number of rows.
    pub rows: usize,
    /// The number of classes among the rows; class means of subgroups with different classes are not comparable.
    pub classes: usize,
    /// The metrics of [`METRICS`]; null if undefined.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
    /// The 95 % confidence intervals, by metric.
    pub intervals: BTreeMap<String, Interval>,
    /// The reason for each null value, by metric.
    pub undefined: BTreeMap<String, String>,
}

/// The largest difference between the subgroups of an attribute in one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The attribute, e.g. `sex`.
    pub attribute: String,
    /// The metric, from [`METRICS`].
    pub metric: String,
    /// The maximum minus the minimum.
    pub gap: f64,
    /// The subgroup with the maximum.
    pub highest: String,
    /// The subgroup with the minimum.
    pub lowest: String,
}

impl Subgroup {
    /// Computes the metrics of the rows at `places`; `draws` contains the count of every row in each resample.
    pub fn of(name: &str, places: &[usize], scores: &Scores, draws: &[Vec<u32>]) -> Self {
        let truth = places.iter().map(|place| scores.truth()[*place]).collect();
        let probabilities = places.iter().map(|place| scores.probabilities()[*place].clone()).collect();
        let own = Scores::new(truth, probabilities, scores.classes()).expect("the rows are already validated");
        let drawn = super::split_metrics::resampled_numbers(draws.len(), |number| {
            let resample = own.resampled(places.iter().map(|place| draws[number][*place]).collect());
            METRICS.iter().map(|metric| (metric.measure)(&resample).ok()).collect()
        });
        let mut subgroup = Self {
            name: name.to_owned(),
            rows: own.len(),
            classes: own.support().iter().filter(|rows| **rows > 0).count(),
            values: BTreeMap::new(),
            intervals: BTreeMap::new(),
            undefined: BTreeMap::new(),
        };
        for (metric, drawn) in METRICS.iter().zip(&drawn) {
            let measured = (metric.measure)(&own);
            if let (Ok(_), Some(interval)) = (&measured, interval(drawn)) {
                subgroup.intervals.insert(metric.name.to_owned(), interval);
            }
            if let Err(error) = &measured {
                subgroup.undefined.insert(metric.name.to_owned(), error.reason.clone());
            }
            subgroup.values.insert(metric.name.to_owned(), measured.ok());
        }
        subgroup
    }

    /// The value of a metric, if defined.
    pub fn value(&self, metric: &str) -> Option<f64> {
        self.values.get(metric).copied().flatten()
    }
}

/// The subgroups of an attribute by name, and for each metric the largest difference between those with at least
/// [`MIN_ROWS`] rows; `names` contains a value per row. For metrics computed from per-class values, only subgroups
/// with the same classes are compared: of all such sets of subgroups, the one with the most rows.
pub fn attributes(attribute: &str, names: &[&str], scores: &Scores, draws: &[Vec<u32>]) -> (Vec<Subgroup>, Vec<Gap>) {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        places.entry(name).or_default().push(place);
    }
    let subgroups: Vec<Subgroup> =
        places.iter().map(|(name, places)| Subgroup::of(name, places, scores, draws)).collect();
    let large: Vec<&Subgroup> = subgroups.iter().filter(|subgroup| subgroup.rows >= MIN_ROWS).collect();
    let mut by_classes: BTreeMap<BTreeSet<usize>, Vec<&Subgroup>> = BTreeMap::new();
    for subgroup in &large {
        let classes = places[&subgroup.name[..]].iter().map(|place| scores.truth()[*place]).collect();
        by_classes.entry(classes).or_default().push(subgroup);
    }
    let rows = |parts: &Vec<&Subgroup>| parts.iter().map(|part| part.rows).sum::<usize>();
    let comparable = by_classes.into_values().filter(|parts| parts.len() > 1).max_by_key(rows).unwrap_or_default();
    let compared = METRICS.iter().filter(|metric| metric.direction != Direction::Neither);
    let gaps = compared
        .filter_map(|metric| {
            gap(attribute, metric.name, if OF_ROWS.contains(&metric.name) { &large } else { &comparable })
        })
        .collect();
    (subgroups, gaps)
}

fn gap(attribute: &str, metric: &str, subgroups: &[&Subgroup]) -> Option<Gap> {
    let mut values: Vec<(f64, &str)> =
        subgroups.iter().filter_map(|subgroup| Some((subgroup.value(metric)?, &subgroup.name[..]))).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
    let [(least, lowest), .., (most, highest)] = values[..] else { return None };
    let [attribute, metric, highest, lowest] = [attribute, metric, highest, lowest].map(str::to_owned);
    Some(Gap { attribute, metric, gap: most - least, highest, lowest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    #[test]
    fn subgroups_are_measured_separately_and_small_ones_are_not_compared() {
        let scores = fixture::scores();
        let names: Vec<&str> = (0..120)
            .map(|row| {
                if row < 5 {
                    "few"
                } else if row % 2 == 0 {
                    "even"
                } else {
                    "odd"
                }
            })
            .collect();
        let (subgroups, gaps) = attributes("parity", &names, &scores, &[]);
        let rows: Vec<_> = subgroups.iter().map(|part| (&part.name[..], part.rows)).collect();
        assert_eq!(rows, [("even", 57), ("few", 5), ("odd", 58)]);
        let right = |wanted: &str| {
            let of = |row: &usize| names[*row] == wanted && scores.truth()[*row] == scores.predicted()[*row];
            (0..120).filter(of).count() as f64
        };
        assert_eq!(subgroups[0].value("accuracy"), Some(right("even") / 57.0));
        let gap = gaps.iter().find(|gap| gap.metric == "accuracy").unwrap();
        assert!((gap.gap - (right("even") / 57.0 - right("odd") / 58.0).abs()).abs() < 1e-15);
        assert!(gaps.iter().all(|gap| gap.highest != "few" && gap.lowest != "few"));
        assert!(subgroups[1].undefined.contains_key("roc_auc_macro"), "five rows are not of seven classes");
        assert!(subgroups.iter().all(|part| part.intervals.is_empty()), "nothing was drawn");
    }

    #[test]
    fn subgroups_with_different_classes_are_only_compared_in_row_means() {
        let of_two = |right: usize| (0..40).map(move |row| (row % 2, if row < right { row % 2 } else { 1 - row % 2 }));
        let all_right = (0..30).map(|_| (0, 0));
        let answers: Vec<(usize, usize)> = of_two(30).chain(of_two(20)).chain(all_right).collect();
        let names: Vec<&str> = (0..110).map(|row| ["a", "b", "one class"][(row / 40).min(2)]).collect();
        let (subgroups, gaps) = attributes("site", &names, &fixture::certain(&answers, 2), &[]);
        assert_eq!(subgroups[2].value("balanced_accuracy"), Some(1.0));
        let between = |metric: &str| {
            let gap = gaps.iter().find(|gap| gap.metric == metric).unwrap();
            (&gap.highest[..], &gap.lowest[..], gap.gap)
        };
        assert_eq!(between("accuracy"), ("one class", "b", 0.5));
        assert_eq!(between("balanced_accuracy"), ("a", "b", 0.25));
        assert!(
            gaps.iter()
                .filter(|gap| !OF_ROWS.contains(&&gap.metric[..]))
                .all(|gap| gap.highest != "one class" && gap.lowest != "one class")
        );
        let known = |name: &&str| METRICS.iter().any(|metric| metric.name == *name);
        assert!(OF_ROWS.iter().all(known), "a name that no metric has");
    }
}
