//! Draws row counts by one value, or by two values.

use serde::{Deserialize, Serialize};

use super::bars::{Bar, Bars, Fills, draw};
use super::{Drawing, Svg, grouped};

/// Row counts by group and series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountBarsPlot {
    /// The title.
    pub title: String,
    /// The groups, from top to bottom.
    pub groups: Vec<String>,
    /// The series within each group, from top to bottom; a single one has no legend.
    pub series: Vec<String>,
    /// Row counts by group, then by series.
    pub counts: Vec<Vec<u64>>,
    /// Palette indices: of the groups if there is one series, otherwise of the series.
    pub colours: Vec<usize>,
}

impl Drawing for CountBarsPlot {
    const PLOT: &'static str = "count_bars";

    fn draw(&self) -> Svg {
        let total: u64 = self.counts.iter().flatten().sum();
        let bar = |count: &u64| {
            let share = *count as f64 / total.max(1) as f64;
            Bar { value: Some(*count as f64), text: format!("{} ({:.1} %)", grouped(*count), 100.0 * share) }
        };
        let sentence = |(group, row): (&String, &Vec<u64>)| {
            let part = |(series, count): (&String, &u64)| {
                if self.series.len() == 1 { grouped(*count) } else { format!("{} {series}", grouped(*count)) }
            };
            let parts: Vec<String> = self.series.iter().zip(row).map(part).collect();
            format!("{group}: {}", parts.join(", "))
        };
        let sentences: Vec<String> = self.groups.iter().zip(&self.counts).map(sentence).collect();
        draw(&Bars {
            title: &self.title,
            description: &format!("Bar chart. {}.", sentences.join("; ")),
            axis: "images (in brackets: share of all)",
            groups: &self.groups,
            series: &self.series.iter().map(String::as_str).collect::<Vec<_>>(),
            limit: None,
            fills: if self.series.len() == 1 { Fills::Groups(&self.colours) } else { Fills::Palette(&self.colours) },
            bars: self.counts.iter().map(|row| row.iter().map(bar).collect()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_a_count_and_every_group_a_colour() {
        let plot = CountBarsPlot {
            title: "Test".to_owned(),
            groups: vec!["Melanoma".to_owned(), "Nevi".to_owned()],
            series: vec!["images".to_owned()],
            counts: vec![vec![1113], vec![6705]],
            colours: vec![4, 5],
        };
        let svg = plot.draw().file();
        assert!(svg.contains(">1,113 (14.2 %)</text>") && svg.contains("Melanoma: 1,113; Nevi: 6,705."));
        assert!(svg.contains("class=\"hf-k4\"") && svg.contains("class=\"hf-k5\""));
        let by_sex = CountBarsPlot {
            series: vec!["female".to_owned(), "male".to_owned()],
            counts: vec![vec![1, 2], vec![3, 4]],
            colours: vec![0, 1],
            ..plot
        };
        let svg = by_sex.draw().file();
        assert!(svg.contains("Melanoma: 1 female, 2 male; Nevi: 3 female, 4 male.") && svg.contains(">female</text>"));
    }
}
