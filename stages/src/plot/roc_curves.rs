//! Draws ROC curves.

use serde::{Deserialize, Serialize};

use super::panels::{Curve, Panel, Panels, draw};
use super::svg::Svg;
use super::{Drawing, grouped};

/// The ROC curve of each class against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RocCurvesPlot {
    /// The title.
    pub title: String,
    /// The classes in index order.
    pub classes: Vec<ClassCurve>,
}

/// The curve of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCurve {
    /// The class label.
    pub label: String,
    /// The number of rows of the class.
    pub support: usize,
    /// The area under the curve; `None` if undefined.
    pub area: Option<f64>,
    /// Horizontal and vertical coordinates at decreasing thresholds, e.g. false and true positive rate.
    pub points: Vec<(f64, f64)>,
    /// The reason why there is no curve.
    pub undefined: Option<String>,
}

impl ClassCurve {
    /// The area as text, for the description.
    pub(super) fn sentence(&self, name: &str) -> String {
        match (self.area, &self.undefined) {
            (Some(area), _) => format!("{}: {name} {area:.3}", self.label),
            (None, reason) => format!("{}: undefined, {}", self.label, reason.as_deref().unwrap_or("no curve")),
        }
    }

    /// The panel of this class.
    pub(super) fn panel(&self, name: &str, points: Vec<(f64, f64)>, chance: [(f64, f64); 2]) -> Panel<'_> {
        let curve = |area: f64| Curve { points, chance, text: format!("{name} {area:.3}") };
        Panel {
            label: &self.label,
            note: format!("{} rows", grouped(self.support as u64)),
            curve: self.area.map(curve).ok_or_else(|| self.undefined.as_deref().unwrap_or("no curve")),
        }
    }
}

impl Drawing for RocCurvesPlot {
    const PLOT: &'static str = "roc_curves";

    fn draw(&self) -> Svg {
        let sentences: Vec<String> = self.classes.iter().map(|class| class.sentence("area")).collect();
        let diagonal = [(0.0, 0.0), (1.0, 1.0)];
        draw(&Panels {
            title: &self.title,
            description: &format!("One ROC curve per class against the rest. {}.", sentences.join("; ")),
            axes: ["false positive rate", "true positive rate"],
            panels: self.classes.iter().map(|class| class.panel("AUC", class.points.clone(), diagonal)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_without_a_curve_shows_the_reason() {
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
