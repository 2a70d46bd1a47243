//! Grouped horizontal bar charts with a label at the end of each bar.

use super::PALETTE;
use super::scale::{Scale, tick_label, ticks};
use super::svg::{Anchor, Svg, text_width};

const BAR: f64 = 17.0;
const GROUP_GAP: f64 = 12.0;
const PLOT_WIDTH: f64 = 480.0;
const TOP: f64 = 62.0;

/// A bar with its label.
pub struct Bar {
    /// The value; `None` if undefined.
    pub value: Option<f64>,
    /// The label.
    pub text: String,
}

/// The content of a bar chart.
pub struct Bars<'a> {
    /// The title.
    pub title: &'a str,
    /// The description for screen readers.
    pub description: &'a str,
    /// The label of the value axis.
    pub axis: &'a str,
    /// The group names, from top to bottom.
    pub groups: &'a [String],
    /// The series names within each group, from top to bottom.
    pub series: &'a [&'a str],
    /// The maximum of the axis, if fixed.
    pub limit: Option<f64>,
    /// How bars are coloured.
    pub fills: Fills<'a>,
    /// The bars by group, then by series.
    pub bars: Vec<Vec<Bar>>,
}

/// How bars are coloured.
#[derive(Debug, Clone, Copy)]
pub enum Fills<'a> {
    /// By series, at most three.
    Series,
    /// By series, as indices into [`PALETTE`].
    Palette(&'a [usize]),
    /// By group, as indices into [`PALETTE`].
    Groups(&'a [usize]),
}

impl Fills<'_> {
    fn of(self, group: usize, series: usize) -> &'static str {
        let of_palette =
            |colours: &[usize], place: usize| PALETTE[colours.get(place).copied().unwrap_or(place) % PALETTE.len()];
        match self {
            Self::Series => ["hf-f0", "hf-f1", "hf-f2"][series % 3],
            Self::Palette(colours) => of_palette(colours, series),
            Self::Groups(colours) => of_palette(colours, group),
        }
    }
}

/// Draws a bar chart.
pub fn draw(chart: &Bars<'_>) -> Svg {
    let left = 24.0 + chart.groups.iter().map(|label| text_width(label, 13.0)).fold(30.0, f64::max);
    let longest = chart.bars.iter().flatten().map(|bar| text_width(&bar.text, 11.0)).fold(0.0, f64::max);
    let group_height = BAR * chart.series.len() as f64 + GROUP_GAP;
    let bottom = TOP + group_height * chart.groups.len() as f64;
    let legend: f64 = chart.series.iter().map(|name| text_width(name, 13.0) + 40.0).sum();
    let right = (left + PLOT_WIDTH).max(16.0 + legend);
    let width = right + longest + 24.0;
    let mut svg = Svg::new(width, bottom + 52.0, chart.title, chart.description);
    svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, chart.title);
    if chart.series.len() > 1 {
        legend_row(&mut svg, chart.series, chart.fills, 16.0, 48.0);
    }

    let largest = chart.bars.iter().flatten().filter_map(|bar| bar.value).fold(0.0, f64::max);
    let marks = ticks(0.0, chart.limit.unwrap_or(largest), 5);
    let end = chart.limit.unwrap_or(marks[marks.len() - 1]);
    let scale = Scale::new((0.0, end), (left, left + PLOT_WIDTH));
    for &mark in &marks {
        let x = scale.at(mark);
        svg.line("hf-grid", (x, TOP), (x, bottom));
        svg.text("hf-soft hf-small", (x, bottom + 16.0), Anchor::Middle, &tick_label(mark, marks[1] - marks[0]));
    }
    svg.text("hf-soft", (left + PLOT_WIDTH / 2.0, bottom + 38.0), Anchor::Middle, chart.axis);
    for (row, (label, bars)) in chart.groups.iter().zip(&chart.bars).enumerate() {
        let top = TOP + group_height * row as f64 + GROUP_GAP / 2.0;
        let middle = top + BAR * chart.series.len() as f64 / 2.0;
        svg.text("hf-ink", (left - 10.0, middle + 4.5), Anchor::End, label);
        for (i, bar) in bars.iter().enumerate() {
            let y = top + BAR * i as f64;
            let x = scale.at(bar.value.unwrap_or(0.0));
            svg.rect(chart.fills.of(row, i), (left, y + 1.5), (x - left, BAR - 3.0), 1.0);
            svg.text("hf-ink hf-small", (x + 6.0, y + BAR / 2.0 + 4.0), Anchor::Start, &bar.text);
        }
    }
    svg.line("hf-axis", (left, TOP), (left, bottom));
    svg
}

fn legend_row(svg: &mut Svg, series: &[&str], fills: Fills<'_>, mut x: f64, y: f64) {
    for (i, name) in series.iter().enumerate() {
        svg.rect(fills.of(0, i), (x, y - 10.0), (14.0, 11.0), 1.0);
        svg.text("hf-ink", (x + 20.0, y), Anchor::Start, name);
        x += text_width(name, 13.0) + 40.0;
    }
}
