//! Layered graph layout: columns from left to right without overlapping boxes or lines behind boxes.
//!
//! The classic steps (Sugiyama et al. 1981): assign layers by the longest path, add a waypoint wherever an edge crosses a layer, order
//! the nodes of each layer to reduce crossings, and place them close to their neighbours.

use std::collections::{BTreeMap, BTreeSet};

/// The size of a box.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The width.
    pub width: f64,
    /// The height.
    pub height: f64,
    /// Whether the box is placed directly before its first reader, as inputs are.
    pub late: bool,
}

/// A box, or a waypoint of an edge.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// The left edge.
    pub left: f64,
    /// The right edge.
    pub right: f64,
    /// The vertical centre.
    pub y: f64,
    /// The height.
    pub height: f64,
    layer: usize,
}

/// Positions, and the line segments between adjacent columns.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The boxes in the given order, followed by the waypoints.
    pub nodes: Vec<Placed>,
    /// Pairs of nodes in adjacent columns.
    pub segments: Vec<(usize, usize)>,
    /// The right edge of each node's column.
    pub column_right: Vec<f64>,
    /// The width of the drawing.
    pub width: f64,
    /// The height of the drawing.
    pub height: f64,
}

/// The distance of the boxes from the edges of the drawing.
pub const MARGIN: f64 = 20.0;
const COLUMN_GAP: f64 = 56.0;
const ROW_GAP: f64 = 18.0;
const WAYPOINT: f64 = 6.0;
const ROUNDS: usize = 12;

/// Lays out boxes. `edges` must be acyclic.
pub fn lay_out(sizes: &[Size], edges: &[(usize, usize)]) -> Layout {
    let mut layers = layers(sizes.len(), edges);
    pull_late(sizes, edges, &mut layers);
    let segments = segments(edges, &mut layers);
    let count = layers.iter().max().map_or(0, |last| last + 1);
    let neighbours = Neighbours::new(layers.len(), &segments);
    let rows = order(&layers, count, &neighbours);
    let heights: Vec<f64> =
        (0..layers.len()).map(|node| sizes.get(node).map_or(WAYPOINT, |size| size.height)).collect();
    let ys = heights_of(&rows, &heights, &neighbours);
    place(sizes, &layers, &heights, ys, segments)
}

/// The length of the longest path to each box.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; count];
    // Without cycles, no path is longer than the number of boxes.
    for _ in 0..count {
        let mut moved = false;
        for &(from, to) in edges {
            if layers[to] <= layers[from] {
                layers[to] = layers[from] + 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    layers
}

fn pull_late(sizes: &[Size], edges: &[(usize, usize)], layers: &mut [usize]) {
    for (node, _) in sizes.iter().enumerate().filter(|(_, size)| size.late) {
        let readers = edges.iter().filter(|(from, _)| *from == node).map(|&(_, to)| layers[to]);
        if let Some(first) = readers.min() {
            layers[node] = first.saturating_sub(1);
        }
    }
}

/// Splits edges at every column. Edges from the same box share their waypoints.
fn segments(edges: &[(usize, usize)], layers: &mut Vec<usize>) -> Vec<(usize, usize)> {
    let mut waypoints: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut segments = BTreeSet::new();
    for &(from, to) in edges {
        let mut at = from;
        for layer in layers[from] + 1..layers[to] {
            let next = *waypoints.entry((from, layer)).or_insert_with(|| {
                layers.push(layer);
                layers.len() - 1
            });
            segments.insert((at, next));
            at = next;
        }
        segments.insert((at, to));
    }
    segments.into_iter().collect()
}

struct Neighbours {
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
}

impl Neighbours {
    fn new(count: usize, segments: &[(usize, usize)]) -> Self {
        let (mut before, mut after) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        for &(from, to) in segments {
            before[to].push(from);
            after[from].push(to);
        }
        Self { before, after }
    }
}

/// The mean; `None` if there are no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// The nodes of each layer from top to bottom, ordered to reduce crossings.
fn order(layers: &[usize], count: usize, neighbours: &Neighbours) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (node, &layer) in layers.iter().enumerate() {
        rows[layer].push(node);
    }
    let mut best = (crossings(&rows, neighbours), rows.clone());
    for round in 0..ROUNDS {
        let forward = round % 2 == 0;
        let sequence: Vec<usize> = if forward { (0..count).collect() } else { (0..count).rev().collect() };
        for layer in sequence {
            let places = places(&rows, layers.len());
            let towards = if forward { &neighbours.before } else { &neighbours.after };
            let mut keyed: Vec<(f64, usize)> = rows[layer]
                .iter()
                .map(|&node| (mean(towards[node].iter().map(|&other| places[other])).unwrap_or(places[node]), node))
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows[layer] = keyed.into_iter().map(|(_, node)| node).collect();
        }
        let now = crossings(&rows, neighbours);
        if now < best.0 {
            best = (now, rows.clone());
        }
    }
    best.1
}

/// The position of each node in its layer.
fn places(rows: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut places = vec![0.0; count];
    for row in rows {
        for (at, &node) in row.iter().enumerate() {
            places[node] = at as f64;
        }
    }
    places
}

fn crossings(rows: &[Vec<usize>], neighbours: &Neighbours) -> usize {
    let places = places(rows, neighbours.before.len());
    let mut crossings = 0;
    for row in rows {
        for (at, &upper) in row.iter().enumerate() {
            for &lower in &row[at + 1..] {
                for &a in &neighbours.after[upper] {
                    crossings += neighbours.after[lower].iter().filter(|&&b| places[b] < places[a]).count();
                }
            }
        }
    }
    crossings
}

/// The vertical centres of all nodes, close to the means of their neighbours, respecting the order and the gaps.
fn heights_of(rows: &[Vec<usize>], heights: &[f64], neighbours: &Neighbours) -> Vec<f64> {
    let mut ys = vec![0.0; heights.len()];
    for row in rows {
        let mut top = 0.0;
        for &node in row {
            ys[node] = top + heights[node] / 2.0;
            top += heights[node] + ROW_GAP;
        }
    }
    for round in 0..ROUNDS {
        let sequence: Vec<&Vec<usize>> =
            if round % 2 == 0 { rows.iter().collect() } else { rows.iter().rev().collect() };
        for row in sequence {
            let wished: Vec<f64> = row
                .iter()
                .map(|&node| {
                    let around = neighbours.before[node].iter().chain(&neighbours.after[node]);
                    mean(around.map(|&other| ys[other])).unwrap_or(ys[node])
                })
                .collect();
            for (&node, y) in row.iter().zip(apart(row, heights, &wished)) {
                ys[node] = y;
            }
        }
    }
    ys
}

/// The positions closest to the wished ones (least squares) that keep the order and the gaps.
///
/// Without gaps this is isotonic regression: neighbours that would overtake each other are pooled at their mean.
fn apart(row: &[usize], heights: &[f64], wished: &[f64]) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(row.len());
    let mut offset = 0.0;
    for (at, &node) in row.iter().enumerate() {
        if at > 0 {
            offset += (heights[row[at - 1]] + heights[node]) / 2.0 + ROW_GAP;
        }
        offsets.push(offset);
    }
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wished.iter().zip(&offsets) {
        let mut pool = (wish - offset, 1);
        while let Some(&(sum, count)) = pools.last()
            && sum / count as f64 >= pool.0 / pool.1 as f64
        {
            pools.pop();
            pool = (sum + pool.0, count + pool.1);
        }
        pools.push(pool);
    }
    let levels = pools.into_iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    levels.zip(offsets).map(|(level, offset)| level + offset).collect()
}

