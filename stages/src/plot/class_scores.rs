//! Draws recall and precision of each class.

use serde::{Deserialize, Serialize};

use super::bars::{Bar, Bars, Fills, draw};
use super::{Drawing, Svg};

/// Recall and precision of each class; `None` if undefined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScoresPlot {
    /// The title.
    pub title: String,
    /// The classes in index order.
    pub classes: Vec<String>,
    /// The precision of each class.
    pub precision: Vec<Option<f64>>,
    /// The recall of each class.
    pub recall: Vec<Option<f64>>,
}

impl Drawing for ClassScoresPlot {
    const PLOT: &'static str = "class_scores";

    fn draw(&self) -> Svg {
        let text = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
        let bar = |value: Option<f64>| Bar { value, text: text(value) };
        let scores = || self.recall.iter().copied().zip(self.precision.iter().copied());
        let sentences: Vec<String> = self
            .classes
            .iter()
            .zip(scores())
            .map(|(class, (recall, precision))| {
                format!("{class}: recall {}, precision {}", text(recall), text(precision))
            })
            .collect();
        draw(&Bars {
            title: &self.title,
            description: &format!("Bar chart of recall and precision per class. {}.", sentences.join("; ")),
            axis: "share of rows",
            groups: &self.classes,
            series: &["recall (rows of the class that are found)", "precision (rows called so that are right)"],
            limit: Some(1.0),
            fills: Fills::Series,
            bars: scores().map(|(recall, precision)| vec![bar(recall), bar(precision)]).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_scores_are_labelled() {
        let plot = ClassScoresPlot {
            title: "Test".to_owned(),
            classes: vec!["nv".to_owned()],
            precision: vec![None],
            recall: vec![Some(0.25)],
        };
        let svg = plot.draw().file();
        assert!(svg.contains(">undefined</text>") && svg.contains(">0.250</text>"));
        assert!(svg.contains("nv: recall 0.250, precision undefined."));
    }
}
