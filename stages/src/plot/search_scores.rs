//! Draws the scores of a search by parameter.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Drawing;
use super::scale::{Scale, extent, tick_label, ticks};
use super::svg::{Anchor, Svg, shortened};

const PANEL_WIDTH: f64 = 250.0;
const PANEL_HEIGHT: f64 = 170.0;
const LEFT: f64 = 64.0;
const COLUMN: f64 = PANEL_WIDTH + 64.0;
const ROW: f64 = PANEL_HEIGHT + 74.0;
const TOP: f64 = 82.0;
const COLUMNS: usize = 3;
/// Up to so many distinct numbers are placed side by side, like names.
const FEW: usize = 6;

/// The score of each trial by the value of each searched parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchScoresPlot {
    /// The title.
    pub title: String,
    /// The name of the score.
    pub metric: String,
    /// Whether a higher score is better.
    pub higher_is_better: bool,
    /// The place of the best trial.
    pub best: Option<usize>,
    /// The score of each trial; `None` if it diverged.
    pub scores: Vec<Option<f64>>,
    /// The searched parameters.
    pub parameters: Vec<SearchedParameter>,
}

/// A searched parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchedParameter {
    /// The name.
    pub name: String,
    /// The value in each trial.
    pub values: Vec<Value>,
}

/// Where the values of a parameter are on the horizontal axis: the place of each trial, and labelled places.
struct Axis {
    places: Vec<Option<f64>>,
    labels: Vec<(f64, String)>,
}

impl Drawing for SearchScoresPlot {
    const PLOT: &'static str = "search_scores";

    fn draw(&self) -> Svg {
        let columns = self.parameters.len().clamp(1, COLUMNS);
        let rows = self.parameters.len().div_ceil(COLUMNS).max(1);
        let width = LEFT + COLUMN * columns as f64;
        let mut svg = Svg::new(width.max(420.0), TOP + ROW * rows as f64, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        svg.dot("hf-p1", (22.0, 41.0), 5.5);
        svg.text("hf-ink", (34.0, 45.5), Anchor::Start, "best trial");
        svg.dot("hf-p0", (124.0, 41.0), 4.0);
        svg.text("hf-ink", (134.0, 45.5), Anchor::Start, "other trials");
        if self.scores.contains(&None) {
            svg.text("hf-soft", (232.0, 45.5), Anchor::Start, "× diverged");
        }
        for (i, parameter) in self.parameters.iter().enumerate() {
            let corner = (LEFT + COLUMN * (i % COLUMNS) as f64, TOP + ROW * (i / COLUMNS) as f64);
            self.draw_panel(&mut svg, corner, parameter);
        }
        svg
    }
}

impl SearchScoresPlot {
    fn describe(&self) -> String {
        let names: Vec<&str> = self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let mut text = format!("The {} of {} trials by {}.", self.metric, self.scores.len(), names.join(", "));
        if let Some((best, score)) = self.best.and_then(|best| Some((best, self.scores.get(best).copied()??))) {
            let value = |parameter: &SearchedParameter| {
                format!("{} = {}", parameter.name, parameter.values.get(best).map(label).unwrap_or_default())
            };
            let values: Vec<String> = self.parameters.iter().map(value).collect();
            text.push_str(&format!(" The best trial has {} and {score:.3}.", values.join(", ")));
        }
        text
    }

