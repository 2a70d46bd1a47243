//! Draws how well each class is separated from the rest.

use serde::{Deserialize, Serialize};

use super::scale::Scale;
use super::svg::{Anchor, Svg, text_width};
use super::{Drawing, grouped};

const PANEL: f64 = 168.0;
const COLUMN: f64 = PANEL + 44.0;
const ROW: f64 = PANEL + 74.0;
const COLUMNS: usize = 4;
const TOP: f64 = 40.0;

/// The ROC curve of each class against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RocCurvesPlot {
    /// The heading.
    pub title: String,
    /// The classes in index order.
    pub classes: Vec<ClassCurve>,
}

/// The ROC curve of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCurve {
    /// The class.
    pub label: String,
    /// The number of rows of the class.
    pub support: usize,
    /// The area under the curve; none where undefined.
    pub area: Option<f64>,
    /// False positive rate and true positive rate at falling thresholds.
    pub points: Vec<(f64, f64)>,
    /// Why there is no curve.
    pub undefined: Option<String>,
}

impl Drawing for RocCurvesPlot {
    const PLOT: &'static str = "roc_curves";

    fn draw(&self) -> Svg {
        let columns = self.classes.len().clamp(1, COLUMNS);
        let rows = self.classes.len().div_ceil(COLUMNS).max(1);
        let width = (24.0 + COLUMN * columns as f64).max(32.0 + text_width(&self.title, 15.0));
        let sentences: Vec<String> = self
            .classes
            .iter()
            .map(|class| match (class.area, &class.undefined) {
                (Some(area), _) => format!("{}: area {area:.3}", class.label),
                (None, reason) => format!("{}: undefined, {}", class.label, reason.as_deref().unwrap_or("no curve")),
            })
            .collect();
        let description = format!("One ROC curve per class against the rest. {}.", sentences.join("; "));
        let mut svg = Svg::new(width, TOP + ROW * rows as f64 + 4.0, &self.title, &description);
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        for (i, class) in self.classes.iter().enumerate() {
            let corner = (48.0 + COLUMN * (i % COLUMNS) as f64, TOP + 30.0 + ROW * (i / COLUMNS) as f64);
            draw_panel(&mut svg, corner, class);
        }
        svg
    }
}

fn draw_panel(svg: &mut Svg, (left, top): (f64, f64), class: &ClassCurve) {
    let x = Scale::new((0.0, 1.0), (left, left + PANEL));
    let y = Scale::new((0.0, 1.0), (top + PANEL, top));
    let support = format!("{} rows", grouped(class.support as u64));
    svg.text("hf-ink hf-strong", (left, top - 8.0), Anchor::Start, &class.label);
    svg.text("hf-soft hf-small", (left + PANEL, top - 8.0), Anchor::End, &support);
    svg.rect("hf-cell", (left, top), (PANEL, PANEL), 1.0);
    for mark in [0.0, 0.5, 1.0] {
        svg.line("hf-grid", (x.at(mark), top), (x.at(mark), top + PANEL));
        svg.line("hf-grid", (left, y.at(mark)), (left + PANEL, y.at(mark)));
        let label = mark.to_string();
        svg.text("hf-soft hf-small", (x.at(mark), top + PANEL + 14.0), Anchor::Middle, &label);
        svg.text("hf-soft hf-small", (left - 6.0, y.at(mark) + 4.0), Anchor::End, &label);
    }
    svg.text("hf-soft hf-small", (left + PANEL / 2.0, top + PANEL + 29.0), Anchor::Middle, "false positive rate");
    svg.turned_text("hf-soft hf-small", (left - 26.0, top + PANEL / 2.0), Anchor::Middle, -90, "true positive rate");
    if let Some(area) = class.area {
        svg.line("hf-mark", (x.at(0.0), y.at(0.0)), (x.at(1.0), y.at(1.0)));
        let points: Vec<(f64, f64)> = class.points.iter().map(|(fpr, tpr)| (x.at(*fpr), y.at(*tpr))).collect();
        let mut outline = points.clone();
        outline.push((x.at(1.0), y.at(0.0)));
        svg.polygon("hf-area", &outline);
        svg.polyline("hf-l0", &points, 2.0);
        svg.text("hf-ink hf-strong", (left + PANEL - 8.0, top + PANEL - 10.0), Anchor::End, &format!("AUC {area:.3}"));
    } else {
        svg.text("hf-soft", (left + PANEL / 2.0, top + PANEL / 2.0 - 8.0), Anchor::Middle, "undefined");
        let reason = class.undefined.as_deref().unwrap_or("no curve");
        svg.text("hf-soft hf-small", (left + PANEL / 2.0, top + PANEL / 2.0 + 12.0), Anchor::Middle, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_without_a_curve_says_why() {
        let curve = ClassCurve {
            label: "nv".to_owned(),
            support: 1341,
            area: Some(0.9),
            points: vec![(0.0, 0.0), (0.0, 0.8), (1.0, 1.0)],
            undefined: None,
        };
        let none = ClassCurve {
            label: "df".to_owned(),
            support: 0,
            area: None,
            points: Vec::new(),
            undefined: Some("no rows of this class".to_owned()),
        };
        let plot = RocCurvesPlot { title: "Test".to_owned(), classes: vec![curve, none] };
        let svg = plot.draw().file();
        assert!(svg.contains(">AUC 0.900</text>") && svg.contains(">no rows of this class</text>"));
        assert!(svg.contains("nv: area 0.900; df: undefined, no rows of this class."));
    }
}
