//! Draws stacked histograms.

use serde::{Deserialize, Serialize};

use super::scale::{Scale, tick_label, ticks};
use super::svg::{Anchor, Svg, text_width};
use super::{Drawing, PALETTE, grouped};

const PLOT_WIDTH: f64 = 560.0;
const PLOT_HEIGHT: f64 = 260.0;
const LEFT: f64 = 72.0;
const LEGEND_LINE: f64 = 20.0;

/// Counts by bin and series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackedHistogramPlot {
    /// The title.
    pub title: String,
    /// The label of the horizontal axis.
    pub axis: String,
    /// The bin edges, one more than bins; bins include their lower edge, the last one also its upper edge.
    pub bounds: Vec<f64>,
    /// The series, from bottom to top.
    pub series: Vec<HistogramSeries>,
    /// The number of rows without a value.
    pub unknown: u64,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramSeries {
    /// The name, e.g. `female`.
    pub name: String,
    /// The palette index.
    pub colour: usize,
    /// Row counts by bin.
    pub counts: Vec<u64>,
}

impl Drawing for StackedHistogramPlot {
    const PLOT: &'static str = "stacked_histogram";

    fn draw(&self) -> Svg {
        let legend = self.legend();
        let top = 44.0 + LEGEND_LINE * legend.iter().map(|place| place.1 + 1).max().unwrap_or(0) as f64;
        let bottom = top + PLOT_HEIGHT;
        let width = LEFT + PLOT_WIDTH + 24.0;
        let mut svg = Svg::new(width, bottom + 56.0, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        for (series, (x, line)) in self.series.iter().zip(&legend) {
            let y = 48.0 + LEGEND_LINE * *line as f64;
            svg.rect(fill(series.colour), (*x, y - 10.0), (14.0, 11.0), 1.0);
            svg.text("hf-ink", (x + 20.0, y), Anchor::Start, &series.name);
        }
        let bins = self.bounds.len().saturating_sub(1);
        let height =
            |bin: usize| self.series.iter().map(|series| series.counts.get(bin).copied().unwrap_or(0)).sum::<u64>();
        let marks = ticks(0.0, (0..bins).map(height).max().unwrap_or(0).max(1) as f64, 5);
        let y = Scale::new((0.0, marks[marks.len() - 1]), (bottom, top));
        for &mark in &marks {
            svg.line("hf-grid", (LEFT, y.at(mark)), (LEFT + PLOT_WIDTH, y.at(mark)));
            let label = tick_label(mark, marks[1] - marks[0]);
            svg.text("hf-soft hf-small", (LEFT - 6.0, y.at(mark) + 4.0), Anchor::End, &label);
        }
        let (first, last) = (self.bounds.first().copied().unwrap_or(0.0), self.bounds.last().copied().unwrap_or(1.0));
        let x = Scale::new((first, last), (LEFT, LEFT + PLOT_WIDTH));
        for bin in 0..bins {
            let (left, right) = (x.at(self.bounds[bin]), x.at(self.bounds[bin + 1]));
            let mut below = 0;
            for series in &self.series {
                let count = series.counts.get(bin).copied().unwrap_or(0);
                if count > 0 {
                    // A gap in the background colour separates the series regardless of their colours.
                    let (from, to) = (y.at(below as f64), y.at((below + count) as f64));
                    let gap = if below > 0 && from - to > 2.0 { 1.0 } else { 0.0 };
                    svg.rect(fill(series.colour), (left + 0.5, to), (right - left - 1.0, from - to - gap), 1.0);
                    below += count;
                }
            }
        }
        let across = ticks(first, last, 9);
        let step = across.get(1).map_or(1.0, |second| second - across[0]);
        for mark in across.into_iter().filter(|mark| (first..=last).contains(mark)) {
            svg.text("hf-soft hf-small", (x.at(mark), bottom + 16.0), Anchor::Middle, &tick_label(mark, step));
        }
        svg.line("hf-axis", (LEFT, bottom), (LEFT + PLOT_WIDTH, bottom));
        let unknown = match self.unknown {
            0 => String::new(),
            count => format!(" ({} without)", grouped(count)),
        };
        let axis = format!("{}{unknown}", self.axis);
        svg.text("hf-soft", (LEFT + PLOT_WIDTH / 2.0, bottom + 40.0), Anchor::Middle, &axis);
        svg.turned_text("hf-soft", (18.0, top + PLOT_HEIGHT / 2.0), Anchor::Middle, -90, "images");
        svg
    }
}

fn fill(colour: usize) -> &'static str {
    PALETTE[colour % PALETTE.len()]
}

impl StackedHistogramPlot {
    /// The horizontal position and line of each legend entry. A single series has no legend.
    fn legend(&self) -> Vec<(f64, usize)> {
        if self.series.len() < 2 {
            return Vec::new();
        }
        let (mut x, mut line) = (16.0, 0);
        let place = |series: &HistogramSeries| {
            let width = text_width(&series.name, 13.0) + 40.0;
            if x + width > LEFT + PLOT_WIDTH + 24.0 && x > 16.0 {
                (x, line) = (16.0, line + 1);
            }
            x += width;
            (x - width, line)
        };
        self.series.iter().map(place).collect()
    }

    fn describe(&self) -> String {
        let sentence = |series: &HistogramSeries| {
            let total: u64 = series.counts.iter().sum();
            let most = series.counts.iter().enumerate().max_by_key(|(bin, count)| (**count, std::cmp::Reverse(*bin)));
            match most.filter(|(_, count)| **count > 0) {
                Some((bin, _)) => {
                    let (from, to) = (self.bounds[bin], self.bounds[bin + 1]);
                    format!("{}: {} images, most from {from:.0} to {to:.0}", series.name, grouped(total))
                }
                None => format!("{}: no images", series.name),
            }
        };
        let sentences: Vec<String> = self.series.iter().map(sentence).collect();
        format!("Histogram over {}. {}.", self.axis, sentences.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_stacked_and_unknown_rows_are_counted() {
        let series = |name: &str, colour, counts: [u64; 2]| HistogramSeries {
            name: name.to_owned(),
            colour,
            counts: counts.to_vec(),
        };
        let plot = StackedHistogramPlot {
            title: "Test".to_owned(),
            axis: "age in years".to_owned(),
            bounds: vec![0.0, 50.0, 100.0],
            series: vec![series("female", 0, [10, 30]), series("male", 1, [20, 0])],
            unknown: 57,
        };
        let svg = plot.draw().file();
        assert_eq!(svg.matches("<rect class=\"hf-k").count(), 2 + 3, "two of the legend, three layers");
        assert!(svg.contains("age in years (57 without)") && svg.contains("female: 40 images, most from 50 to 100"));
        let empty = StackedHistogramPlot { series: Vec::new(), bounds: Vec::new(), ..plot };
        assert!(empty.draw().file().contains("</svg>"));
    }
}
