//! Draws a network architecture: one block per layer, or per group of layers of a deep network, sized by its output.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::scale::grouped;
use super::svg::{Anchor, Svg, text_width};

const LEFT: f64 = 20.0;
const TOP: f64 = 76.0;
const COLUMN: f64 = 76.0;
/// The height of the tallest block.
const HEIGHT: f64 = 130.0;
/// The oblique projection of depth, horizontally and vertically.
const SLANT: (f64, f64) = (0.28, 0.2);
/// The number of blocks that a drawing has at most, if the names of the layers allow grouping them.
const MOST: usize = 24;

/// The layers of a network, from input to output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchitecturePlot {
    /// The heading.
    pub title: String,
    /// The layers, starting with the input.
    pub layers: Vec<LayerBlock>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlock {
    /// The name, e.g. `conv1`.
    pub name: String,
    /// The description, e.g. `conv 3×3, ReLU`.
    pub kind: String,
    /// The output shape: height, width and channels, or the number of values.
    pub output: Vec<usize>,
    /// The number of weights.
    pub parameters: usize,
}

/// The colours of layer types, by the prefix of their description; the last one is for all others.
const SORTS: [(&str, &str); 10] = [
    ("image", "hf-k7"),
    ("conv", "hf-k0"),
    ("max pool", "hf-k2"),
    ("dropout", "hf-k5"),
    ("flatten", "hf-k6"),
    ("dense", "hf-k1"),
    ("block", "hf-k3"),
    ("depthwise conv", "hf-k4"),
    ("global average pool", "hf-k2"),
    ("other", "hf-k7"),
];

fn sort(kind: &str) -> usize {
    SORTS.iter().position(|(sort, _)| kind.starts_with(sort)).unwrap_or(SORTS.len() - 1)
}

/// Merges layers whose names begin alike, such as `blocks.0.1.conv` and `blocks.0.1.add`, as far as [`MOST`] requires.
fn grouped_layers(layers: &[LayerBlock]) -> Vec<LayerBlock> {
    let deepest = layers.iter().map(|layer| layer.name.split('.').count()).max().unwrap_or(0);
    let merged = |depth: usize| {
        let mut groups: Vec<LayerBlock> = Vec::new();
        for layer in layers {
            let name = layer.name.split('.').take(depth).collect::<Vec<_>>().join(".");
            match groups.last_mut().filter(|group| group.name == name) {
                Some(group) => {
                    group.kind = "block".to_owned();
                    group.output.clone_from(&layer.output);
                    group.parameters += layer.parameters;
                }
                None => groups.push(LayerBlock { name, ..layer.clone() }),
            }
        }
        groups
    };
    (1..=deepest).rev().map(merged).find(|groups| groups.len() <= MOST).unwrap_or_else(|| layers.to_vec())
}

impl Drawing for ArchitecturePlot {
    const PLOT: &'static str = "architecture";

    fn draw(&self) -> Svg {
        let layers = grouped_layers(&self.layers);
        let highest = layers.iter().filter(|layer| layer.output.len() == 3).map(|layer| layer.output[0]);
        let highest = highest.max().unwrap_or(1) as f64;
        let sentence = |layer: &LayerBlock| {
            let weights = if layer.parameters > 0 {
                format!(", {} weights", grouped(layer.parameters as u64))
            } else {
                String::new()
            };
            format!("{} ({}): {}{weights}", layer.name, layer.kind, size(layer))
        };
        let sentences: Vec<String> = layers.iter().map(sentence).collect();
        let column = layers.iter().map(|layer| text_width(&layer.name, 11.0) * 1.1 + 10.0).fold(COLUMN, f64::max);
        let description = format!("The layers from the image to the classes. {}.", sentences.join("; "));
        let width = LEFT + column * layers.len() as f64 + 24.0;
        let floor = TOP + HEIGHT + 46.0;
        let mut svg = Svg::new(width, floor + 72.0, &self.title, &description);
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        draw_legend(&mut svg, &layers);
        let flow = floor - HEIGHT / 2.0 - 16.0;
        let last = LEFT + column * (layers.len() as f64 - 0.5);
        svg.line("hf-mark", (LEFT + column / 2.0, flow), (last, flow));
        for (number, layer) in layers.iter().enumerate() {
            let middle = LEFT + column * (number as f64 + 0.5);
            draw_block(&mut svg, (middle, flow), highest, layer);
            svg.text("hf-ink hf-small hf-strong", (middle, floor + 22.0), Anchor::Middle, &layer.name);
            svg.text("hf-ink hf-small", (middle, floor + 38.0), Anchor::Middle, &size(layer));
            if layer.parameters > 0 {
                let weights = grouped(layer.parameters as u64);
                svg.text("hf-soft hf-small", (middle, floor + 54.0), Anchor::Middle, &weights);
            }
        }
        svg
    }
}

