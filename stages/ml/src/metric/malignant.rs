//! How well malignant classes are separated from the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Interval, Measured, Ranking, Scores, Undefined, interval};

/// The classes of HAM10000 and the ISIC challenges that count as malignant unless others are declared: melanoma, basal cell
/// carcinoma, actinic keratoses with intraepithelial carcinoma, and squamous cell carcinoma.
pub const MALIGNANT: [&str; 4] = ["mel", "bcc", "akiec", "scc"];

/// A split's metrics with two classes: malignant and benign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Malignant {
    /// The labels of the malignant classes.
    pub classes: Vec<String>,
    /// The number of malignant rows.
    pub rows: usize,
    /// The metrics by name; null if undefined.
    pub values: BTreeMap<String, Option<f64>>,
    /// Their 95 % intervals.
    pub intervals: BTreeMap<String, Interval>,
}

/// The name, the display name and one sentence of a metric.
pub struct MalignantMetric {
    /// The key in `metrics.json`.
    pub name: &'static str,
    /// The display name.
    pub title: &'static str,
    /// One sentence for the report.
    pub doc: &'static str,
    measure: fn(&Binary) -> Measured,
}

/// The metrics, in the order of the report.
pub const MALIGNANT_METRICS: [MalignantMetric; 5] = [
    MalignantMetric {
        name: "sensitivity",
        title: "Sensitivity",
        doc: "Share of malignant images that are predicted as any malignant class.",
        measure: |binary| binary.share_predicted(true),
    },
    MalignantMetric {
        name: "specificity",
        title: "Specificity",
        doc: "Share of benign images that are predicted as any benign class.",
        measure: |binary| binary.share_predicted(false),
    },
    MalignantMetric {
        name: "roc_auc",
        title: "ROC-AUC",
        doc: "Probability that a malignant image gets a higher probability of malignancy than a benign one.",
        measure: |binary| Ranking::of(&binary.scores, 0)?.roc_area(),
    },
    MalignantMetric {
        name: "specificity_at_90_sensitivity",
        title: "Specificity at 90 % sensitivity",
        doc: "Share of benign images below the highest threshold that finds 90 % of the malignant ones.",
        measure: |binary| Ranking::of(&binary.scores, 0)?.specificity_at(90),
    },
    MalignantMetric {
        name: "specificity_at_95_sensitivity",
        title: "Specificity at 95 % sensitivity",
        doc: "Share of benign images below the highest threshold that finds 95 % of the malignant ones.",
        measure: |binary| Ranking::of(&binary.scores, 0)?.specificity_at(95),
    },
];

/// The rows with two classes: 0 is malignant.
struct Binary {
    scores: Scores,
    /// Whether the most probable of all classes is malignant.
    predicted: Vec<bool>,
    counts: Vec<u32>,
}

impl Binary {
    fn new(scores: &Scores, is_malignant: &[bool]) -> Option<Self> {
        let truth = scores.truth().iter().map(|class| usize::from(!is_malignant[*class])).collect();
        let merged = |row: &Vec<f64>| {
            let sum: f64 = row.iter().zip(is_malignant).filter(|(_, malignant)| **malignant).map(|(p, _)| p).sum();
            vec![sum.min(1.0), 1.0 - sum.min(1.0)]
        };
        let probabilities = scores.probabilities().iter().map(merged).collect();
        let predicted = scores.predicted().iter().map(|class| is_malignant[*class]).collect();
        let counts = vec![1; scores.truth().len()];
        Some(Self { scores: Scores::new(truth, probabilities, 2).ok()?, predicted, counts })
    }

    fn resampled(&self, counts: &[u32]) -> Self {
        let scores = self.scores.resampled(counts.to_vec());
        Self { scores, predicted: self.predicted.clone(), counts: counts.to_vec() }
    }

    /// The share of the malignant (or benign) rows that are predicted as such.
    fn share_predicted(&self, malignant: bool) -> Measured {
        let (mut right, mut all) = (0u64, 0u64);
        for ((truth, predicted), count) in self.scores.truth().iter().zip(&self.predicted).zip(&self.counts) {
            if (*truth == 0) == malignant {
                all += u64::from(*count);
                right += if *predicted == malignant { u64::from(*count) } else { 0 };
            }
        }
        let none = if malignant { "no malignant rows" } else { "no benign rows" };
        if all == 0 { Err(Undefined::new(none)) } else { Ok(right as f64 / all as f64) }
    }
}