    fn draw_panel(&self, svg: &mut Svg, (left, top): (f64, f64), parameter: &SearchedParameter) {
        let (right, bottom) = (left + PANEL_WIDTH, top + PANEL_HEIGHT);
        svg.text("hf-ink hf-strong", (left, top - 8.0), Anchor::Start, &parameter.name);
        svg.rect("hf-cell", (left, top), (PANEL_WIDTH, PANEL_HEIGHT), 1.0);
        let Some((low, high)) = extent(self.scores.iter().flatten().copied()) else {
            svg.text("hf-soft", ((left + right) / 2.0, (top + bottom) / 2.0), Anchor::Middle, "no scores");
            return;
        };
        let marks = ticks(low, high, 4);
        let y = Scale::new((marks[0], marks[marks.len() - 1]), (bottom - 8.0, top + 8.0));
        for &mark in &marks {
            svg.line("hf-grid", (left, y.at(mark)), (right, y.at(mark)));
            let label = tick_label(mark, marks[1] - marks[0]);
            svg.text("hf-soft hf-small", (left - 6.0, y.at(mark) + 4.0), Anchor::End, &label);
        }
        let axis = Axis::of(&parameter.values, (left + 22.0, right - 22.0));
        for (place, label) in &axis.labels {
            let width = 1.8 * (PANEL_WIDTH / axis.labels.len().max(2) as f64).min(*place - left + 22.0);
            svg.text("hf-soft hf-small", (*place, bottom + 16.0), Anchor::Middle, &shortened(label, 11.0, width));
        }
        let trials = || axis.places.iter().zip(&self.scores).enumerate();
        for (trial, (place, score)) in trials() {
            match (place, score) {
                (Some(place), Some(score)) if Some(trial) != self.best => svg.dot("hf-p0", (*place, y.at(*score)), 4.0),
                // At the bad end of the scale.
                (Some(place), None) => {
                    let y = if self.higher_is_better { bottom - 2.0 } else { top + 12.0 };
                    svg.text("hf-soft", (*place, y), Anchor::Middle, "×");
                }
                _ => {}
            }
        }
        // Last, so that no other dot hides it.
        let best = trials().find(|(trial, _)| Some(*trial) == self.best);
        if let Some((_, (Some(place), Some(score)))) = best {
            svg.dot("hf-p1", (*place, y.at(*score)), 5.5);
        }
    }
}

fn label(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Axis {
    /// Places values between two pixels: names and few numbers side by side, other numbers on a scale, which is logarithmic if
    /// they span more than two powers of ten.
    fn of(values: &[Value], range: (f64, f64)) -> Self {
        let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
        let mut distinct: Vec<&Value> = Vec::new();
        for value in values {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        match numbers {
            Some(numbers) if distinct.len() > FEW => Self::scaled(&numbers, range),
            numbers => {
                if numbers.is_some() {
                    distinct.sort_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
                }
                let x = Scale::new((0.0, distinct.len().saturating_sub(1) as f64), range);
                let place = |value: &Value| distinct.iter().position(|other| *other == value).map(|at| x.at(at as f64));
                let labels = distinct.iter().enumerate().map(|(at, value)| (x.at(at as f64), label(value)));
                Self { places: values.iter().map(place).collect(), labels: labels.collect() }
            }
        }
    }

    fn scaled(numbers: &[f64], range: (f64, f64)) -> Self {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > 0.0 && high / low > 100.0 {
            let x = Scale::new((libm::log10(low), libm::log10(high)), range);
            let powers = libm::ceil(libm::log10(low) - 1e-9) as i32..=libm::floor(libm::log10(high) + 1e-9) as i32;
            let labels = powers.map(|power| (x.at(f64::from(power)), format!("1e{power}"))).collect();
            return Self { places: numbers.iter().map(|number| Some(x.at(libm::log10(*number)))).collect(), labels };
        }
        let x = Scale::new((low, high), range);
        let marks = ticks(low, high, 3);
        let step = marks.get(1).map_or(1.0, |second| second - marks[0]);
        let within = marks.into_iter().filter(|mark| (low..=high).contains(mark));
        let labels = within.map(|mark| (x.at(mark), tick_label(mark, step))).collect();
        Self { places: numbers.iter().map(|number| Some(x.at(*number))).collect(), labels }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plot() -> SearchScoresPlot {
        SearchScoresPlot {
            title: "Scores".to_owned(),
            metric: "balanced accuracy".to_owned(),
            higher_is_better: true,
            best: Some(1),
            scores: vec![Some(0.5), Some(0.7), None],
            parameters: vec![
                SearchedParameter {
                    name: "optimiser".to_owned(),
                    values: vec![json!("sgd"), json!("adam"), json!("sgd")],
                },
                SearchedParameter {
                    name: "learning_rate".to_owned(),
                    values: vec![json!(0.01), json!(0.001), json!(1.0)],
                },
            ],
        }
    }

    #[test]
    fn the_best_trial_is_described_and_diverged_ones_are_marked() {
        let svg = plot().draw().file();
        assert!(svg.contains("The best trial has optimiser = adam, learning_rate = 0.001 and 0.700."), "{svg}");
        assert_eq!(svg.matches(">×</text>").count(), 2, "in both panels");
        assert!(svg.contains(">0.001</text>") && svg.contains(">adam</text>"));
    }

    #[test]
    fn many_numbers_over_powers_of_ten_have_a_logarithmic_axis() {
        let values: Vec<Value> = (0..9).map(|i| json!(1e-5 * f64::powi(4.0, i))).collect();
        let axis = Axis::of(&values, (0.0, 100.0));
        let labels: Vec<&str> = axis.labels.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["1e-5", "1e-4", "1e-3", "1e-2", "1e-1"]);
        let places: Vec<f64> = axis.places.into_iter().flatten().collect();
        assert!((places[4] - 50.0).abs() < 1e-9, "the middle of the powers is in the middle");
    }

    #[test]
    fn searches_without_scores_or_parameters_can_be_drawn() {
        let empty = SearchScoresPlot { best: None, scores: vec![None; 3], ..plot() };
        assert!(empty.draw().file().contains("no scores"));
        let svg = SearchScoresPlot { parameters: Vec::new(), ..plot() }.draw().file();
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
