//! Draws the metrics of several models with their intervals.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::scale::{Scale, extent, tick_label, ticks};
use super::svg::{Anchor, Svg, shortened, text_width};

const ROW: f64 = 24.0;
const HEAD: f64 = 26.0;
const PANEL_GAP: f64 = 34.0;
const PLOT_WIDTH: f64 = 440.0;
const TOP: f64 = 48.0;
/// The width of the longest name that is drawn as a whole.
const NAMES: f64 = 240.0;

/// Metrics of models that were evaluated on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelComparisonPlot {
    /// The title.
    pub title: String,
    /// The titles of the metrics.
    pub metrics: Vec<String>,
    /// The models.
    pub models: Vec<ComparedModel>,
}

/// A model with a value and an interval for each metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedModel {
    /// The display name.
    pub name: String,
    /// The values; `None` if undefined.
    pub values: Vec<Option<f64>>,
    /// The 95 % intervals.
    pub intervals: Vec<Option<[f64; 2]>>,
}

impl Drawing for ModelComparisonPlot {
    const PLOT: &'static str = "model_comparison";

    fn draw(&self) -> Svg {
        let names = self.models.iter().map(|model| text_width(&model.name, 13.0)).fold(40.0, f64::max);
        let left = 24.0 + names.min(NAMES) + 12.0;
        let panel = HEAD + ROW * self.models.len() as f64 + 18.0;
        let height = TOP + (panel + PANEL_GAP) * self.metrics.len() as f64;
        let mut svg = Svg::new(left + PLOT_WIDTH + 70.0, height, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        for (place, metric) in self.metrics.iter().enumerate() {
            self.draw_metric(&mut svg, (left, TOP + (panel + PANEL_GAP) * place as f64), place, metric);
        }
        svg
    }
}

impl ModelComparisonPlot {
    fn describe(&self) -> String {
        let mut text = format!("{} of {} models.", self.metrics.join(", "), self.models.len());
        for model in &self.models {
            let value = |(metric, value): (&String, &Option<f64>)| {
                format!("{metric} {}", value.map_or("undefined".to_owned(), |value| format!("{value:.3}")))
            };
            let values: Vec<String> = self.metrics.iter().zip(&model.values).map(value).collect();
            text.push_str(&format!(" {}: {}.", model.name, values.join(", ")));
        }
        text
    }

    fn draw_metric(&self, svg: &mut Svg, (left, top): (f64, f64), place: usize, metric: &str) {
        let (right, first) = (left + PLOT_WIDTH, top + HEAD);
        let bottom = first + ROW * self.models.len() as f64;
        svg.text("hf-ink hf-strong", (left, top + 12.0), Anchor::Start, metric);
        let ends = self.models.iter().flat_map(|model| {
            let interval = model.intervals.get(place).copied().flatten();
            model.values.get(place).copied().flatten().into_iter().chain(interval.into_iter().flatten())
        });
        svg.line("hf-axis", (left, bottom), (right, bottom));
        let scale = extent(ends).map(|(low, high)| {
            let marks = ticks(low, high, 5);
            let x = Scale::new((marks[0], marks[marks.len() - 1]), (left, right));
            for &mark in &marks {
                svg.line("hf-grid", (x.at(mark), first), (x.at(mark), bottom));
                let label = tick_label(mark, marks[1] - marks[0]);
                svg.text("hf-soft hf-small", (x.at(mark), bottom + 15.0), Anchor::Middle, &label);
            }
            x
        });
        for (row, model) in self.models.iter().enumerate() {
            let y = first + ROW * (row as f64 + 0.5);
            svg.text("hf-ink", (left - 12.0, y + 4.5), Anchor::End, &shortened(&model.name, 13.0, NAMES));
            let value = model.values.get(place).copied().flatten();
            let (Some(value), Some(x)) = (value, scale) else {
                svg.text("hf-soft hf-small", (left + 8.0, y + 4.0), Anchor::Start, "undefined");
                continue;
            };
            if let Some([from, to]) = model.intervals.get(place).copied().flatten() {
                svg.polyline("hf-l0", &[(x.at(from), y), (x.at(to), y)], 2.0);
            }
            svg.dot("hf-p0", (x.at(value), y), 4.5);
            svg.text("hf-soft hf-small", (right + 8.0, y + 4.0), Anchor::Start, &format!("{value:.3}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, value: Option<f64>) -> ComparedModel {
        let interval = value.map(|value| [value - 0.1, value + 0.1]);
        ComparedModel { name: name.to_owned(), values: vec![value], intervals: vec![interval] }
    }

    #[test]
    fn every_model_has_its_value_and_undefined_ones_say_so() {
        let plot = ModelComparisonPlot {
            title: "Models".to_owned(),
            metrics: vec!["Accuracy".to_owned()],
            models: vec![model("baseline", Some(0.7)), model("resnet-18", None)],
        };
        let svg = plot.draw().file();
        assert!(svg.contains("baseline: Accuracy 0.700. resnet-18: Accuracy undefined."));
        assert!(svg.contains(">0.700</text>") && svg.contains(">undefined</text>"));
    }

    #[test]
    fn comparisons_without_models_or_values_can_be_drawn() {
        for models in [Vec::new(), vec![model("a", None)], vec![model("a", Some(f64::NAN))]] {
            let metrics = vec!["Accuracy".to_owned()];
            let svg = ModelComparisonPlot { title: "Models".to_owned(), metrics, models }.draw().file();
            assert!(!svg.contains("NaN\"") && !svg.contains("inf"), "{svg}");
        }
    }
}
