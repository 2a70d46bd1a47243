//! Draws the number of rows per class and split.

use serde::{Deserialize, Serialize};

use super::bars::{Bar, Bars, Fills, draw};
use super::{Drawing, Svg, grouped};

/// Row counts per class and split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCountsPlot {
    /// The title.
    pub title: String,
    /// The classes in index order.
    pub classes: Vec<String>,
    /// The names of the splits.
    pub splits: Vec<String>,
    /// Row counts by class, then by split.
    pub counts: Vec<Vec<u64>>,
}

impl Drawing for ClassCountsPlot {
    const PLOT: &'static str = "class_counts";

    fn draw(&self) -> Svg {
        let totals: Vec<u64> =
            (0..self.splits.len()).map(|split| self.counts.iter().filter_map(|row| row.get(split)).sum()).collect();
        let bar = |count: &u64, total: u64| {
            let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
            Bar { value: Some(*count as f64), text: format!("{} ({:.1} %)", grouped(*count), 100.0 * share) }
        };
        let sentences: Vec<String> = self
            .classes
            .iter()
            .zip(&self.counts)
            .map(|(class, row)| {
                let parts: Vec<String> =
                    self.splits.iter().zip(row).map(|(split, count)| format!("{count} {split}")).collect();
                format!("{class}: {}", parts.join(", "))
            })
            .collect();
        draw(&Bars {
            title: &self.title,
            description: &format!("Bar chart of rows per class and split. {}.", sentences.join("; ")),
            axis: "rows (in brackets: share of the split)",
            groups: &self.classes,
            series: &self.splits.iter().map(String::as_str).collect::<Vec<_>>(),
            limit: None,
            fills: Fills::Series,
            bars: self.counts.iter().map(|row| row.iter().zip(&totals).map(|(c, t)| bar(c, *t)).collect()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_labelled_with_count_and_share() {
        let plot = ClassCountsPlot {
            title: "Classes".to_owned(),
            classes: vec!["nv".to_owned(), "mel".to_owned()],
            splits: vec!["train".to_owned(), "test".to_owned()],
            counts: vec![vec![4827, 1341], vec![801, 0]],
        };
        let svg = plot.draw().file();
        for text in ["4,827 (85.8 %)", "1,341 (100.0 %)", "801 (14.2 %)", "0 (0.0 %)", "nv: 4827 train, 1341 test;"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }
}
