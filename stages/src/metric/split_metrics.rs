//! Everything that is measured of one split, as `metrics.json` holds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{METRICS, Measured, Scores, class_counts, confusion_matrix, roc_curve};

/// The numbers of one split.
///
/// Scalar metrics lie at the first level under their names in [`METRICS`], so that tools find them without knowing more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// The labels of the classes in index order: the order of the confusion matrix.
    pub classes: Vec<String>,
    /// Rows by true class (row) and predicted class (column).
    pub confusion_matrix: Vec<Vec<usize>>,
    /// The metrics of [`METRICS`]; null where undefined.
    #[serde(flatten)]
    pub values: BTreeMap<String, Option<f64>>,
    /// What is measured of each class by its label.
    pub per_class: BTreeMap<String, ClassMetrics>,
    /// The number of rows.
    pub rows: usize,
    /// Why a value is null, by its name (`log_loss`, `per_class.df.recall`).
    pub undefined: BTreeMap<String, String>,
    /// Why a value is 0 although it is 0/0, by its name.
    pub warnings: BTreeMap<String, String>,
}

/// The numbers of one class of a split; null where undefined.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// The share of the rows predicted so that are right.
    pub precision: Option<f64>,
    /// The share of the class's rows that are predicted so.
    pub recall: Option<f64>,
    /// The area under the ROC curve of the class against the rest.
    pub roc_auc: Option<f64>,
    /// The number of rows of the class.
    pub support: usize,
}

impl SplitMetrics {
    /// Measures everything; `classes` are the labels in index order.
    pub fn of(scores: &Scores, classes: &[String]) -> Self {
        let mut undefined = BTreeMap::new();
        let mut warnings = BTreeMap::new();
        let mut note = |name: String, measured: Measured| match measured {
            Ok(value) => Some(value),
            Err(error) => {
                undefined.insert(name, error.reason);
                None
            }
        };
        let values = METRICS
            .iter()
            .map(|metric| (metric.name.to_owned(), note(metric.name.to_owned(), (metric.measure)(scores))))
            .collect();
        let mut per_class = BTreeMap::new();
        for (class, (label, counts)) in classes.iter().zip(class_counts(scores)).enumerate() {
            let mut note = |name: &str, measured| note(format!("per_class.{label}.{name}"), measured);
            let metrics = ClassMetrics {
                f1: note("f1", counts.f1()),
                precision: note("precision", counts.precision()),
                recall: note("recall", counts.recall()),
                roc_auc: note("roc_auc", roc_curve(scores, class).map(|curve| curve.area)),
                support: counts.support(),
            };
            per_class.insert(label.clone(), metrics);
            if counts.support() > 0 && counts.predicted() == 0 {
                warnings.insert(
                    format!("per_class.{label}.precision"),
                    "never predicted: 0/0 counts as 0, as in scikit-learn".to_owned(),
                );
            }
        }
        Self {
            classes: classes.to_vec(),
            confusion_matrix: confusion_matrix(scores),
            values,
            per_class,
            rows: scores.len(),
            undefined,
            warnings,
        }
    }

    /// The value of a metric of [`METRICS`], where it is defined.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied().flatten()
    }

    /// The numbers of the class `label`.
    pub fn class(&self, label: &str) -> Option<&ClassMetrics> {
        self.per_class.get(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    fn labels(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("c{class}")).collect()
    }

    #[test]
    fn scalars_lie_at_the_first_level() {
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
    fn a_split_without_rows_says_so_for_every_number() {
        let none = Scores::new(Vec::new(), Vec::new(), 2).unwrap();
        let metrics = SplitMetrics::of(&none, &labels(2));
        let json = serde_json::to_string(&metrics).unwrap();
        assert!(json.contains("\"accuracy\":null") && !json.contains("NaN"));
        assert_eq!(metrics.undefined["accuracy"], "no rows");
        assert_eq!(metrics.undefined["per_class.c1.roc_auc"], "no rows");
        assert_eq!(serde_json::from_str::<SplitMetrics>(&json).unwrap(), metrics);
    }

    #[test]
    fn a_class_without_rows_leaves_the_others_their_numbers() {
        let metrics = SplitMetrics::of(&fixture::certain(&[(0, 0), (1, 1), (1, 0)], 3), &labels(3));
        assert_eq!(metrics.value("accuracy"), Some(2.0 / 3.0));
        assert_eq!(metrics.value("roc_auc_macro"), None);
        assert_eq!(metrics.class("c1").unwrap().recall, Some(0.5));
        assert_eq!(metrics.class("c2").unwrap().recall, None);
        assert_eq!(metrics.undefined["per_class.c2.recall"], "no rows of this class");
    }
}
