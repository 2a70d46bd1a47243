//! All metrics of one split, in the format of `metrics.json`.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bootstrap::{Interval, interval};
use super::calibration::{at_temperature, temperature};
use super::{
    CLASS_METRICS, Decision, Direction, Gap, Independence, METRICS, Malignant, Measured, Population, Ranking, Scores,
    Subgroup, Undefined, class_counts, confusion_matrix,
};

/// The metrics of one split.
///
/// Scalar metrics are at the top level under their names in [`METRICS`], so that generic tools find them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// The class labels in index order, which is also the order of the confusion matrix.
    pub classes: Vec<String>,
    /// Row counts by true class (row) and predicted class (column).
    pub confusion_matrix: Vec<Vec<usize>>,
    /// The metrics of [`METRICS`]; null if undefined.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
    /// The metrics of each class, by label.
    pub per_class: BTreeMap<String, ClassMetrics>,
    /// The number of rows.
    pub rows: usize,
    /// Whether any of the images is synthetic.
    pub synthetic: bool,
    /// The 95 % confidence intervals by name (`log_loss`, `per_class.df.recall`).
    pub intervals: BTreeMap<String, Interval>,
    /// How the intervals were computed, e.g. `1000 resamples of 1499 lesions`; `None` without intervals.
    pub resamples: Option<String>,
    /// The effect of temperature scaling; `None` if no temperature was fitted.
    pub calibration: Option<Calibration>,
    /// The metrics with the decision for rare classes; `None` if there is no validation split to choose its power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// How well malignant classes are separated from the others; `None` if no class or every class is malignant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malignant: Option<Malignant>,
    /// The same metrics for subgroups of the rows, by attribute (`sex`).
    pub subgroups: BTreeMap<String, Vec<Subgroup>>,
    /// The differences between subgroups.
    pub gaps: Vec<Gap>,
    /// What the rows are like; only beside an external test set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<Population>,
    /// The proof that the rows are independent of the training; only of an external test set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub independence: Option<Independence>,
    /// The reason for each null value, by name.
    pub undefined: BTreeMap<String, String>,
    /// The reason for each 0 that stands for 0/0, by name.
    pub warnings: BTreeMap<String, String>,
}

/// The metrics of one class of a split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The metrics of [`CLASS_METRICS`]; null if undefined.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
    /// The number of rows of the class.
    pub support: usize,
}

impl ClassMetrics {
    /// The value of a metric of [`CLASS_METRICS`], if defined.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied().flatten()
    }
}

/// The effect of temperature scaling (Guo et al. 2017, arXiv:1706.04599) on a split's metrics; predictions do not change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The divisor of the log probabilities; greater than 1 for an overconfident model.
    pub temperature: f64,
    /// The log loss after scaling.
    pub log_loss: f64,
    /// The Brier score after scaling.
    pub brier: f64,
    /// The expected calibration error after scaling.
    pub expected_calibration_error: f64,
}

/// All metrics of a split: those of [`METRICS`], then those of [`CLASS_METRICS`] for each class.
fn numbers(scores: &Scores) -> Vec<Measured> {
    let counts = class_counts(scores);
    let of_class = |class: usize| {
        let ranking = Ranking::of(scores, class);
        let measure = |of: fn(&super::ClassCounts, &Ranking) -> Measured| match &ranking {
            Ok(ranking) => of(&counts[class], ranking),
            Err(undefined) => Err(undefined.clone()),
        };
        CLASS_METRICS.iter().map(|metric| measure(metric.measure)).collect::<Vec<_>>()
    };
    let of_split = METRICS.iter().map(|metric| (metric.measure)(scores));
    of_split.chain((0..scores.classes()).flat_map(of_class)).collect()
}

/// Their names, in the same order.
fn names(classes: &[String]) -> Vec<String> {
    let of_class = |label: &String| {
        let name = |metric: &super::ClassMetric| format!("per_class.{label}.{}", metric.name);
        CLASS_METRICS.iter().map(name).collect::<Vec<String>>()
    };
    METRICS.iter().map(|metric| metric.name.to_owned()).chain(classes.iter().flat_map(of_class)).collect()
}

/// The values of each metric in `count` resamples, computed on all threads.
pub(super) fn resampled_numbers(
    count: usize,
    measure: impl Fn(usize) -> Vec<Option<f64>> + Sync,
) -> Vec<Vec<Option<f64>>> {
    let drawn: Vec<Vec<Option<f64>>> = (0..count).into_par_iter().map(&measure).collect();
    let numbers = drawn.first().map_or(0, Vec::len);
    let of_number = |number: usize| drawn.iter().map(|values| values[number]).collect();
    // Without resamples, there is an empty list for each requested metric.
    if count == 0 { vec![Vec::new(); METRICS.len()] } else { (0..numbers).map(of_number).collect() }
}

