//! The figures of one split.

use crate::metric::{Scores, SplitMetrics, confusion_matrix, roc_curve};
use crate::plot::{ClassCurve, ClassScoresPlot, ConfusionMatrixPlot, Drawing, Figure, RocCurvesPlot, grouped};

/// The figures and the names of their files, without ending: `<plot>_<split>`.
pub fn of_split(split: &str, scores: &Scores, metrics: &SplitMetrics) -> Vec<(String, Figure)> {
    let classes = &metrics.classes;
    let score = |of: fn(&crate::metric::ClassMetrics) -> Option<f64>| {
        classes.iter().map(|label| metrics.class(label).and_then(of)).collect()
    };
    let curves = classes.iter().zip(scores.support()).enumerate().map(|(class, (label, support))| {
        let curve = roc_curve(scores, class);
        ClassCurve {
            label: label.clone(),
            support,
            area: curve.as_ref().ok().map(|curve| curve.area),
            undefined: curve.as_ref().err().map(|error| error.reason.clone()),
            points: curve.map(|curve| curve.points).unwrap_or_default(),
        }
    });
    vec![
        named(
            split,
            &ConfusionMatrixPlot {
                title: format!("Confusion matrix, {split} ({} rows)", grouped(scores.len() as u64)),
                classes: classes.clone(),
                counts: confusion_matrix(scores),
            },
        ),
        named(
            split,
            &ClassScoresPlot {
                title: format!("Recall and precision per class, {split}"),
                classes: classes.clone(),
                precision: score(|class| class.precision),
                recall: score(|class| class.recall),
            },
        ),
        named(
            split,
            &RocCurvesPlot {
                title: format!("ROC curves, one class against the rest, {split}"),
                classes: curves.collect(),
            },
        ),
    ]
}

fn named<T: Drawing>(split: &str, data: &T) -> (String, Figure) {
    (format!("{}_{split}", T::PLOT), Figure::new(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Scores;

    #[test]
    fn each_figure_is_named_after_its_plot_and_split() {
        let scores = Scores::new(vec![0, 1, 1], vec![vec![0.8, 0.2], vec![0.3, 0.7], vec![0.6, 0.4]], 2).unwrap();
        let metrics = SplitMetrics::of(&scores, &["a".to_owned(), "b".to_owned()]);
        let figures = of_split("test", &scores, &metrics);
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["confusion_matrix_test", "class_scores_test", "roc_curves_test"]);
        for (_, figure) in figures {
            figure.draw().unwrap();
        }
    }
}
