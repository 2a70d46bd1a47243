//! Draws one metric for each subgroup with its confidence interval.

use serde::{Deserialize, Serialize};

use super::scale::{Scale, tick_label, ticks};
use super::svg::{Anchor, Svg, text_width};
use super::{Drawing, grouped};

const LINE: f64 = 22.0;
const HEADING: f64 = 30.0;
const PLOT_WIDTH: f64 = 420.0;
const TOP: f64 = 66.0;

/// One metric by attribute and subgroup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubgroupsPlot {
    /// The title.
    pub title: String,
    /// The metric's display name.
    pub metric: String,
    /// The metric over all rows; `None` if undefined.
    pub overall: Option<f64>,
    /// The attributes.
    pub attributes: Vec<AttributeParts>,
}

/// The subgroups of one attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeParts {
    /// The attribute, e.g. `sex`.
    pub name: String,
    /// The subgroups, in display order.
    pub parts: Vec<Part>,
}

/// A subgroup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The attribute's value, e.g. `female`.
    pub name: String,
    /// The number of rows.
    pub rows: usize,
    /// The metric; `None` if undefined.
    pub value: Option<f64>,
    /// The bounds of its 95 % confidence interval.
    pub interval: Option<[f64; 2]>,
}

impl Drawing for SubgroupsPlot {
    const PLOT: &'static str = "subgroups";

    fn draw(&self) -> Svg {
        let parts = || self.attributes.iter().flat_map(|attribute| &attribute.parts);
        let label = |part: &Part| format!("{} ({})", part.name, grouped(part.rows as u64));
        let left = 28.0 + parts().map(|part| text_width(&label(part), 13.0)).fold(60.0, f64::max);
        let headings = HEADING * self.attributes.len() as f64;
        let bottom = TOP + headings + LINE * parts().count() as f64 + 6.0;
        let width = left + PLOT_WIDTH + 150.0;
        let mut svg = Svg::new(width, bottom + 52.0, &self.title, &self.describe());
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        let overall = self.overall.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
        let note = format!("dots with their 95 % intervals; dashed: all rows, {overall}; in brackets: rows");
        svg.text("hf-soft hf-small", (16.0, 44.0), Anchor::Start, &note);
        let marks = ticks(0.0, 1.0, 5);
        let x = Scale::new((0.0, 1.0), (left, left + PLOT_WIDTH));
        for &mark in &marks {
            svg.line("hf-grid", (x.at(mark), TOP), (x.at(mark), bottom));
            svg.text("hf-soft hf-small", (x.at(mark), bottom + 16.0), Anchor::Middle, &tick_label(mark, 0.2));
        }
        svg.text("hf-soft", (left + PLOT_WIDTH / 2.0, bottom + 38.0), Anchor::Middle, &self.metric);
        if let Some(overall) = self.overall {
            svg.line("hf-mark", (x.at(overall), TOP), (x.at(overall), bottom));
        }
        let mut y = TOP;
        for attribute in &self.attributes {
            svg.text("hf-ink hf-strong", (16.0, y + HEADING - 10.0), Anchor::Start, &attribute.name);
            y += HEADING;
            for part in &attribute.parts {
                draw_part(&mut svg, (left, y), x, &label(part), part);
                y += LINE;
            }
        }
        svg.line("hf-axis", (left, TOP), (left, bottom));
        svg
    }
}

fn draw_part(svg: &mut Svg, (left, y): (f64, f64), x: Scale, label: &str, part: &Part) {
    let middle = y + LINE / 2.0;
    svg.text("hf-ink", (left - 10.0, middle + 4.5), Anchor::End, label);
    let Some(value) = part.value else {
        return svg.text("hf-soft hf-small", (left + 8.0, middle + 4.0), Anchor::Start, "undefined");
    };
    let mut text = format!("{value:.3}");
    if let Some([low, high]) = part.interval {
        svg.polyline("hf-l0", &[(x.at(low), middle), (x.at(high), middle)], 2.0);
        text.push_str(&format!("  {low:.2} to {high:.2}"));
    }
    svg.dot("hf-p0", (x.at(value), middle), 4.5);
    svg.text("hf-soft hf-small", (left + PLOT_WIDTH + 12.0, middle + 4.0), Anchor::Start, &text);
}

impl SubgroupsPlot {
    fn describe(&self) -> String {
        let part = |part: &Part| {
            let value = part.value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
            let interval = part.interval.map_or(String::new(), |[low, high]| format!(" ({low:.3} to {high:.3})"));
            format!("{} {value}{interval}", part.name)
        };
        let attribute = |attribute: &AttributeParts| {
            let parts: Vec<String> = attribute.parts.iter().map(part).collect();
            format!("{}: {}", attribute.name, parts.join(", "))
        };
        let attributes: Vec<String> = self.attributes.iter().map(attribute).collect();
        format!("{} of parts of the rows. {}.", self.metric, attributes.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subgroup_has_its_value_interval_and_rows() {
        let part = |name: &str, value, interval| Part { name: name.to_owned(), rows: 1200, value, interval };
        let parts = vec![part("female", Some(0.5), Some([0.45, 0.55])), part("unknown", None, None)];
        let plot = SubgroupsPlot {
            title: "Test".to_owned(),
            metric: "Accuracy".to_owned(),
            overall: Some(0.52),
            attributes: vec![AttributeParts { name: "sex".to_owned(), parts }],
        };
        let svg = plot.draw().file();
        assert!(svg.contains(">0.500  0.45 to 0.55</text>") && svg.contains(">female (1,200)</text>"));
        assert!(
            svg.contains(">undefined</text>") && svg.contains("sex: female 0.500 (0.450 to 0.550), unknown undefined.")
        );
    }
}