impl SplitMetrics {
    /// Computes everything but intervals, subgroups and calibration; `classes` are the labels in index order.
    pub fn of(scores: &Scores, classes: &[String]) -> Self {
        let mut undefined = BTreeMap::new();
        let mut warnings = BTreeMap::new();
        let mut measured = names(classes).into_iter().zip(numbers(scores)).map(|(name, measured)| match measured {
            Ok(value) => Some(value),
            Err(Undefined { reason }) => {
                undefined.insert(name, reason);
                None
            }
        });
        let values = METRICS.iter().map(|metric| (metric.name.to_owned(), measured.next().flatten())).collect();
        let mut per_class = BTreeMap::new();
        for (label, counts) in classes.iter().zip(class_counts(scores)) {
            let number = |metric: &super::ClassMetric| (metric.name.to_owned(), measured.next().flatten());
            let values = CLASS_METRICS.iter().map(number).collect();
            per_class.insert(label.clone(), ClassMetrics { values, support: counts.support() });
            if counts.support() > 0 && counts.predicted() == 0 {
                warnings.insert(
                    format!("per_class.{label}.precision"),
                    "never predicted: 0/0 counts as 0, as in scikit-learn".to_owned(),
                );
            }
        }
        drop(measured);
        Self {
            classes: classes.to_vec(),
            confusion_matrix: confusion_matrix(scores),
            values,
            per_class,
            rows: scores.len(),
            synthetic: false,
            intervals: BTreeMap::new(),
            resamples: None,
            calibration: None,
            decision: None,
            malignant: None,
            population: None,
            independence: None,
            subgroups: BTreeMap::new(),
            gaps: Vec::new(),
            undefined,
            warnings,
        }
    }

    /// A split whose model-dependent metrics are all undefined for one reason; `truth` contains the class of each row.
    pub fn undefined(reason: &str, truth: &[usize], classes: &[String]) -> Self {
        let certain = |class: &usize| (0..classes.len()).map(|other| f64::from(u8::from(other == *class))).collect();
        let rows = Scores::new(truth.to_vec(), truth.iter().map(certain).collect(), classes.len());
        let mut metrics = Self::of(&rows.expect("a certain answer is a distribution"), classes);
        metrics.confusion_matrix = vec![vec![0; classes.len()]; classes.len()];
        metrics.warnings.clear();
        let of_rows = METRICS.iter().filter(|metric| metric.direction == Direction::Neither);
        let kept: Vec<String> = of_rows.map(|metric| metric.name.to_owned()).collect();
        for name in names(classes).into_iter().filter(|name| !kept.contains(name)) {
            metrics.undefined.insert(name, reason.to_owned());
        }
        for (name, value) in &mut metrics.values {
            *value = value.filter(|_| kept.contains(name));
        }
        metrics.per_class.values_mut().flat_map(|class| class.values.values_mut()).for_each(|value| *value = None);
        metrics
    }

    /// Adds the intervals of all defined metrics. `draws` contains the count of each row in each resample, and
    /// `groups` describes what was drawn: `1499 lesions`.
    pub fn add_intervals(&mut self, scores: &Scores, draws: &[Vec<u32>], groups: &str) {
        if draws.is_empty() || scores.is_empty() {
            return;
        }
        let drawn = resampled_numbers(draws.len(), |number| {
            numbers(&scores.resampled(draws[number].clone())).into_iter().map(Result::ok).collect()
        });
        for (name, drawn) in names(&self.classes).into_iter().zip(&drawn) {
            if let Some(interval) = interval(drawn).filter(|_| !self.undefined.contains_key(&name)) {
                self.intervals.insert(name, interval);
            }
        }
        self.resamples = Some(format!("{} resamples of {groups}", draws.len()));
    }

    /// Adds the metrics of the subgroups of an attribute; `names` contains its value for each row.
    pub fn add_subgroups(&mut self, attribute: &str, names: &[&str], scores: &Scores, draws: &[Vec<u32>]) {
        let (subgroups, gaps) = super::attributes(attribute, names, scores, draws);
        self.subgroups.insert(attribute.to_owned(), subgroups);
        self.gaps.extend(gaps);
    }

    /// Adds the effect on `scores` of the temperature that fits `fitted` best.
    pub fn add_calibration(&mut self, scores: &Scores, fitted: &Scores) {
        self.decision = Decision::of(scores, fitted);
        let measured = temperature(fitted).and_then(|temperature| {
            let [log_loss, brier, expected_calibration_error] = at_temperature(scores, temperature)?;
            Ok(Calibration { temperature, log_loss, brier, expected_calibration_error })
        });
        match measured {
            Ok(calibration) => self.calibration = Some(calibration),
            Err(Undefined { reason }) => {
                self.undefined.insert("calibration".to_owned(), reason);
            }
        }
    }

