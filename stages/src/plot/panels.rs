//! A grid of square panels, one per class, each with a curve between 0 and 1.

use super::scale::Scale;
use super::svg::{Anchor, Svg};

const PANEL: f64 = 168.0;
const COLUMN: f64 = PANEL + 44.0;
const ROW: f64 = PANEL + 74.0;
const COLUMNS: usize = 4;
const TOP: f64 = 40.0;

/// The content of the grid.
pub struct Panels<'a> {
    /// The title.
    pub title: &'a str,
    /// The description for screen readers.
    pub description: &'a str,
    /// The labels of the horizontal and vertical axes.
    pub axes: [&'a str; 2],
    /// The panels, row by row.
    pub panels: Vec<Panel<'a>>,
}

/// One panel.
pub struct Panel<'a> {
    /// The label above it on the left.
    pub label: &'a str,
    /// The note above it on the right.
    pub note: String,
    /// The curve, or the reason why there is none.
    pub curve: Result<Curve, &'a str>,
}

/// A curve.
pub struct Curve {
    /// The points, between 0 and 1.
    pub points: Vec<(f64, f64)>,
    /// The end points of the chance line.
    pub chance: [(f64, f64); 2],
    /// A text in a right corner: the lower one, unless the curve is there.
    pub text: String,
}

/// Draws the panels.
pub fn draw(chart: &Panels<'_>) -> Svg {
    let columns = chart.panels.len().clamp(1, COLUMNS);
    let rows = chart.panels.len().div_ceil(COLUMNS).max(1);
    let width = 24.0 + COLUMN * columns as f64;
    let mut svg = Svg::new(width, TOP + ROW * rows as f64 + 4.0, chart.title, chart.description);
    svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, chart.title);
    for (i, panel) in chart.panels.iter().enumerate() {
        let corner = (48.0 + COLUMN * (i % COLUMNS) as f64, TOP + 30.0 + ROW * (i / COLUMNS) as f64);
        draw_panel(&mut svg, corner, chart.axes, panel);
    }
    svg
}

fn draw_panel(svg: &mut Svg, (left, top): (f64, f64), [across, up]: [&str; 2], panel: &Panel<'_>) {
    let x = Scale::new((0.0, 1.0), (left, left + PANEL));
    let y = Scale::new((0.0, 1.0), (top + PANEL, top));
    svg.text("hf-ink hf-strong", (left, top - 8.0), Anchor::Start, panel.label);
    svg.text("hf-soft hf-small", (left + PANEL, top - 8.0), Anchor::End, &panel.note);
    svg.rect("hf-cell", (left, top), (PANEL, PANEL), 1.0);
    for mark in [0.0, 0.5, 1.0] {
        svg.line("hf-grid", (x.at(mark), top), (x.at(mark), top + PANEL));
        svg.line("hf-grid", (left, y.at(mark)), (left + PANEL, y.at(mark)));
        let label = mark.to_string();
        svg.text("hf-soft hf-small", (x.at(mark), top + PANEL + 14.0), Anchor::Middle, &label);
        svg.text("hf-soft hf-small", (left - 6.0, y.at(mark) + 4.0), Anchor::End, &label);
    }
    svg.text("hf-soft hf-small", (left + PANEL / 2.0, top + PANEL + 29.0), Anchor::Middle, across);
    svg.turned_text("hf-soft hf-small", (left - 26.0, top + PANEL / 2.0), Anchor::Middle, -90, up);
    match &panel.curve {
        Ok(Curve { points, chance: [from, to], text }) => {
            let at = |(a, b): &(f64, f64)| (x.at(*a), y.at(*b));
            svg.line("hf-mark", at(from), at(to));
            let points: Vec<(f64, f64)> = points.iter().map(at).collect();
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                let mut outline = vec![(first.0, y.at(0.0))];
                outline.extend(&points);
                outline.push((last.0, y.at(0.0)));
                svg.polygon("hf-area", &outline, 1.0);
            }
            svg.polyline("hf-l0", &points, 2.0);
            let in_corner = points.iter().any(|(across, up)| *across > x.at(0.4) && *up > y.at(0.3));
            let below = if in_corner { top + 18.0 } else { top + PANEL - 10.0 };
            svg.text("hf-ink hf-strong", (left + PANEL - 8.0, below), Anchor::End, text);
        }
        Err(reason) => {
            svg.text("hf-soft", (left + PANEL / 2.0, top + PANEL / 2.0 - 8.0), Anchor::Middle, "undefined");
            svg.text("hf-soft hf-small", (left + PANEL / 2.0, top + PANEL / 2.0 + 12.0), Anchor::Middle, reason);
        }
    }
}
