//! Draws precision–recall curves.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::panels::{Panel, Panels, draw};
use super::roc_curves::ClassCurve;
use super::svg::Svg;

/// The precision–recall curve of each class against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecallCurvesPlot {
    /// The title.
    pub title: String,
    /// The total number of rows.
    pub rows: usize,
    /// The classes in index order; points are recall and precision, areas are average precisions.
    pub classes: Vec<ClassCurve>,
}

impl Drawing for PrecisionRecallCurvesPlot {
    const PLOT: &'static str = "precision_recall_curves";

    fn draw(&self) -> Svg {
        let sentences: Vec<String> = self.classes.iter().map(|class| class.sentence("average precision")).collect();
        draw(&Panels {
            title: &self.title,
            description: &format!("One precision–recall curve per class against the rest. {}.", sentences.join("; ")),
            axes: ["recall", "precision"],
            panels: self.classes.iter().map(|class| self.panel(class)).collect(),
        })
    }
}

impl PrecisionRecallCurvesPlot {
    fn panel<'a>(&self, class: &'a ClassCurve) -> Panel<'a> {
        let share = class.support as f64 / self.rows.max(1) as f64;
        class.panel("AP", steps(&class.points), [(0.0, share), (1.0, share)])
    }
}

/// The step function that average precision integrates: each increase of recall has the precision at its end.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut steps = Vec::with_capacity(2 * points.len());
    let mut recall = 0.0;
    for &(next, precision) in points {
        if next > recall || steps.is_empty() {
            steps.push((recall, precision));
        }
        steps.push((next, precision));
        recall = next;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increase_of_recall_is_drawn_at_the_precision_of_its_end() {
        assert_eq!(
            steps(&[(0.5, 1.0), (0.5, 0.5), (1.0, 0.75)]),
            [(0.0, 1.0), (0.5, 1.0), (0.5, 0.5), (0.5, 0.75), (1.0, 0.75)]
        );
    }

    #[test]
    fn every_class_is_labelled_with_its_average_precision() {
        let class = ClassCurve {
            label: "mel".to_owned(),
            support: 5,
            area: Some(0.25),
            points: vec![(1.0, 0.25)],
            undefined: None,
        };
        let plot = PrecisionRecallCurvesPlot { title: "Test".to_owned(), rows: 20, classes: vec![class] };
        let svg = plot.draw().file();
        assert!(svg.contains(">AP 0.250</text>") && svg.contains("mel: average precision 0.250."));
    }
}
