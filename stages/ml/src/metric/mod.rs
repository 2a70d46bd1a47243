//! Evaluation metrics of probabilities and predictions.
//!
//! Everything here is a pure function of [`Scores`]. Metrics that scikit-learn (1.9) defines agree with it to 1e-9;
//! the tests contain its results and the scripts that produced them. A ratio 0/0 that scikit-learn sets to 0 with a
//! warning (`zero_division="warn"`) is 0 here too, with a [warning](SplitMetrics::warnings). A metric that is
//! meaningless, e.g. the recall of a class without rows, is [`Undefined`] with a reason, and `null` in JSON.

mod accuracy;
mod agreement;
mod bootstrap;
mod calibration;
mod class_metric;
mod confusion;
mod decision;
mod log_loss;
mod malignant;
mod paired;
mod population;
mod precision_recall;
mod ranking;
mod roc;
mod scores;
mod split_metrics;
mod subgroups;

/// Scores for tests, here and in the stages.
#[doc(hidden)]
pub mod fixture;

pub use bootstrap::{Interval, Resampling, interval, percentile};
pub use calibration::{Bin, bins, expected_calibration_error, temperature};
pub use class_metric::{CLASS_METRICS, ClassMetric};
pub use confusion::confusion_matrix;
pub use decision::Decision;
pub use malignant::{MALIGNANT, MALIGNANT_METRICS, Malignant};
pub use paired::PairedBootstrap;
pub use population::{ColourSummary, Independence, Population};
pub use precision_recall::{ClassCounts, class_counts};
pub use ranking::Ranking;
pub use roc::{RocCurve, roc_curve};
pub use scores::{ScoreError, ScoreRow, Scores, most_probable};
pub use split_metrics::{Calibration, ClassMetrics, SplitMetrics};
pub use subgroups::{Gap, MIN_ROWS, Subgroup, attributes};

/// The reason why a metric is undefined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undefined {
    /// A few words that start in lowercase.
    pub reason: String,
}

impl Undefined {
    /// Creates an `Undefined` with a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// The value of a metric, or the reason why it is undefined.
pub type Measured = Result<f64, Undefined>;

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A fraction between 0 and 1.
    Fraction,
    /// Natural units of information per row.
    Nats,
    /// A dimensionless number.
    Score,
}

impl Unit {
    /// The unit in words, for the reference documentation and the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fraction => "fraction",
            Self::Nats => "nats",
            Self::Score => "score",
        }
    }
}

/// The direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// Describes the rows, not the model.
    Neither,
}

impl Direction {
    /// The direction in words, for the reference documentation and the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher is better",
            Self::Lower => "lower is better",
            Self::Neither => "describes the rows",
        }
    }
}

/// A metric of a split.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The key in `metrics.json`.
    pub name: &'static str,
    /// The display name.
    pub title: &'static str,
    /// The unit.
    pub unit: Unit,
    /// The direction in which it improves.
    pub direction: Direction,
    /// One sentence for the reference documentation and the report.
    pub doc: &'static str,
    /// Computes it.
    pub measure: fn(&Scores) -> Measured,
}