fn draw_legend(svg: &mut Svg, layers: &[LayerBlock]) {
    let mut x = 16.0;
    for (number, (name, colour)) in SORTS.iter().enumerate() {
        if layers.iter().any(|layer| sort(&layer.kind) == number) {
            svg.rect(colour, (x, 38.0), (11.0, 11.0), 1.0);
            svg.text("hf-soft", (x + 16.0, 48.0), Anchor::Start, name);
            x += 34.0 + text_width(name, 13.0);
        }
    }
    svg.text("hf-soft hf-small", (x + 6.0, 48.0), Anchor::Start, "below: output and number of weights");
}

fn size(layer: &LayerBlock) -> String {
    let sizes: Vec<String> = layer.output.iter().map(|size| grouped(*size as u64)).collect();
    sizes.join("×")
}

/// Draws a box whose front has the proportions of the map and whose depth represents the channels; a vector is a thin bar.
fn draw_block(svg: &mut Svg, (middle, centre): (f64, f64), highest: f64, layer: &LayerBlock) {
    let (thickness, height, depth) = match layer.output[..] {
        [height, width, channels] => {
            let scale = HEIGHT / highest;
            (4.0 + 3.0 * libm::log2(channels.max(1) as f64), height as f64 * scale, width as f64 * scale)
        }
        _ => {
            let values: usize = layer.output.iter().product();
            (8.0, (8.0 * libm::log2(values.max(2) as f64)).min(HEIGHT), 0.0)
        }
    };
    let (across, up) = (depth * SLANT.0, depth * SLANT.1);
    let (left, top) = (middle - (thickness + across) / 2.0, centre - (height - up) / 2.0);
    let (right, bottom) = (left + thickness, top + height);
    let colour = SORTS[sort(&layer.kind)].1;
    svg.rect("hf-paper", (left, top), (thickness, height), 1.0);
    svg.rect(colour, (left, top), (thickness, height), 1.0);
    if depth > 0.0 {
        let over = [(left, top), (right, top), (right + across, top - up), (left + across, top - up)];
        let side = [(right, top), (right + across, top - up), (right + across, bottom - up), (right, bottom)];
        for (face, opacity) in [(over, 0.75), (side, 0.5)] {
            svg.polygon("hf-paper", &face, 1.0);
            svg.polygon(colour, &face, opacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_a_block_a_name_and_a_weight_count() {
        let layer = |name: &str, kind: &str, output: &[usize], parameters| LayerBlock {
            name: name.to_owned(),
            kind: kind.to_owned(),
            output: output.to_vec(),
            parameters,
        };
        let layers = vec![
            layer("input", "image", &[75, 100, 3], 0),
            layer("conv1", "conv 3×3, ReLU", &[75, 100, 32], 896),
            layer("flatten", "flatten", &[28_800], 0),
            layer("dense1", "dense", &[7], 903),
        ];
        let svg = ArchitecturePlot { title: "baseline".to_owned(), layers }.draw().file();
        assert!(svg.contains(">conv1<") && svg.contains(">75×100×32<") && svg.contains(">896<"));
        assert!(svg.contains(">28,800<") && svg.contains("dense1 (dense): 7, 903 weights"));
        assert_eq!(svg.matches("<polygon").count(), 8, "two faces of two boxes, each upon paper");
        assert!(!svg.contains(">dropout<"), "the legend has what is drawn");
    }
    #[test]
    fn the_layers_of_a_deep_network_are_grouped_by_name() {
        let layer = |name: String, parameters| LayerBlock {
            name,
            kind: "conv 1×1".to_owned(),
            output: vec![4, 5, parameters],
            parameters,
        };
        let mut layers = vec![layer("stem".to_owned(), 1)];
        layers
            .extend((0..30).map(|number| layer(format!("blocks.{}.{}.conv{number}", number / 10, number / 3), number)));
        let groups = grouped_layers(&layers);
        let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        // `blocks.0.3` and `blocks.1.3` have the layers 9 and 10, 11.
        assert_eq!(names[..6], ["stem", "blocks.0.0", "blocks.0.1", "blocks.0.2", "blocks.0.3", "blocks.1.3"]);
        assert_eq!(
            (groups[5].parameters, &groups[5].output[..], &groups[5].kind[..]),
            (10 + 11, &[4, 5, 11][..], "block")
        );
        assert_eq!((&groups[4].kind[..], groups.len()), ("conv 1×1", 13));
        assert_eq!(grouped_layers(&layers[..5]), layers[..5], "few layers are drawn one by one");
    }
}
