//! Draws columns of a table against each other.

use serde::{Deserialize, Serialize};

use super::scale::{Scale, extent, tick_label, ticks};
use super::svg::{Anchor, Svg, shortened, text_width};
use super::{Drawing, PALETTE};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 280.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_WIDTH: f64 = 280.0;

/// Columns of a table by another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnsPlot {
    /// The title.
    pub title: String,
    /// The label of the horizontal axis.
    pub x: String,
    /// The label of the vertical axis; may be empty.
    pub y: String,
    /// Whether points are connected, in their order.
    pub connected: bool,
    /// The columns.
    pub series: Vec<ColumnSeries>,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSeries {
    /// The name in the legend.
    pub name: String,
    /// The points; rows without a value are left out.
    pub points: Vec<(f64, f64)>,
}

/// The lines of the first two series; further ones are drawn with their colour of the palette.
const LINES: [&str; 2] = ["hf-l0", "hf-l1"];
const DOTS: [&str; 2] = ["hf-p0", "hf-p1"];

impl Drawing for ColumnsPlot {
    const PLOT: &'static str = "columns";

    fn draw(&self) -> Svg {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let (across, up) = (extent(all().map(|point| point.0)), extent(all().map(|point| point.1)));
        let marks = up.map(|(low, high)| ticks(low, high, 5)).unwrap_or_default();
        let step = if marks.len() > 1 { marks[1] - marks[0] } else { 1.0 };
        let labels: Vec<String> = marks.iter().map(|mark| tick_label(*mark, step)).collect();
        let longest = labels.iter().map(|label| text_width(label, 11.0)).fold(0.0, f64::max);
        let left = 24.0 + longest + if self.y.is_empty() { 0.0 } else { 22.0 };
        let top = 46.0 + LEGEND_ROW * self.series.len().div_ceil(2) as f64;
        let (right, bottom) = (left + WIDTH, top + HEIGHT);
        let mut svg = Svg::new(right + 24.0, bottom + 50.0, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        self.draw_legend(&mut svg);
        svg.text("hf-soft", (left + WIDTH / 2.0, bottom + 40.0), Anchor::Middle, &self.x);
        svg.turned_text("hf-soft", (18.0, top + HEIGHT / 2.0), Anchor::Middle, -90, &self.y);
        let Some(across) = across.filter(|_| !marks.is_empty()) else {
            svg.line("hf-axis", (left, bottom), (right, bottom));
            svg.text("hf-soft", (left + WIDTH / 2.0, top + HEIGHT / 2.0), Anchor::Middle, "no values");
            return svg;
        };
        let y = Scale::new((marks[0], marks[marks.len() - 1]), (bottom, top));
        for (mark, label) in marks.iter().zip(&labels) {
            svg.line("hf-grid", (left, y.at(*mark)), (right, y.at(*mark)));
            svg.text("hf-soft hf-small", (left - 8.0, y.at(*mark) + 4.0), Anchor::End, label);
        }
        svg.line("hf-axis", (left, bottom), (right, bottom));
        let x = Scale::new(across, (left + 10.0, right - 10.0));
        let steps = ticks(across.0, across.1, 8);
        let step = if steps.len() > 1 { steps[1] - steps[0] } else { 1.0 };
        for mark in steps.iter().filter(|mark| (across.0..=across.1).contains(*mark)) {
            svg.text("hf-soft hf-small", (x.at(*mark), bottom + 16.0), Anchor::Middle, &tick_label(*mark, step));
        }
        for (place, series) in self.series.iter().enumerate() {
            let points: Vec<(f64, f64)> = series.points.iter().map(|(a, b)| (x.at(*a), y.at(*b))).collect();
            self.draw_series(&mut svg, place, &points);
        }
        svg
    }
}

impl ColumnsPlot {
    fn describe(&self) -> String {
        let sentence = |series: &ColumnSeries| {
            let last = series.points.last().map_or("no values".to_owned(), |(x, y)| format!("{y} at {x}"));
            format!("{}: {} points, the last is {last}", series.name, series.points.len())
        };
        let all: Vec<String> = self.series.iter().map(sentence).collect();
        format!("By {}. {}.", self.x, all.join("; "))
    }

    fn dot(&self, place: usize) -> &'static str {
        if self.series.len() <= DOTS.len() { DOTS[place] } else { PALETTE[place % PALETTE.len()] }
    }

    fn draw_series(&self, svg: &mut Svg, place: usize, points: &[(f64, f64)]) {
        if !self.connected || points.len() == 1 {
            points.iter().for_each(|point| svg.dot(self.dot(place), *point, 3.0));
        } else if self.series.len() <= LINES.len() {
            svg.polyline(LINES[place], points, 2.0);
        } else {
            points.windows(2).for_each(|pair| svg.polygon(self.dot(place), &thick(pair[0], pair[1]), 1.0));
        }
    }

    fn draw_legend(&self, svg: &mut Svg) {
        for (place, series) in self.series.iter().enumerate() {
            let (column, row) = ((place % 2) as f64, (place / 2) as f64);
            let (x, y) = (16.0 + column * LEGEND_WIDTH, 41.0 + row * LEGEND_ROW);
            self.draw_series(svg, place, &[(x, y), (x + 28.0, y)]);
            svg.text("hf-ink", (x + 36.0, y + 4.5), Anchor::Start, &shortened(&series.name, 13.0, LEGEND_WIDTH - 46.0));
        }
    }
}

/// A line of two pixels as a polygon, since the palette has fills.
fn thick((x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> [(f64, f64); 4] {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = libm::sqrt(dx * dx + dy * dy).max(1e-9);
    let (nx, ny) = (-dy / length, dx / length);
    [(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(connected: bool, series: &[(&str, &[(f64, f64)])]) -> String {
        let series =
            series.iter().map(|(name, points)| ColumnSeries { name: (*name).to_owned(), points: points.to_vec() });
        let (title, x, y) = ("t".to_owned(), "epoch".to_owned(), "loss".to_owned());
        ColumnsPlot { title, x, y, connected, series: series.collect() }.draw().file()
    }

    #[test]
    fn lines_points_and_many_series_are_drawn() {
        let points = [(0.0, 1.0), (1.0, 0.5), (2.0, 0.25)];
        let lines = plot(true, &[("a", &points), ("b", &points)]);
        for expected in ["<polyline class=\"hf-l0\"", "<polyline class=\"hf-l1\"", ">epoch</text>", ">loss</text>"] {
            assert!(lines.contains(expected), "{expected}");
        }
        assert!(lines.contains("a: 3 points, the last is 0.25 at 2"), "{lines}");
        assert_eq!(plot(false, &[("a", &points)]).matches("<circle class=\"hf-p0\"").count(), 3 + 2);
        let many = plot(true, &[("a", &points), ("b", &points), ("c", &points)]);
        assert_eq!(many.matches("<polygon class=\"hf-k2\"").count(), 2 + 1);
    }

    #[test]
    fn nothing_and_one_value_can_be_drawn() {
        for series in [&[][..], &[("a", &[][..])], &[("a", &[(1.0, 1.0)])]] {
            let svg = plot(true, series);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
