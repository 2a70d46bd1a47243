//! The figures of one split.

use crate::ml::metric::{
    Ranking, RocCurve, Scores, SplitMetrics, Undefined, bins, confusion_matrix, metric, roc_curve,
};
use crate::plot::{
    AttributeParts, ClassCurve, ClassScoresPlot, ConfusionMatrixPlot, Drawing, Figure, Part, PrecisionRecallCurvesPlot,
    ReliabilityBin, ReliabilityPlot, RocCurvesPlot, SubgroupsPlot, grouped,
};

/// The metric that is compared between subgroups. A mean over rows, because subgroups contain different classes.
const COMPARED: &str = "accuracy";

/// The figures with their file names without extension: `<plot>_<split>`.
pub fn of_split(split: &str, scores: &Scores, metrics: &SplitMetrics) -> Vec<(String, Figure)> {
    let classes = &metrics.classes;
    let score = |name: &str| classes.iter().map(|label| metrics.class(label)?.value(name)).collect();
    let mut figures = vec![
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
                precision: score("precision"),
                recall: score("recall"),
            },
        ),
        named(
            split,
            &RocCurvesPlot {
                title: format!("ROC curves, one class against the rest, {split}"),
                classes: curves(scores, classes, |class| {
                    roc_curve(scores, class).map(|RocCurve { area, points }| (area, points))
                }),
            },
        ),
        named(
            split,
            &PrecisionRecallCurvesPlot {
                title: format!("Precision–recall curves, one class against the rest, {split}"),
                rows: scores.len(),
                classes: curves(scores, classes, |class| {
                    let ranking = Ranking::of(scores, class)?;
                    Ok((ranking.average_precision()?, ranking.precision_recall_points()))
                }),
            },
        ),
        named(split, &reliability(split, scores, metrics)),
    ];
    if let Some(malignant) = &metrics.malignant
        && let Some((area, points)) = malignant.curve(scores, classes)
    {
        let label = "malignant".to_owned();
        let curve = ClassCurve { label, support: malignant.rows, area: Some(area), points, undefined: None };
        let title = format!("ROC curve of {} against the others, {split}", malignant.classes.join(", "));
        let figure = Figure::new(&RocCurvesPlot { title, classes: vec![curve] });
        figures.push((format!("{}_malignant_{split}", RocCurvesPlot::PLOT), figure));
    }
    if !metrics.subgroups.is_empty() {
        figures.push(named(split, &subgroups(split, metrics)));
    }
    figures
}

/// One curve per class; `of` returns its area and points.
fn curves(
    scores: &Scores,
    classes: &[String],
    of: impl Fn(usize) -> Result<(f64, Vec<(f64, f64)>), Undefined>,
) -> Vec<ClassCurve> {
    let curve = |(class, (label, support)): (usize, (&String, usize))| {
        let (area, points, undefined) = match of(class) {
            Ok((area, points)) => (Some(area), points, None),
            Err(error) => (None, Vec::new(), Some(error.reason)),
        };
        ClassCurve { label: label.clone(), support, area, points, undefined }
    };
    classes.iter().zip(scores.support()).enumerate().map(curve).collect()
}

fn reliability(split: &str, scores: &Scores, metrics: &SplitMetrics) -> ReliabilityPlot {
    let bin = |bin: &crate::ml::metric::Bin| {
        let share = |sum: f64| (bin.rows > 0).then(|| sum / bin.rows as f64);
        ReliabilityBin { rows: bin.rows, confidence: share(bin.confidence), accuracy: share(bin.right as f64) }
    };
    ReliabilityPlot {
        title: format!("Reliability, {split}"),
        error: metrics.value("expected_calibration_error"),
        bins: bins(scores).iter().map(bin).collect(),
    }
}

fn subgroups(split: &str, metrics: &SplitMetrics) -> SubgroupsPlot {
    let title = metric(COMPARED).map_or(COMPARED, |metric| metric.title);
    let attribute = |(name, parts): (&String, &Vec<crate::ml::metric::Subgroup>)| AttributeParts {
        name: name.clone(),
        parts: parts
            .iter()
            .map(|part| Part {
                name: part.name.clone(),
                rows: part.rows,
                value: part.value(COMPARED),
                interval: part.intervals.get(COMPARED).copied(),
            })
            .collect(),
    };
    SubgroupsPlot {
        title: format!("{title} by subgroup, {split}"),
        metric: title.to_owned(),
        overall: metrics.value(COMPARED),
        attributes: metrics.subgroups.iter().map(attribute).collect(),
    }
}

fn named<T: Drawing>(split: &str, data: &T) -> (String, Figure) {
    (format!("{}_{split}", T::PLOT), Figure::new(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::metric::Scores;

    #[test]
    fn each_figure_is_named_after_its_plot_and_split() {
        let scores = Scores::new(vec![0, 1, 1], vec![vec![0.8, 0.2], vec![0.3, 0.7], vec![0.6, 0.4]], 2).unwrap();
        let metrics = SplitMetrics::of(&scores, &["a".to_owned(), "b".to_owned()]);
        let figures = of_split("test", &scores, &metrics);
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["confusion_matrix", "class_scores", "roc_curves", "precision_recall_curves", "reliability"];
        assert_eq!(names, expected.map(|name| format!("{name}_test")));
        for (_, figure) in figures {
            figure.draw().unwrap();
        }
    }
}
