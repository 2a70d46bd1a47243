//! Draws learning curves.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::scale::{Scale, tick_label, ticks};
use super::svg::{Anchor, Svg, text_width};

const LEFT: f64 = 76.0;
const PLOT_WIDTH: f64 = 540.0;
const TOP: f64 = 86.0;
const PANEL: f64 = 150.0;
const PANEL_GAP: f64 = 40.0;

/// Loss, accuracy and learning rate of every epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurvesPlot {
    /// The title.
    pub title: String,
    /// The epochs, in order.
    pub epochs: Vec<EpochPoint>,
    /// The epoch whose weights were selected.
    pub chosen: Option<u64>,
}

/// The values of one epoch; `None` if not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochPoint {
    /// The epoch, 1-based.
    pub epoch: u64,
    /// The learning rate during the epoch.
    pub learning_rate: Option<f64>,
    /// The training accuracy.
    pub train_accuracy: Option<f64>,
    /// The mean training loss.
    pub train_loss: Option<f64>,
    /// The validation accuracy.
    pub validation_accuracy: Option<f64>,
    /// The mean validation loss.
    pub validation_loss: Option<f64>,
}

/// Selects a value of an epoch.
type Value = fn(&EpochPoint) -> Option<f64>;

struct Panel {
    name: &'static str,
    lines: [Option<Value>; 2],
    logarithmic: bool,
}

const PANELS: [Panel; 3] = [
    Panel { name: "loss", lines: [Some(|e| e.train_loss), Some(|e| e.validation_loss)], logarithmic: false },
    Panel {
        name: "accuracy",
        lines: [Some(|e| e.train_accuracy), Some(|e| e.validation_accuracy)],
        logarithmic: false,
    },
    Panel { name: "learning rate", lines: [Some(|e| e.learning_rate), None], logarithmic: true },
];

impl Drawing for LearningCurvesPlot {
    const PLOT: &'static str = "learning_curves";

    fn draw(&self) -> Svg {
        let width = LEFT + PLOT_WIDTH + 24.0;
        let bottom = TOP + (PANEL + PANEL_GAP) * PANELS.len() as f64 - PANEL_GAP;
        let mut svg = Svg::new(width, bottom + 50.0, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        draw_legend(&mut svg, self.chosen);
        let epochs = || self.epochs.iter().map(|point| point.epoch as f64);
        let x = Scale::new(
            (epochs().fold(f64::INFINITY, f64::min).min(1e9), epochs().fold(1.0, f64::max)),
            (LEFT + 10.0, LEFT + PLOT_WIDTH - 10.0),
        );
        for (i, panel) in PANELS.iter().enumerate() {
            let top = TOP + (PANEL + PANEL_GAP) * i as f64;
            if let Some(chosen) = self.chosen {
                svg.line("hf-mark", (x.at(chosen as f64), top), (x.at(chosen as f64), top + PANEL));
            }
            self.draw_panel(&mut svg, panel, top, x);
        }
        for epoch in self.labelled_epochs() {
            svg.text("hf-soft hf-small", (x.at(epoch as f64), bottom + 16.0), Anchor::Middle, &epoch.to_string());
        }
        svg.text("hf-soft", (LEFT + PLOT_WIDTH / 2.0, bottom + 38.0), Anchor::Middle, "epoch");
        svg
    }
}

impl LearningCurvesPlot {
    fn describe(&self) -> String {
        let Some(last) = self.epochs.last() else {
            return "Learning curves without any epoch.".to_owned();
        };
        let text = |value: Option<f64>| value.map_or("not measured".to_owned(), |value| format!("{value:.3}"));
        let mut sentences = format!("Learning curves of {} epochs.", self.epochs.len());
        let chosen = self.chosen.and_then(|chosen| self.epochs.iter().find(|point| point.epoch == chosen));
        for (name, point) in [("last", Some(last)), ("chosen", chosen)] {
            let Some(point) = point else { continue };
            sentences.push_str(&format!(
                " The {name} epoch is {}: training loss {}, validation loss {}, training accuracy {}, validation accuracy {}.",
                point.epoch,
                text(point.train_loss),
                text(point.validation_loss),
                text(point.train_accuracy),
                text(point.validation_accuracy)
            ));
        }
        sentences
    }

