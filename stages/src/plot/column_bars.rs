//! Draws columns of a table as bars, a group for each row.

use serde::{Deserialize, Serialize};

use super::bars::{Bar, Bars, Fills, draw};
use super::{Drawing, Svg};

/// Numbers by row and column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnBarsPlot {
    /// The title.
    pub title: String,
    /// The label of the value axis.
    pub axis: String,
    /// The rows, from top to bottom.
    pub groups: Vec<String>,
    /// The columns, from top to bottom within each row.
    pub series: Vec<String>,
    /// The numbers by row, then by column.
    pub values: Vec<Vec<Option<f64>>>,
}

impl Drawing for ColumnBarsPlot {
    const PLOT: &'static str = "column_bars";

    fn draw(&self) -> Svg {
        let text = |value: &Option<f64>| value.map_or("no value".to_owned(), short);
        let sentence = |(group, row): (&String, &Vec<Option<f64>>)| {
            let parts: Vec<String> =
                self.series.iter().zip(row).map(|(series, value)| format!("{series} {}", text(value))).collect();
            format!("{group}: {}", parts.join(", "))
        };
        let sentences: Vec<String> = self.groups.iter().zip(&self.values).map(sentence).collect();
        let colours: Vec<usize> = (0..self.series.len()).collect();
        draw(&Bars {
            title: &self.title,
            description: &format!("Bar chart. {}.", sentences.join("; ")),
            axis: &self.axis,
            groups: &self.groups,
            series: &self.series.iter().map(String::as_str).collect::<Vec<_>>(),
            limit: None,
            fills: if self.series.len() <= 3 { Fills::Series } else { Fills::Palette(&colours) },
            bars: self
                .values
                .iter()
                .map(|row| row.iter().map(|value| Bar { value: *value, text: text(value) }).collect())
                .collect(),
        })
    }
}

/// A number with up to four significant digits behind the point.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { libm::floor(libm::log10(value.abs())) };
    let decimals = (3.0 - digits).clamp(0.0, 12.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_a_bar_with_its_number() {
        let plot = ColumnBarsPlot {
            title: "t".to_owned(),
            axis: "seconds".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            series: vec!["x".to_owned(), "y".to_owned()],
            values: vec![vec![Some(1.5), Some(2.0)], vec![None, Some(1.0 / 7.0)]],
        };
        let svg = plot.draw().file();
        for expected in [">1.5</text>", ">2</text>", ">no value</text>", ">0.1429</text>", ">seconds</text>"] {
            assert!(svg.contains(expected), "{expected}: {svg}");
        }
        assert!(svg.contains("a: x 1.5, y 2; b: x no value, y 0.1429."), "{svg}");
    }
}
