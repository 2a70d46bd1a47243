//! Draws the learning curves of several trainings in one figure.

use serde::{Deserialize, Serialize};

use super::scale::{Scale, extent, tick_label, ticks};
use super::svg::{Anchor, Svg, shortened};
use super::{Drawing, EpochPoint};

const LEFT: f64 = 64.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 180.0;
const PANEL_GAP: f64 = 44.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_WIDTH: f64 = 280.0;

/// Loss and accuracy of several trainings over the epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCurvesPlot {
    /// The title.
    pub title: String,
    /// The trainings.
    pub runs: Vec<NamedCurves>,
}

/// The epochs of one training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedCurves {
    /// The name of the training.
    pub name: String,
    /// The epochs, in order.
    pub epochs: Vec<EpochPoint>,
}

/// Selects a value of an epoch.
type Value = fn(&EpochPoint) -> Option<f64>;

/// A panel, with the value of the thick line and that of the thin one.
struct Panel {
    name: &'static str,
    validation: Value,
    training: Value,
}

const PANELS: [Panel; 2] = [
    Panel { name: "loss", validation: |point| point.validation_loss, training: |point| point.train_loss },
    Panel { name: "accuracy", validation: |point| point.validation_accuracy, training: |point| point.train_accuracy },
];

/// The lines of the first two trainings; further ones have the line of axes.
const LINES: [&str; 2] = ["hf-l0", "hf-l1"];
const DOTS: [&str; 2] = ["hf-p0", "hf-p1"];

impl Drawing for RunCurvesPlot {
    const PLOT: &'static str = "run_curves";

    fn draw(&self) -> Svg {
        let top = 46.0 + LEGEND_ROW * self.legend().len().div_ceil(2) as f64 + 24.0;
        let right = LEFT + WIDTH;
        let bottom = top + HEIGHT * 2.0 + PANEL_GAP;
        let mut svg = Svg::new(right + 24.0, bottom + 48.0, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        self.draw_legend(&mut svg);
        let longest = self.epochs().map(|point| point.epoch).max().unwrap_or(1).max(2);
        let x = Scale::new((1.0, longest as f64), (LEFT + 10.0, right - 10.0));
        for (place, panel) in PANELS.iter().enumerate() {
            self.draw_panel(&mut svg, panel, top + (HEIGHT + PANEL_GAP) * place as f64, x);
        }
        let step = ticks(0.0, longest as f64, 10).get(1).copied().unwrap_or(1.0).max(1.0) as u64;
        for epoch in (1..=longest).filter(|epoch| longest < 3 || epoch.is_multiple_of(step)) {
            svg.text("hf-soft hf-small", (x.at(epoch as f64), bottom + 16.0), Anchor::Middle, &epoch.to_string());
        }
        svg.text("hf-soft", (LEFT + WIDTH / 2.0, bottom + 38.0), Anchor::Middle, "epoch");
        svg
    }
}

impl RunCurvesPlot {
    fn epochs(&self) -> impl Iterator<Item = &EpochPoint> {
        self.runs.iter().flat_map(|run| &run.epochs)
    }

    /// The names in the legend; of many trainings, which look the same, only their number.
    fn legend(&self) -> Vec<String> {
        if self.runs.len() <= LINES.len() {
            return self.runs.iter().map(|run| run.name.clone()).collect();
        }
        vec![format!("{} trainings", self.runs.len())]
    }

    fn describe(&self) -> String {
        let last = |run: &NamedCurves| {
            let point = run.epochs.iter().rfind(|point| point.validation_loss.or(point.train_loss).is_some())?;
            let (name, loss) = match point.validation_loss {
                Some(loss) => ("validation", loss),
                None => ("training", point.train_loss?),
            };
            Some(format!("{}: {name} loss {loss:.3} after epoch {}", run.name, point.epoch))
        };
        let said: Vec<String> = self.runs.iter().filter_map(last).collect();
        if said.is_empty() { "No epoch was completed.".to_owned() } else { format!("{}.", said.join("; ")) }
    }

    fn line(&self, place: usize) -> &'static str {
        if self.runs.len() <= LINES.len() { LINES[place] } else { "hf-axis" }
    }