impl Malignant {
    /// Measures the rows; `None` if no class or every class is malignant. `draws` contains the count of each row in each
    /// resample.
    pub fn of(scores: &Scores, labels: &[String], malignant: &[String], draws: &[Vec<u32>]) -> Option<Self> {
        let is_malignant: Vec<bool> = labels.iter().map(|label| malignant.contains(label)).collect();
        if !is_malignant.contains(&true) || !is_malignant.contains(&false) || scores.is_empty() {
            return None;
        }
        let binary = Binary::new(scores, &is_malignant)?;
        let measure = |binary: &Binary| MALIGNANT_METRICS.map(|metric| (metric.measure)(binary).ok());
        let drawn: Vec<[Option<f64>; 5]> = draws.iter().map(|counts| measure(&binary.resampled(counts))).collect();
        let (mut values, mut intervals) = (BTreeMap::new(), BTreeMap::new());
        for (number, (metric, value)) in MALIGNANT_METRICS.iter().zip(measure(&binary)).enumerate() {
            values.insert(metric.name.to_owned(), value);
            let drawn: Vec<Option<f64>> = drawn.iter().map(|values| values[number]).collect();
            if let Some(interval) = value.and_then(|_| interval(&drawn)) {
                intervals.insert(metric.name.to_owned(), interval);
            }
        }
        let classes = labels.iter().zip(&is_malignant).filter(|(_, malignant)| **malignant);
        Some(Self {
            classes: classes.map(|(label, _)| label.clone()).collect(),
            rows: binary.scores.support()[0],
            values,
            intervals,
        })
    }

    /// False and true positive rates at decreasing thresholds for the probability of malignancy, with the area.
    pub fn curve(&self, scores: &Scores, labels: &[String]) -> Option<(f64, Vec<(f64, f64)>)> {
        let is_malignant: Vec<bool> = labels.iter().map(|label| self.classes.contains(label)).collect();
        let curve = super::roc_curve(&Binary::new(scores, &is_malignant)?.scores, 0).ok()?;
        Some((curve.area, curve.points))
    }

    /// The value of a metric, if defined.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::fixture;

    fn labels() -> Vec<String> {
        ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned).to_vec()
    }

    // The rows of fixture.rs; m = np.isin(truth, [0, 1, 4]); s = p[:, [0, 1, 4]].sum(1); q = np.isin(predicted, [0, 1, 4])
    // print(recall_score(m, q), recall_score(~m, ~q), roc_auc_score(m, s))
    // fpr, tpr, _ = roc_curve(m, s, drop_intermediate=False); print(*[1 - fpr[tpr >= t].min() for t in (.9, .95)], m.sum())
    #[test]
    fn two_classes_match_scikit_learn() {
        let malignant = ["a", "b", "e", "z"].map(str::to_owned);
        let found = Malignant::of(&fixture::scores(), &labels(), &malignant, &[]).unwrap();
        assert_eq!((&found.classes[..], found.rows), (&["a".to_owned(), "b".to_owned(), "e".to_owned()][..], 26));
        const EXPECTED: [f64; 5] =
            [0.6153846153846154, 0.8829787234042553, 0.8553600654664484, 0.6170212765957447, 0.6170212765957447];
        for (metric, expected) in MALIGNANT_METRICS.iter().zip(EXPECTED) {
            let value = found.value(metric.name).unwrap();
            assert!((value - expected).abs() < 1e-12, "{}: {value} instead of {expected}", metric.name);
        }
        let (area, points) = found.curve(&fixture::scores(), &labels()).unwrap();
        assert!((area - EXPECTED[2]).abs() < 1e-12 && points.len() > 10);
        assert_eq!(Malignant::of(&fixture::scores(), &labels(), &["z".to_owned()], &[]), None);
        assert_eq!(Malignant::of(&fixture::scores(), &labels(), &labels(), &[]), None);
    }

    #[test]
    fn intervals_come_from_the_draws() {
        let scores = fixture::scores();
        let once: Vec<u32> = vec![1; scores.truth().len()];
        let found = Malignant::of(&scores, &labels(), &labels()[..2], &[once.clone(), once]).unwrap();
        for (name, interval) in &found.intervals {
            assert_eq!(interval.map(Some), [found.value(name); 2], "{name}");
        }
        assert_eq!(found.intervals.len(), 5);
    }
}
