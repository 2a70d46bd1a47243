//! Renders the graph as a self-contained SVG image.

use std::collections::BTreeMap;
use std::fmt::Write;

use hamflow_stage_api::layout::{Layout, Placed, Size, lay_out};
use hamflow_stage_api::svg::{self, escape};

use super::{Scene, SceneNode, colours};

/// The width of a monospaced character relative to the font size (DejaVu Sans Mono: 0.602, others less).
const ADVANCE: f64 = 0.61;
const NAME_SIZE: f64 = 13.0;
const SMALL_SIZE: f64 = 11.0;
const PADDING: f64 = 10.0;
const LINE: f64 = 16.0;
const ARROW_GAP: f64 = 9.0;
/// Longer texts are truncated; the tooltip has the full text.
const MAX_NAME_COLUMNS: usize = 44;
const MAX_LINE_COLUMNS: usize = 36;

/// A line of text in a box.
struct Line {
    text: String,
    size: f64,
    class: &'static str,
}

pub(super) fn svg(title: &str, scene: &Scene) -> String {
    let boxes: Vec<Vec<Line>> = scene.nodes.iter().map(lines).collect();
    let edges: Vec<(usize, usize)> = scene.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let mut sizes: Vec<Size> = scene.nodes.iter().zip(&boxes).map(|(node, lines)| size(node, lines)).collect();
    for (node, size) in sizes.iter_mut().enumerate() {
        // Leave room between the arrows that end at the same box.
        let incoming = edges.iter().filter(|(_, to)| *to == node).count();
        size.height = size.height.max((incoming + 1) as f64 * ARROW_GAP);
    }
    let layout = lay_out(&sizes, &edges);
    let mut text = header(title, &layout);
    let ends = arrow_ends(&layout, scene.nodes.len());
    for &(from, to) in &layout.segments {
        let end = ends.get(&(from, to)).copied();
        push(
            &mut text,
            format_args!("  <path class=\"edge\" d=\"{}\"{}/>\n", curve(&layout, from, to, end), marker(end)),
        );
    }
    // A waypoint is a straight line across its column.
    for (at, node) in layout.nodes.iter().enumerate().skip(scene.nodes.len()) {
        let (left, right, y) = (number(node.left), number(layout.column_right[at]), number(node.y));
        push(&mut text, format_args!("  <path class=\"edge\" d=\"M{left} {y}H{right}\"/>\n"));
    }
    for ((node, lines), placed) in scene.nodes.iter().zip(&boxes).zip(&layout.nodes) {
        draw_box(&mut text, node, lines, placed);
    }
    text.push_str("</svg>\n");
    text
}

fn header(title: &str, layout: &Layout) -> String {
    let (width, height) = (number(layout.width), number(layout.height));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\">\n  <title>{title}</title>\n  <style>\n    \
         text {{ font-family: \"DejaVu Sans Mono\", Menlo, Consolas, \"Liberation Mono\", monospace; fill: #1c2030 }}\n    \
         .name {{ font-weight: bold }}\n    .quiet {{ fill: #4a5060 }}\n    \
         .edge {{ fill: none; stroke: #8a90a0; stroke-width: 1.5 }}\n  </style>\n  <defs>\n    \
         <marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#8a90a0\"/></marker>\n  \
         </defs>\n  <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        title = escape(title),
    )
}

/// The lines of text in a box.
fn lines(node: &SceneNode) -> Vec<Line> {
    let mut lines = vec![Line {
        text: cut(&node.name, MAX_NAME_COLUMNS),
        size: if node.is_outside() { SMALL_SIZE } else { NAME_SIZE },
        class: if node.is_outside() { "quiet" } else { "name" },
    }];
    let kind = node.kind.as_deref().filter(|kind| *kind != node.name);
    for (text, class) in [(kind, "quiet"), (node.status.as_deref(), "status"), (node.reason.as_deref(), "quiet")] {
        lines.extend(text.map(|text| Line { text: cut(text, MAX_LINE_COLUMNS), size: SMALL_SIZE, class }));
    }
    lines
}

fn cut(text: &str, most: usize) -> String {
    let text = text.replace('\n', " ");
    if columns(&text) <= most {
        return text;
    }
    let mut kept = String::new();
    for c in text.chars() {
        if columns(&kept) + 2 >= most {
            break;
        }
        kept.push(c);
    }
    kept.trim_end().to_owned() + "…"
}