/// Every metric of a split, in documentation and report order.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "accuracy",
        title: "Accuracy",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Share of the rows whose most probable class is the true one.",
        measure: accuracy::accuracy,
    },
    Metric {
        name: "majority_class_accuracy",
        title: "Majority-class accuracy",
        unit: Unit::Fraction,
        direction: Direction::Neither,
        doc: "Accuracy of always answering the most frequent class of these rows: what accuracy must beat.",
        measure: accuracy::majority_class_accuracy,
    },
    Metric {
        name: "balanced_accuracy",
        title: "Balanced accuracy",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean recall of the classes that have rows; a constant answer gets 1 / their number.",
        measure: accuracy::balanced_accuracy,
    },
    Metric {
        name: "isic_2018_score",
        title: "ISIC 2018 score",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean recall of all classes, as the ISIC 2018 challenge ranks (task 3). Needs rows of every class.",
        measure: accuracy::isic_2018_score,
    },
    Metric {
        name: "precision_macro",
        title: "Precision, macro",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean precision of the classes that occur among labels or predictions.",
        measure: precision_recall::precision_macro,
    },
    Metric {
        name: "recall_macro",
        title: "Recall, macro",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean recall of the classes that occur among labels or predictions.",
        measure: precision_recall::recall_macro,
    },
    Metric {
        name: "f1_macro",
        title: "F1, macro",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean F1 (harmonic mean of precision and recall) of the classes that occur among labels or predictions.",
        measure: precision_recall::f1_macro,
    },
    Metric {
        name: "precision_weighted",
        title: "Precision, weighted",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean precision of the classes, each weighted by its rows.",
        measure: precision_recall::precision_weighted,
    },
    Metric {
        name: "recall_weighted",
        title: "Recall, weighted",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean recall of the classes, each weighted by its rows; equals accuracy.",
        measure: precision_recall::recall_weighted,
    },
    Metric {
        name: "f1_weighted",
        title: "F1, weighted",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean F1 of the classes, each weighted by its rows.",
        measure: precision_recall::f1_weighted,
    },
    Metric {
        name: "roc_auc_macro",
        title: "ROC-AUC, macro",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean one-vs-rest area under the ROC curve; 0.5 is chance. Needs rows of every class.",
        measure: roc::roc_auc_macro,
    },
    Metric {
        name: "roc_auc_weighted",
        title: "ROC-AUC, weighted",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "One-vs-rest area under the ROC curve, each class weighted by its rows. Needs rows of every class.",
        measure: roc::roc_auc_weighted,
    },
    Metric {
        name: "average_precision_macro",
        title: "Average precision, macro",
        unit: Unit::Fraction,
        direction: Direction::Higher,
        doc: "Mean one-vs-rest average precision; chance is a class's share of the rows. Needs rows of every class.",
        measure: ranking::average_precision_macro,
    },
    Metric {
        name: "cohen_kappa",
        title: "Cohen's kappa",
        unit: Unit::Score,
        direction: Direction::Higher,
        doc: "Agreement of predictions and labels beyond chance: 0 is chance, 1 is perfect.",
        measure: agreement::cohen_kappa,
    },
    Metric {
        name: "matthews_correlation",
        title: "Matthews correlation",
        unit: Unit::Score,
        direction: Direction::Higher,
        doc: "Correlation of predictions and labels over all classes (MCC): 0 is chance, 1 is perfect.",
        measure: agreement::matthews_correlation,
    },
    Metric {
        name: "log_loss",
        title: "Log loss",
        unit: Unit::Nats,
        direction: Direction::Lower,
        doc: "Mean negative logarithm of the probability of the true class (cross-entropy).",
        measure: log_loss::log_loss,
    },
    Metric {
        name: "brier",
        title: "Brier score",
        unit: Unit::Score,
        direction: Direction::Lower,
        doc: "Mean squared distance of the probabilities from the true class: 0 is perfect, 2 is certain and always wrong.",
        measure: calibration::brier,
    },
    Metric {
        name: "expected_calibration_error",
        title: "Expected calibration error",
        unit: Unit::Fraction,
        direction: Direction::Lower,
        doc: "Mean distance between how sure the model is and how often it is right, over 15 bins of confidence.",
        measure: calibration::expected_calibration_error,
    },
];

/// Looks up a metric by name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_a_unique_name_and_a_sentence() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(metric.doc.ends_with('.'), "{} has no sentence", metric.name);
        }
    }

    #[test]
    fn every_metric_matches_scikit_learn() {
        for (name, expected) in fixture::EXPECTED {
            let metric = metric(name).unwrap();
            let measured = (metric.measure)(&fixture::scores()).unwrap();
            assert!((measured - expected).abs() < 1e-9, "{name}: {measured} instead of {expected}");
        }
        let lacking = ["majority_class_accuracy", "isic_2018_score", "expected_calibration_error"];
        assert_eq!(fixture::EXPECTED.len() + lacking.len(), METRICS.len(), "scikit-learn lacks {lacking:?} alone");
        let same = |name: &str| (metric(name).unwrap().measure)(&fixture::scores());
        assert_eq!(same("isic_2018_score"), same("balanced_accuracy"), "where every class has rows");
    }

    #[test]
    fn all_metrics_are_undefined_without_rows() {
        let none = Scores::new(Vec::new(), Vec::new(), 3).unwrap();
        for metric in METRICS {
            assert_eq!((metric.measure)(&none).unwrap_err().reason, "no rows", "{}", metric.name);
        }
    }
}