fn place(sizes: &[Size], layers: &[usize], heights: &[f64], ys: Vec<f64>, segments: Vec<(usize, usize)>) -> Layout {
    let count = layers.iter().max().map_or(0, |last| last + 1);
    let mut widths = vec![0.0f64; count];
    for (size, &layer) in sizes.iter().zip(layers) {
        widths[layer] = widths[layer].max(size.width);
    }
    let mut lefts = Vec::with_capacity(count);
    let mut x = MARGIN;
    for width in &widths {
        lefts.push(x);
        x += width + COLUMN_GAP;
    }
    let top = ys.iter().zip(heights).map(|(y, height)| y - height / 2.0).fold(f64::INFINITY, f64::min);
    let mut bottom = 0.0f64;
    let mut nodes = Vec::with_capacity(layers.len());
    for (node, &layer) in layers.iter().enumerate() {
        // Round to whole pixels; the gaps are wide enough for that.
        let y = (ys[node] - top + MARGIN).round();
        bottom = bottom.max(y + heights[node] / 2.0);
        let width = sizes.get(node).map_or(widths[layer], |size| size.width);
        nodes.push(Placed { left: lefts[layer], right: lefts[layer] + width, y, height: heights[node], layer });
    }
    let column_right = nodes.iter().map(|node| lefts[node.layer] + widths[node.layer]).collect();
    let width = if count == 0 { 2.0 * MARGIN } else { x - COLUMN_GAP + MARGIN };
    Layout { nodes, segments, column_right, width, height: bottom + MARGIN }
}

#[cfg(test)]
mod tests {
    use crate::Random;

    use super::*;

    fn overlap(a: &Placed, b: &Placed) -> bool {
        a.left < b.right && b.left < a.right && (a.y - b.y).abs() < (a.height + b.height) / 2.0
    }

    #[test]
    fn boxes_never_overlap() {
        let mut random = Random::new(3, "layout");
        for _ in 0..200 {
            let count = 1 + random.below(25) as usize;
            let sizes: Vec<Size> = (0..count)
                .map(|_| Size {
                    width: random.uniform(60.0, 300.0).round(),
                    height: random.uniform(30.0, 90.0).round(),
                    late: random.below(4) == 0,
                })
                .collect();
            let mut edges = Vec::new();
            for (to, size) in sizes.iter().enumerate() {
                for from in 0..to {
                    // `late` boxes have no incoming edges, like inputs.
                    if random.below(5) == 0 && !size.late {
                        edges.push((from, to));
                    }
                }
            }
            let layout = lay_out(&sizes, &edges);
            for (at, a) in layout.nodes.iter().enumerate() {
                assert!(a.left >= MARGIN && a.right <= layout.width - MARGIN);
                assert!(a.y - a.height / 2.0 >= MARGIN - 1.0 && a.y + a.height / 2.0 <= layout.height - MARGIN + 1.0);
                for b in &layout.nodes[at + 1..] {
                    assert!(!overlap(a, b), "{a:?} {b:?}");
                }
            }
            for &(from, to) in &layout.segments {
                assert_eq!(layout.nodes[from].layer + 1, layout.nodes[to].layer, "a segment spans one gap");
            }
        }
    }

    #[test]
    fn colliding_wishes_are_pooled_at_their_mean() {
        let heights = [10.0, 10.0];
        let gap = 10.0 + ROW_GAP;
        assert_eq!(apart(&[0, 1], &heights, &[50.0, 50.0]), [50.0 - gap / 2.0, 50.0 + gap / 2.0]);
        assert_eq!(apart(&[0, 1], &heights, &[0.0, 100.0]), [0.0, 100.0]);
    }
}