/// The number of columns of a text. Characters outside of Latin, Greek and Cyrillic count as wide.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if u32::from(c) < 0x1100 || c == '…' { 1 } else { 2 }).sum()
}

fn size(node: &SceneNode, lines: &[Line]) -> Size {
    let widest = lines.iter().map(|line| columns(&line.text) as f64 * line.size * ADVANCE).fold(0.0, f64::max);
    let width = (widest + 2.0 * PADDING).ceil().max(72.0);
    Size { width, height: lines.len() as f64 * LINE + PADDING, late: node.is_outside() }
}

/// Where edges meet a box: spread over its left side, ordered by where they come from.
fn arrow_ends(layout: &Layout, boxes: usize) -> BTreeMap<(usize, usize), f64> {
    let mut incoming: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(from, to) in layout.segments.iter().filter(|(_, to)| *to < boxes) {
        incoming.entry(to).or_default().push(from);
    }
    let mut ends = BTreeMap::new();
    for (to, mut sources) in incoming {
        sources.sort_by(|&a, &b| layout.nodes[a].y.total_cmp(&layout.nodes[b].y).then(a.cmp(&b)));
        let node = &layout.nodes[to];
        let step = node.height / (sources.len() + 1) as f64;
        for (at, from) in sources.into_iter().enumerate() {
            ends.insert((from, to), node.y - node.height / 2.0 + step * (at + 1) as f64);
        }
    }
    ends
}

/// A straight line from a node to the end of its column, then a curve across the gap.
fn curve(layout: &Layout, from: usize, to: usize, end: Option<f64>) -> String {
    let (a, b) = (&layout.nodes[from], &layout.nodes[to]);
    let (column, end) = (layout.column_right[from], end.unwrap_or(b.y));
    let middle = number((column + b.left) / 2.0);
    format!(
        "M{} {}H{}C{middle} {} {middle} {} {} {}",
        number(a.right),
        number(a.y),
        number(column),
        number(a.y),
        number(end),
        number(b.left),
        number(end),
    )
}

fn marker(end: Option<f64>) -> &'static str {
    if end.is_some() { " marker-end=\"url(#arrow)\"" } else { "" }
}

fn draw_box(text: &mut String, node: &SceneNode, lines: &[Line], placed: &Placed) {
    let colours = colours(node.status.as_deref());
    let (left, top) = (placed.left, placed.y - placed.height / 2.0);
    let tooltip = [Some(&node.name), node.kind.as_ref(), node.status.as_ref(), node.reason.as_ref()];
    let tooltip: Vec<String> = tooltip.into_iter().flatten().map(|line| escape(line)).collect();
    let radius = if node.is_outside() { placed.height / 2.0 } else { 5.0 };
    let dashes = if node.status.as_deref() == Some("pending") { " stroke-dasharray=\"5 3\"" } else { "" };
    push(
        text,
        format_args!(
            "  <g>\n    <title>{}</title>\n    <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\" \
             fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"{dashes}/>\n",
            tooltip.join("\n"),
            number(left),
            number(top),
            number(placed.right - placed.left),
            number(placed.height),
            number(radius),
            if node.is_outside() { "#f6f6f8" } else { colours.fill },
            if node.is_outside() { "#b4b8c4" } else { colours.line },
        ),
    );
    let first = placed.y - lines.len() as f64 * LINE / 2.0;
    for (at, line) in lines.iter().enumerate() {
        let fill = match line.class {
            "status" => format!(" style=\"fill: {}; font-weight: bold\"", colours.line),
            _ => String::new(),
        };
        push(
            text,
            format_args!(
                "    <text class=\"{}\" x=\"{}\" y=\"{}\" font-size=\"{}\"{fill}>{}</text>\n",
                line.class,
                number(left + PADDING),
                number(first + LINE * (at as f64 + 0.75)),
                number(line.size),
                escape(&line.text),
            ),
        );
    }
    text.push_str("  </g>\n");
}

/// Formats a coordinate, rounded to two decimals with ties away from zero.
fn number(value: f64) -> String {
    svg::number((value * 100.0).round() / 100.0)
}

/// Appends to a string.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}
