//! Per-class metrics.

use super::{ClassCounts, Measured, Ranking};

/// A per-class metric.
#[derive(Debug, Clone, Copy)]
pub struct ClassMetric {
    /// The key in `metrics.json`, below the class.
    pub name: &'static str,
    /// The display name.
    pub title: &'static str,
    /// One sentence for the reference documentation and the report.
    pub doc: &'static str,
    /// Computes it from the prediction counts and the ranking of the probabilities.
    pub measure: fn(&ClassCounts, &Ranking) -> Measured,
}

/// Every per-class metric, in report order.
pub const CLASS_METRICS: &[ClassMetric] = &[
    ClassMetric {
        name: "recall",
        title: "Recall",
        doc: "Share of the class's rows that are predicted so (sensitivity).",
        measure: |counts, _| counts.recall(),
    },
    ClassMetric {
        name: "precision",
        title: "Precision",
        doc: "Share of the rows predicted so that are right.",
        measure: |counts, _| counts.precision(),
    },
    ClassMetric {
        name: "f1",
        title: "F1",
        doc: "Harmonic mean of precision and recall.",
        measure: |counts, _| counts.f1(),
    },
    ClassMetric {
        name: "roc_auc",
        title: "ROC-AUC",
        doc: "Area under the ROC curve of the class against the rest; 0.5 is chance.",
        measure: |_, ranking| ranking.roc_area(),
    },
    ClassMetric {
        name: "average_precision",
        title: "Average precision",
        doc: "Mean precision over the rises of recall; chance is the class's share of the rows.",
        measure: |_, ranking| ranking.average_precision(),
    },
    ClassMetric {
        name: "sensitivity_at_90_specificity",
        title: "Sensitivity at 90 % specificity",
        doc: "Largest share of the class's rows found while at least 90 % of the others are not called so.",
        measure: |_, ranking| ranking.sensitivity_at(90),
    },
    ClassMetric {
        name: "sensitivity_at_95_specificity",
        title: "Sensitivity at 95 % specificity",
        doc: "Largest share of the class's rows found while at least 95 % of the others are not called so.",
        measure: |_, ranking| ranking.sensitivity_at(95),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_metric_has_a_unique_name_and_a_sentence() {
        let names: BTreeSet<_> = CLASS_METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CLASS_METRICS.len());
        assert!(CLASS_METRICS.iter().all(|metric| metric.doc.ends_with('.')));
    }
}