    /// The value of a metric of [`METRICS`], if defined.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied().flatten()
    }

    /// The metrics of the class `label`.
    pub fn class(&self, label: &str) -> Option<&ClassMetrics> {
        self.per_class.get(label)
    }
}

#[cfg(test)]
mod tests {
    use hamflow_stage_api::Random;

    use super::*;
    use crate::metric::{Resampling, fixture};

    fn labels(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("c{class}")).collect()
    }

    #[test]
    fn scalars_are_at_the_top_level() {
        let metrics = SplitMetrics::of(&fixture::scores(), &labels(7));
        let json = serde_json::to_value(&metrics).unwrap();
        for metric in METRICS {
            assert!(json[metric.name].is_f64(), "{} is no number", metric.name);
        }
        assert_eq!(json["rows"], 120);
        assert_eq!(json["confusion_matrix"][5].as_array().unwrap().len(), 7);
        assert!(metrics.undefined.is_empty());
        assert_eq!(metrics.warnings.keys().collect::<Vec<_>>(), ["per_class.c3.precision"]);
        assert_eq!(serde_json::from_value::<SplitMetrics>(json).unwrap(), metrics);
    }

    #[test]
    fn every_metric_of_a_split_without_rows_has_a_reason() {
        let none = Scores::new(Vec::new(), Vec::new(), 2).unwrap();
        let metrics = SplitMetrics::of(&none, &labels(2));
        let json = serde_json::to_string(&metrics).unwrap();
        assert!(json.contains("\"accuracy\":null") && !json.contains("NaN"));
        assert_eq!(metrics.undefined["accuracy"], "no rows");
        assert_eq!(metrics.undefined["per_class.c1.roc_auc"], "no rows");
        assert_eq!(serde_json::from_str::<SplitMetrics>(&json).unwrap(), metrics);
    }

    #[test]
    fn a_split_with_nan_predictions_keeps_metrics_that_do_not_depend_on_them() {
        let metrics = SplitMetrics::undefined("nobody looked", &[0, 1, 1], &labels(2));
        let with_values: Vec<_> =
            metrics.values.iter().filter_map(|(name, value)| Some((&name[..], (*value)?))).collect();
        assert_eq!(with_values, [("majority_class_accuracy", 2.0 / 3.0)]);
        assert_eq!((metrics.rows, metrics.class("c1").unwrap().support), (3, 2));
        assert!(metrics.per_class.values().all(|class| class.values.values().all(Option::is_none)));
        assert_eq!(metrics.undefined.len(), METRICS.len() - 1 + 2 * CLASS_METRICS.len());
        assert!(metrics.undefined.values().all(|reason| reason == "nobody looked"));
    }

    #[test]
    fn a_class_without_rows_does_not_affect_the_metrics_of_others() {
        let metrics = SplitMetrics::of(&fixture::certain(&[(0, 0), (1, 1), (1, 0)], 3), &labels(3));
        assert_eq!(metrics.value("accuracy"), Some(2.0 / 3.0));
        assert_eq!(metrics.value("roc_auc_macro"), None);
        assert_eq!(metrics.class("c1").unwrap().value("recall"), Some(0.5));
        assert_eq!(metrics.class("c2").unwrap().value("recall"), None);
        assert_eq!(metrics.undefined["per_class.c2.recall"], "no rows of this class");
    }

    #[test]
    fn intervals_contain_the_value_and_narrow_with_more_rows() {
        let few = fixture::scores();
        let rows = || few.probabilities().iter().cycle().take(1200).cloned().collect();
        let many = Scores::new(few.truth().iter().cycle().take(1200).copied().collect(), rows(), 7).unwrap();
        let width = |scores: &Scores| {
            let names: Vec<String> = (0..scores.len()).map(|row| row.to_string()).collect();
            let resampling = Resampling::over(names.iter().map(String::as_str));
            let draw = |number: usize| resampling.draw(&mut Random::new(1, &format!("draw {number}")));
            let draws: Vec<Vec<u32>> = (0..200).map(draw).collect();
            let mut metrics = SplitMetrics::of(scores, &labels(7));
            metrics.add_intervals(scores, &draws, "rows");
            assert_eq!(metrics.resamples.as_deref(), Some("200 resamples of rows"));
            for name in ["accuracy", "roc_auc_macro", "matthews_correlation"] {
                let ([low, high], value) = (metrics.intervals[name], metrics.value(name).unwrap());
                assert!(low < value && value < high, "{name}: {low} {value} {high}");
            }
            let [low, high] = metrics.intervals["per_class.c5.recall"];
            let [all_low, all_high] = metrics.intervals["accuracy"];
            assert!(low > 0.6 && high < 1.0, "{low} {high}");
            all_high - all_low
        };
        let (wide, narrow) = (width(&few), width(&many));
        assert!((2.0..5.0).contains(&(wide / narrow)), "ten times the rows: {wide} {narrow}");
    }
}
