//! Draws the scores of a search over the epochs.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::scale::{Scale, extent, tick_label, ticks};
use super::svg::{Anchor, Svg};

const LEFT: f64 = 64.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
const TOP: f64 = 66.0;

/// The score of each trial after each epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchCurvesPlot {
    /// The title.
    pub title: String,
    /// The name of the score.
    pub metric: String,
    /// The place of the best trial.
    pub best: Option<usize>,
    /// For each trial, its scores from the first epoch; `None` where undefined.
    pub curves: Vec<Vec<Option<f64>>>,
    /// The epochs after which trials were compared.
    pub budgets: Vec<usize>,
}

impl Drawing for SearchCurvesPlot {
    const PLOT: &'static str = "search_curves";

    fn draw(&self) -> Svg {
        let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
        let mut svg = Svg::new(right + 24.0, bottom + 48.0, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        svg.polyline("hf-l1", &[(16.0, 41.0), (44.0, 41.0)], 3.0);
        svg.text("hf-ink", (50.0, 45.5), Anchor::Start, "best trial");
        svg.polyline("hf-axis", &[(140.0, 41.0), (168.0, 41.0)], 1.5);
        svg.text("hf-ink", (174.0, 45.5), Anchor::Start, "other trials");
        let Some((low, high)) = extent(self.curves.iter().flatten().flatten().copied()) else {
            svg.text("hf-soft", (LEFT + WIDTH / 2.0, TOP + HEIGHT / 2.0), Anchor::Middle, "no scores");
            return svg;
        };
        let marks = ticks(low, high, 5);
        let y = Scale::new((marks[0], marks[marks.len() - 1]), (bottom, TOP));
        for &mark in &marks {
            svg.line("hf-grid", (LEFT, y.at(mark)), (right, y.at(mark)));
            let label = tick_label(mark, marks[1] - marks[0]);
            svg.text("hf-soft hf-small", (LEFT - 8.0, y.at(mark) + 4.0), Anchor::End, &label);
        }
        let longest = self.curves.iter().map(Vec::len).max().unwrap_or(1);
        let x = Scale::new((1.0, longest as f64), (LEFT + 10.0, right - 10.0));
        for budget in self.budgets.iter().filter(|budget| **budget < longest) {
            svg.line("hf-mark", (x.at(*budget as f64), TOP), (x.at(*budget as f64), bottom));
        }
        let step = ticks(0.0, longest as f64, 10).get(1).copied().unwrap_or(1.0).max(1.0) as usize;
        for epoch in (1..=longest).filter(|epoch| longest < 3 || epoch.is_multiple_of(step)) {
            svg.text("hf-soft hf-small", (x.at(epoch as f64), bottom + 16.0), Anchor::Middle, &epoch.to_string());
        }
        svg.text("hf-soft", (LEFT + WIDTH / 2.0, bottom + 38.0), Anchor::Middle, "epoch");
        let is_best = |place: &usize| Some(*place) == self.best;
        // The best one last, so that no other line hides it.
        let order = (0..self.curves.len()).filter(|place| !is_best(place)).chain(self.best);
        for place in order {
            let Some(curve) = self.curves.get(place) else { continue };
            let points =
                curve.iter().zip(1..).map(|(score, epoch)| score.map(|score| (x.at(f64::from(epoch)), y.at(score))));
            draw_curve(&mut svg, is_best(&place), &points.collect::<Vec<_>>());
        }
        svg
    }
}

/// Draws the stretches between undefined scores; a single score is a dot.
fn draw_curve(svg: &mut Svg, is_best: bool, points: &[Option<(f64, f64)>]) {
    for stretch in points.split(Option::is_none) {
        let stretch: Vec<(f64, f64)> = stretch.iter().flatten().copied().collect();
        match (&stretch[..], is_best) {
            ([], _) => {}
            ([one], _) => svg.dot(if is_best { "hf-p1" } else { "hf-p0" }, *one, 3.5),
            (_, true) => svg.polyline("hf-l1", &stretch, 3.0),
            (_, false) => svg.polyline("hf-axis", &stretch, 1.5),
        }
    }
}

impl SearchCurvesPlot {
    fn describe(&self) -> String {
        let last = self.best.and_then(|best| self.curves.get(best)?.iter().flatten().last());
        let mut text = format!("The {} of {} trials over the epochs.", self.metric, self.curves.len());
        if let Some(last) = last {
            text.push_str(&format!(" The best trial ends at {last:.3}."));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(curves: Vec<Vec<Option<f64>>>) -> String {
        let (title, metric) = ("Curves".to_owned(), "accuracy".to_owned());
        SearchCurvesPlot { title, metric, best: Some(0), curves, budgets: vec![1, 3] }.draw().file()
    }

    #[test]
    fn the_best_curve_is_drawn_last_and_described() {
        let svg = plot(vec![vec![Some(0.1), Some(0.4), Some(0.6)], vec![Some(0.2), Some(0.3)]]);
        assert!(svg.contains("The best trial ends at 0.600."));
        let place = |class: &str| svg.rfind(&format!("<polyline class=\"{class}\"")).unwrap();
        assert!(place("hf-axis") < place("hf-l1"));
    }

    #[test]
    fn empty_single_and_undefined_scores_can_be_drawn() {
        for curves in [Vec::new(), vec![vec![Some(0.5)]], vec![vec![None, Some(0.5), None, Some(0.6)], Vec::new()]] {
            let svg = plot(curves);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
