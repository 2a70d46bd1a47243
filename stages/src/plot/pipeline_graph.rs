//! Draws the stages of a pipeline and what they read.

use hamflow_stage_api::layout::{Layout, Size, lay_out};
use serde::{Deserialize, Serialize};

use super::Drawing;
use super::svg::{Anchor, Svg, text_width};

const TOP: f64 = 30.0;
const BOX_HEIGHT: f64 = 34.0;
const FONT: f64 = 13.0;
/// Half the height of an arrow head.
const ARROW: f64 = 4.0;
/// The vertical distance of arrows that end at the same box.
const ARROW_GAP: f64 = 9.0;

/// Stages and their dependencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineGraphPlot {
    /// The title.
    pub title: String,
    /// The boxes.
    pub nodes: Vec<GraphNode>,
    /// The boxes that an arrow connects, from the one that is read to the reader.
    pub edges: Vec<(usize, usize)>,
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    /// The label.
    pub label: String,
    /// Whether it is an input from outside the pipeline.
    pub outside: bool,
}

impl Drawing for PipelineGraphPlot {
    const PLOT: &'static str = "pipeline_graph";

    fn draw(&self) -> Svg {
        let edges: Vec<(usize, usize)> =
            self.edges.iter().copied().filter(|(from, to)| from < to && *to < self.nodes.len()).collect();
        let size = |(place, node): (usize, &GraphNode)| {
            let incoming = edges.iter().filter(|(_, to)| *to == place).count();
            Size {
                width: (text_width(&node.label, FONT) + 24.0).ceil().max(60.0),
                height: BOX_HEIGHT.max((incoming + 1) as f64 * ARROW_GAP),
                late: node.outside,
            }
        };
        let sizes: Vec<Size> = self.nodes.iter().enumerate().map(size).collect();
        let layout = lay_out(&sizes, &edges);
        let mut svg = Svg::new(layout.width, layout.height + TOP, &self.title, &self.describe(&edges));
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        self.draw_edges(&mut svg, &layout);
        for (node, placed) in self.nodes.iter().zip(&layout.nodes) {
            let (width, top) = (placed.right - placed.left, TOP + placed.y - placed.height / 2.0);
            svg.rect(if node.outside { "hf-cell" } else { "hf-area" }, (placed.left, top), (width, placed.height), 1.0);
            let corners = [(placed.left, top), (placed.right, top), (placed.right, top + placed.height)];
            let outline: Vec<(f64, f64)> =
                corners.into_iter().chain([(placed.left, top + placed.height), corners[0]]).collect();
            svg.polyline(if node.outside { "hf-axis" } else { "hf-l0" }, &outline, 1.5);
            let class = if node.outside { "hf-soft" } else { "hf-ink hf-strong" };
            svg.text(class, ((placed.left + placed.right) / 2.0, TOP + placed.y + 4.5), Anchor::Middle, &node.label);
        }
        svg
    }
}

impl PipelineGraphPlot {
    fn describe(&self, edges: &[(usize, usize)]) -> String {
        let reads = |(place, node): (usize, &GraphNode)| {
            let read = edges.iter().filter(|(_, to)| *to == place).map(|(from, _)| &self.nodes[*from].label[..]);
            let read: Vec<&str> = read.collect();
            (!read.is_empty()).then(|| format!("{} reads {}.", node.label, read.join(", ")))
        };
        self.nodes.iter().enumerate().filter_map(reads).collect::<Vec<_>>().join(" ")
    }

    fn draw_edges(&self, svg: &mut Svg, layout: &Layout) {
        let boxes = self.nodes.len();
        for &(from, to) in &layout.segments {
            let (a, b) = (&layout.nodes[from], &layout.nodes[to]);
            let end = if to < boxes { end_at_box(layout, from, to) } else { b.y };
            let tip = if to < boxes { b.left - ARROW } else { b.left };
            let points = [(a.right, a.y), (layout.column_right[from], a.y), (tip, end), (b.left, end)];
            svg.polyline("hf-axis", &points.map(|(x, y)| (x, TOP + y)), 1.2);
            if to < boxes {
                let head = [(b.left, end), (b.left - 2.0 * ARROW, end - ARROW), (b.left - 2.0 * ARROW, end + ARROW)];
                svg.polygon("hf-soft", &head.map(|(x, y)| (x, TOP + y)), 1.0);
            }
        }
        // A waypoint is a straight line across its column.
        for (place, node) in layout.nodes.iter().enumerate().skip(boxes) {
            svg.line("hf-axis", (node.left, TOP + node.y), (layout.column_right[place], TOP + node.y));
        }
    }
}

/// Where the segment from `from` meets the box `to`: the arrows are spread over its left side, ordered by where they come from.
fn end_at_box(layout: &Layout, from: usize, to: usize) -> f64 {
    let mut sources: Vec<usize> =
        layout.segments.iter().filter(|(_, end)| *end == to).map(|(start, _)| *start).collect();
    sources.sort_by(|&a, &b| layout.nodes[a].y.total_cmp(&layout.nodes[b].y).then(a.cmp(&b)));
    let place = sources.iter().position(|source| *source == from).unwrap_or(0);
    let node = &layout.nodes[to];
    node.y - node.height / 2.0 + node.height / (sources.len() + 1) as f64 * (place + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_connected_and_described() {
        let node = |label: &str, outside| GraphNode { label: label.to_owned(), outside };
        let nodes = vec![node("<images>", true), node("train", false), node("report", false)];
        let svg = PipelineGraphPlot { title: "t".to_owned(), nodes, edges: vec![(0, 1), (1, 2), (0, 2)] }.draw().file();
        assert!(svg.contains("train reads &lt;images&gt;. report reads train, &lt;images&gt;."), "{svg}");
        assert_eq!(svg.matches("<polygon").count(), 3);
    }

    #[test]
    fn nothing_and_edges_that_do_not_exist_can_be_drawn() {
        let svg =
            PipelineGraphPlot { title: "t".to_owned(), nodes: Vec::new(), edges: vec![(0, 1), (3, 2)] }.draw().file();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