    fn draw_panel(&self, svg: &mut Svg, panel: &Panel, top: f64, x: Scale) {
        let bottom = top + PANEL;
        svg.text("hf-ink hf-strong", (LEFT, top - 8.0), Anchor::Start, panel.name);
        let shown = |value: f64| if panel.logarithmic { libm::log10(value) } else { value };
        let usable = |value: &f64| value.is_finite() && (!panel.logarithmic || *value > 0.0);
        let values: Vec<f64> = self
            .epochs
            .iter()
            .flat_map(|point| panel.lines.iter().flatten().filter_map(|line| line(point)))
            .filter(usable)
            .map(shown)
            .collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() {
            svg.line("hf-axis", (LEFT, bottom), (LEFT + PLOT_WIDTH, bottom));
            svg.text("hf-soft", (LEFT + PLOT_WIDTH / 2.0, top + PANEL / 2.0), Anchor::Middle, "not measured");
            return;
        }
        let marks = if panel.logarithmic { logarithmic_ticks(low, high) } else { ticks(low, high, 4) };
        let y = Scale::new((marks[0], marks[marks.len() - 1]), (bottom, top));
        for &mark in &marks {
            svg.line("hf-grid", (LEFT, y.at(mark)), (LEFT + PLOT_WIDTH, y.at(mark)));
            let label = if panel.logarithmic { power_label(mark) } else { tick_label(mark, marks[1] - marks[0]) };
            svg.text("hf-soft hf-small", (LEFT - 8.0, y.at(mark) + 4.0), Anchor::End, &label);
        }
        svg.line("hf-axis", (LEFT, bottom), (LEFT + PLOT_WIDTH, bottom));
        for (i, line) in panel.lines.iter().enumerate() {
            let Some(line) = line else { continue };
            let points = self
                .epochs
                .iter()
                .map(|point| line(point).filter(usable).map(|value| (x.at(point.epoch as f64), y.at(shown(value)))));
            draw_line(svg, i, &points.collect::<Vec<_>>());
        }
    }

    /// Round epochs on the axis, and the selected one unless it would overlap.
    fn labelled_epochs(&self) -> Vec<u64> {
        let (Some(first), Some(last)) = (self.epochs.first(), self.epochs.last()) else { return Vec::new() };
        let step = ticks(0.0, (last.epoch - first.epoch) as f64, 10)[1].max(1.0) as u64;
        let mut labels: Vec<u64> = (first.epoch..=last.epoch).filter(|epoch| epoch.is_multiple_of(step)).collect();
        if labels.is_empty() {
            labels.push(first.epoch);
        }
        labels
    }
}

/// Draws the segments between missing values, with dots if there are few points.
fn draw_line(svg: &mut Svg, series: usize, points: &[Option<(f64, f64)>]) {
    let (line, dot) = (["hf-l0", "hf-l1"][series], ["hf-p0", "hf-p1"][series]);
    for stretch in points.split(Option::is_none) {
        let stretch: Vec<(f64, f64)> = stretch.iter().flatten().copied().collect();
        if stretch.len() > 1 {
            svg.polyline(line, &stretch, 2.0);
        }
        if points.len() <= 30 || stretch.len() == 1 {
            for point in stretch {
                svg.dot(dot, point, 3.0);
            }
        }
    }
}

fn draw_legend(svg: &mut Svg, chosen: Option<u64>) {
    let mut x = 16.0;
    for (i, name) in ["training", "validation"].into_iter().enumerate() {
        svg.polyline(["hf-l0", "hf-l1"][i], &[(x, 41.0), (x + 28.0, 41.0)], 2.0);
        svg.text("hf-ink", (x + 34.0, 45.5), Anchor::Start, name);
        x += 60.0 + text_width(name, 13.0);
    }
    if let Some(chosen) = chosen {
        svg.line("hf-mark", (x + 14.0, 33.0), (x + 14.0, 49.0));
        svg.text("hf-ink", (x + 24.0, 45.5), Anchor::Start, &format!("chosen epoch: {chosen}"));
    }
}

/// The logarithms of 1, 2 and 5 times powers of ten that enclose `low` to `high`; only powers of ten over many decades.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (libm::floor(low + 1e-9), libm::ceil(high - 1e-9).max(libm::floor(low + 1e-9) + 1.0));
    let steps: &[f64] = if last - first > 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut marks: Vec<f64> = (0..=(last - first) as usize)
        .flat_map(|i| steps.iter().map(move |step| first + i as f64 + libm::log10(*step)))
        .filter(|mark| *mark <= last + 1e-9)
        .collect();
    // Ticks completely outside the range of values only waste space.
    while marks.len() > 2 && marks[1] <= low + 1e-9 {
        marks.remove(0);
    }
    while marks.len() > 2 && marks[marks.len() - 2] >= high - 1e-9 {
        marks.pop();
    }
    marks
}