    fn draw_legend(&self, svg: &mut Svg) {
        let legend = self.legend();
        for (place, name) in legend.iter().enumerate() {
            let (column, row) = ((place % 2) as f64, (place / 2) as f64);
            let (x, y) = (16.0 + column * LEGEND_WIDTH, 41.0 + row * LEGEND_ROW);
            svg.polyline(self.line(place), &[(x, y), (x + 28.0, y)], 2.5);
            svg.text("hf-ink", (x + 34.0, y + 4.5), Anchor::Start, &shortened(name, 13.0, LEGEND_WIDTH - 44.0));
        }
        let y = 45.5 + LEGEND_ROW * legend.len().div_ceil(2) as f64;
        svg.text("hf-soft hf-small", (16.0, y), Anchor::Start, "thick: validation, thin: training");
    }

    fn draw_panel(&self, svg: &mut Svg, panel: &Panel, top: f64, x: Scale) {
        let (right, bottom) = (LEFT + WIDTH, top + HEIGHT);
        svg.text("hf-ink hf-strong", (LEFT, top - 8.0), Anchor::Start, panel.name);
        let both = |point: &EpochPoint| [(panel.validation)(point), (panel.training)(point)];
        let Some((low, high)) = extent(self.epochs().flat_map(both).flatten()) else {
            svg.line("hf-axis", (LEFT, bottom), (right, bottom));
            svg.text("hf-soft", (LEFT + WIDTH / 2.0, top + HEIGHT / 2.0), Anchor::Middle, "not measured");
            return;
        };
        let marks = ticks(low, high, 4);
        let y = Scale::new((marks[0], marks[marks.len() - 1]), (bottom, top));
        for &mark in &marks {
            svg.line("hf-grid", (LEFT, y.at(mark)), (right, y.at(mark)));
            let label = tick_label(mark, marks[1] - marks[0]);
            svg.text("hf-soft hf-small", (LEFT - 8.0, y.at(mark) + 4.0), Anchor::End, &label);
        }
        svg.line("hf-axis", (LEFT, bottom), (right, bottom));
        for (place, run) in self.runs.iter().enumerate() {
            for (value, width) in [(panel.training, 1.0), (panel.validation, 2.5)] {
                let finite = |point: &EpochPoint| value(point).filter(|value| value.is_finite());
                let points = run.epochs.iter().map(|point| Some((x.at(point.epoch as f64), y.at(finite(point)?))));
                let points: Vec<Option<(f64, f64)>> = points.collect();
                for stretch in points.split(Option::is_none) {
                    let stretch: Vec<(f64, f64)> = stretch.iter().flatten().copied().collect();
                    match &stretch[..] {
                        [] => {}
                        [one] => svg.dot(DOTS[place.min(1)], *one, width + 1.0),
                        _ => svg.polyline(self.line(place), &stretch, width),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, losses: &[f64]) -> NamedCurves {
        let point =
            |(epoch, loss): (u64, &f64)| EpochPoint { epoch, validation_loss: Some(*loss), ..EpochPoint::default() };
        NamedCurves { name: name.to_owned(), epochs: (1..).zip(losses).map(point).collect() }
    }

    #[test]
    fn two_runs_have_different_lines_and_names() {
        let plot =
            RunCurvesPlot { title: "t".to_owned(), runs: vec![run("one", &[2.0, 1.0]), run("two", &[3.0, 2.5, 2.25])] };
        let svg = plot.draw().file();
        for expected in [
            "<polyline class=\"hf-l0\"",
            "<polyline class=\"hf-l1\"",
            ">one</text>",
            ">two</text>",
            ">not measured</text>",
        ] {
            assert!(svg.contains(expected), "{expected}");
        }
        assert!(svg.contains("two: validation loss 2.250 after epoch 3."), "{svg}");
    }

    #[test]
    fn no_run_one_epoch_and_many_runs_can_be_drawn() {
        let many = (0..12).map(|place| run(&format!("trial-{place}"), &[1.0, f64::NAN, 0.5])).collect();
        for runs in [Vec::new(), vec![run("a", &[])], vec![run("a", &[1.0]), run("b", &[1.0])], many] {
            let svg = RunCurvesPlot { title: "t".to_owned(), runs }.draw().file();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
