//! Draws a confusion matrix.

use serde::{Deserialize, Serialize};

use super::svg::{Anchor, Svg, text_width};
use super::{Drawing, grouped};

const CELL_HEIGHT: f64 = 46.0;
/// The share from which a light text is more readable on the shade (or a dark text in dark mode).
const STRONG: f64 = 0.745;

/// Row counts by true and predicted class, in index order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrixPlot {
    /// The title.
    pub title: String,
    /// The classes in index order.
    pub classes: Vec<String>,
    /// Row counts by true class (row) and predicted class (column).
    pub counts: Vec<Vec<usize>>,
}

impl Drawing for ConfusionMatrixPlot {
    const PLOT: &'static str = "confusion_matrix";

    fn draw(&self) -> Svg {
        let columns = self.classes.len() as f64;
        let longest = self.classes.iter().map(|label| text_width(label, 13.0)).fold(0.0, f64::max);
        let largest = self.counts.iter().flatten().copied().max().unwrap_or(0);
        let cell = (18.0 + text_width(&grouped(largest as u64), 13.0)).max(72.0);
        let turned = longest > cell - 8.0;
        let left = 46.0 + longest.max(24.0);
        let top = if turned { 84.0 + longest } else { 88.0 };
        let totals: Vec<usize> = self.counts.iter().map(|row| row.iter().sum()).collect();
        let right = left + cell * columns;
        let bottom = top + CELL_HEIGHT * columns;
        let total_width = 16.0 + totals.iter().map(|n| text_width(&grouped(*n as u64), 13.0)).fold(34.0, f64::max);
        let width = right + total_width + 16.0;
        let mut svg = Svg::new(width, bottom + 64.0, &self.title, &self.describe(&totals));

        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        svg.text("hf-soft", ((left + right) / 2.0, 54.0), Anchor::Middle, "predicted class");
        svg.turned_text("hf-soft", (22.0, (top + bottom) / 2.0), Anchor::Middle, -90, "true class");
        svg.text("hf-soft hf-small", (right + total_width, top - 10.0), Anchor::End, "rows");
        for (i, label) in self.classes.iter().enumerate() {
            let x = left + cell * (i as f64 + 0.5);
            if turned {
                svg.turned_text("hf-ink hf-strong", (x + 4.0, top - 10.0), Anchor::Start, -90, label);
            } else {
                svg.text("hf-ink hf-strong", (x, top - 10.0), Anchor::Middle, label);
            }
        }
        for (i, (label, counts)) in self.classes.iter().zip(&self.counts).enumerate() {
            let y = top + CELL_HEIGHT * i as f64;
            svg.text("hf-ink hf-strong", (left - 10.0, y + CELL_HEIGHT / 2.0 + 4.5), Anchor::End, label);
            for (j, &count) in counts.iter().enumerate() {
                draw_cell(&mut svg, (left + cell * j as f64, y), cell, (count, totals[i]));
            }
            let total = grouped(totals[i] as u64);
            svg.text("hf-soft", (right + total_width, y + CELL_HEIGHT / 2.0 + 4.5), Anchor::End, &total);
        }
        draw_key(&mut svg, (left, bottom + 22.0));
        svg
    }
}

impl ConfusionMatrixPlot {
    fn describe(&self, totals: &[usize]) -> String {
        let right: usize = self.counts.iter().enumerate().filter_map(|(i, row)| row.get(i)).sum();
        let sentences: Vec<String> = self
            .classes
            .iter()
            .zip(&self.counts)
            .zip(totals)
            .map(|((label, row), total)| {
                let parts: Vec<String> = self
                    .classes
                    .iter()
                    .zip(row)
                    .filter(|(_, count)| **count > 0)
                    .map(|(predicted, count)| format!("{count} as {predicted}"))
                    .collect();
                format!(
                    "{total} rows of {label}: {}",
                    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
                )
            })
            .collect();
        format!(
            "Confusion matrix. {right} of {} rows are predicted right. {}.",
            totals.iter().sum::<usize>(),
            sentences.join("; ")
        )
    }
}

fn draw_cell(svg: &mut Svg, (x, y): (f64, f64), width: f64, (count, total): (usize, usize)) {
    let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
    let (corner, size) = ((x + 1.0, y + 1.0), (width - 2.0, CELL_HEIGHT - 2.0));
    svg.rect("hf-cell", corner, size, 1.0);
    if count == 0 {
        svg.text("hf-soft", (x + width / 2.0, y + CELL_HEIGHT / 2.0 + 4.5), Anchor::Middle, "0");
        return;
    }
    svg.rect("hf-shade", corner, size, share);
    let ink = if share < STRONG { "hf-low" } else { "hf-high" };
    svg.text(&format!("{ink} hf-strong"), (x + width / 2.0, y + 21.0), Anchor::Middle, &grouped(count as u64));
    svg.text(&format!("{ink} hf-small"), (x + width / 2.0, y + 36.0), Anchor::Middle, &percent(share));
}

fn percent(share: f64) -> String {
    if share < 0.1 { format!("{:.1} %", 100.0 * share) } else { format!("{:.0} %", 100.0 * share) }
}

fn draw_key(svg: &mut Svg, (x, y): (f64, f64)) {
    for step in 0..=4 {
        let corner = (x + 30.0 * f64::from(step), y);
        svg.rect("hf-cell", corner, (30.0, 12.0), 1.0);
        svg.rect("hf-shade", corner, (30.0, 12.0), f64::from(step) * 0.25);
    }
    svg.text("hf-soft hf-small", (x, y + 26.0), Anchor::Start, "0 %");
    svg.text("hf-soft hf-small", (x + 150.0, y + 26.0), Anchor::End, "100 %");
    svg.text("hf-soft hf-small", (x + 160.0, y + 10.0), Anchor::Start, "share of the true class");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_shares_are_labelled_and_described() {
        let plot = ConfusionMatrixPlot {
            title: "Test".to_owned(),
            classes: vec!["nv".to_owned(), "mel".to_owned(), "df".to_owned()],
            counts: vec![vec![1200, 40, 0], vec![3, 5, 0], vec![0, 0, 0]],
        };
        let svg = plot.draw().file();
        assert!(svg.contains(">1,200</text>") && svg.contains(">97 %</text>") && svg.contains(">3.2 %</text>"));
        assert!(svg.contains("1205 of 1248 rows are predicted right. 1240 rows of nv: 1200 as nv, 40 as mel; "));
        assert!(svg.contains("0 rows of df: none."));
    }
}
