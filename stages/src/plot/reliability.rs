//! Draws reliability diagrams.

use serde::{Deserialize, Serialize};

use super::scale::Scale;
use super::svg::{Anchor, Svg};
use super::{Drawing, grouped};

const SIDE: f64 = 300.0;
const STRIP: f64 = 70.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 66.0;

/// A reliability diagram (DeGroot, Fienberg 1983): one bar per bin of confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityPlot {
    /// The title.
    pub title: String,
    /// The expected calibration error; `None` if undefined.
    pub error: Option<f64>,
    /// Equal-width bins from 0 to 1.
    pub bins: Vec<ReliabilityBin>,
}

/// A bin of rows with similar confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// The number of rows.
    pub rows: usize,
    /// The mean confidence; `None` without rows.
    pub confidence: Option<f64>,
    /// The accuracy; `None` without rows.
    pub accuracy: Option<f64>,
}

impl Drawing for ReliabilityPlot {
    const PLOT: &'static str = "reliability";

    fn draw(&self) -> Svg {
        let error = self.error.map_or("undefined".to_owned(), |error| format!("{error:.3}"));
        let sentences: Vec<String> = self
            .bins
            .iter()
            .filter_map(|bin| {
                let (confidence, accuracy) = bin.confidence.zip(bin.accuracy)?;
                Some(format!("{} rows at confidence {confidence:.2}: {accuracy:.2} right", grouped(bin.rows as u64)))
            })
            .collect();
        let description = format!("Reliability diagram. Calibration error {error}. {}.", sentences.join("; "));
        let width = LEFT + SIDE + 32.0;
        let mut svg = Svg::new(width, TOP + SIDE + STRIP + 76.0, &self.title, &description);
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        svg.text(
            "hf-soft hf-small",
            (16.0, 44.0),
            Anchor::Start,
            "dots: bins; on the dashed line it is right as often as it says",
        );
        let x = Scale::new((0.0, 1.0), (LEFT, LEFT + SIDE));
        let y = Scale::new((0.0, 1.0), (TOP + SIDE, TOP));
        svg.rect("hf-cell", (LEFT, TOP), (SIDE, SIDE), 1.0);
        for step in 0..=5 {
            let mark = f64::from(step) / 5.0;
            svg.line("hf-grid", (x.at(mark), TOP), (x.at(mark), TOP + SIDE));
            svg.line("hf-grid", (LEFT, y.at(mark)), (LEFT + SIDE, y.at(mark)));
            svg.text("hf-soft hf-small", (LEFT - 6.0, y.at(mark) + 4.0), Anchor::End, &format!("{mark:.1}"));
            let below = TOP + SIDE + STRIP + 24.0;
            svg.text("hf-soft hf-small", (x.at(mark), below), Anchor::Middle, &format!("{mark:.1}"));
        }
        svg.turned_text("hf-soft", (22.0, TOP + SIDE / 2.0), Anchor::Middle, -90, "share that is right");
        self.bars(&mut svg, x, y);
        self.strip(&mut svg, x);
        svg.line("hf-mark", (x.at(0.0), y.at(0.0)), (x.at(1.0), y.at(1.0)));
        svg.text("hf-ink hf-strong", (LEFT + 10.0, TOP + 22.0), Anchor::Start, &format!("calibration error {error}"));
        let below = TOP + SIDE + STRIP + 48.0;
        svg.text("hf-soft", (LEFT + SIDE / 2.0, below), Anchor::Middle, "probability of the predicted class");
        svg
    }
}

impl ReliabilityPlot {
    fn bars(&self, svg: &mut Svg, x: Scale, y: Scale) {
        let count = self.bins.len() as f64;
        for (i, bin) in self.bins.iter().enumerate() {
            let Some((confidence, accuracy)) = bin.confidence.zip(bin.accuracy) else { continue };
            let (left, right) = (x.at(i as f64 / count), x.at((i + 1) as f64 / count));
            svg.rect("hf-area", (left + 1.0, y.at(accuracy)), (right - left - 2.0, y.at(0.0) - y.at(accuracy)), 1.0);
            svg.dot("hf-p0", (x.at(confidence), y.at(accuracy)), 4.0);
        }
    }

    /// Draws the row counts of the bins below the diagram.
    fn strip(&self, svg: &mut Svg, x: Scale) {
        let top = TOP + SIDE + 8.0;
        let largest = self.bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
        let count = self.bins.len() as f64;
        for (i, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0) {
            let height = STRIP * bin.rows as f64 / largest as f64;
            let (left, right) = (x.at(i as f64 / count), x.at((i + 1) as f64 / count));
            svg.rect("hf-f0", (left + 1.0, top + STRIP - height), (right - left - 2.0, height), 1.0);
        }
        svg.line("hf-axis", (LEFT, top + STRIP), (LEFT + SIDE, top + STRIP));
        svg.text("hf-soft hf-small", (LEFT - 6.0, top + 10.0), Anchor::End, &grouped(largest as u64));
        svg.text("hf-soft hf-small", (LEFT - 6.0, top + STRIP), Anchor::End, "rows");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_bins_are_not_drawn() {
        let none = ReliabilityBin { rows: 0, confidence: None, accuracy: None };
        let some = ReliabilityBin { rows: 1200, confidence: Some(0.9), accuracy: Some(0.75) };
        let plot = ReliabilityPlot { title: "Test".to_owned(), error: Some(0.15), bins: vec![none, some] };
        let svg = plot.draw().file();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("1,200 rows at confidence 0.90: 0.75 right.") && svg.contains("calibration error 0.150"));
        let empty = ReliabilityPlot { title: "Test".to_owned(), error: None, bins: vec![none; 15] };
        assert!(empty.draw().file().contains("calibration error undefined"));
    }
}