fn power_label(exponent: f64) -> String {
    let power = libm::floor(exponent + 1e-9);
    let step = libm::round(libm::pow(10.0, exponent - power));
    if (-4.0..=2.0).contains(&power) {
        let value = step * libm::pow(10.0, power);
        return if power < 0.0 { format!("{value:.*}", -power as usize) } else { format!("{value:.0}") };
    }
    format!("{step:.0}e{power:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(epoch: u64, loss: f64) -> EpochPoint {
        EpochPoint { epoch, train_loss: Some(loss), learning_rate: Some(1e-3), ..EpochPoint::default() }
    }

    #[test]
    fn the_selected_epoch_is_marked_and_described() {
        let plot = LearningCurvesPlot {
            title: "Training".to_owned(),
            epochs: vec![point(1, 2.0), point(2, 1.5)],
            chosen: Some(2),
        };
        let svg = plot.draw().file();
        assert!(svg.contains(">chosen epoch: 2</text>"));
        assert!(svg.contains("The chosen epoch is 2: training loss 1.500, validation loss not measured"));
        assert!(svg.contains(">not measured</text>"), "the panel of accuracy is empty and says so");
    }

    #[test]
    fn single_missing_and_nan_epochs_can_be_drawn() {
        for epochs in [Vec::new(), vec![point(1, 2.0)], vec![point(1, f64::NAN), point(2, 1.0)]] {
            let svg = LearningCurvesPlot { title: "Training".to_owned(), epochs, chosen: None }.draw().file();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn epochs_are_labelled_at_round_numbers() {
        let plot = |n| LearningCurvesPlot {
            title: String::new(),
            epochs: (1..=n).map(|epoch| point(epoch, 1.0)).collect(),
            chosen: None,
        };
        assert_eq!(plot(50).labelled_epochs(), [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]);
        assert_eq!(plot(3).labelled_epochs(), [1, 2, 3]);
        assert_eq!(plot(1).labelled_epochs(), [1]);
    }

    #[test]
    fn logarithmic_ticks_enclose_the_values_tightly() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            logarithmic_ticks(libm::log10(low), libm::log10(high)).into_iter().map(power_label).collect()
        };
        assert_eq!(labels(2.5e-4, 1e-3), ["0.0002", "0.0005", "0.001"]);
        assert_eq!(labels(1e-3, 1e-3), ["0.001", "0.002"]);
        assert_eq!(labels(1e-6, 0.3), ["1e-6", "1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(1.0, 300.0), ["1", "10", "100", "1e3"]);
    }
}
