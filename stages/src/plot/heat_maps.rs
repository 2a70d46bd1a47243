//! Shows images with heat maps.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::svg::{Anchor, Svg};

const GAP: f64 = 10.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 40.0;
const LEFT: f64 = 200.0;

/// Number of steps in the colour bar.
const STEPS: usize = 40;

/// Rows with an image, its heat map, and an overlay of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatMapsPlot {
    /// The title.
    pub title: String,
    /// The size of a picture in pixels, width first.
    pub size: (usize, usize),
    /// The rows, from top to bottom.
    pub examples: Vec<HeatExample>,
}

/// An explained image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatExample {
    /// The image id.
    pub image_id: String,
    /// The label of the true class.
    pub label: String,
    /// The label of the predicted class, which the heat map explains.
    pub predicted: String,
    /// The probability of the predicted class.
    pub confidence: f64,
    /// Base64 JPEGs: the image, the heat map, and the overlay.
    pub pictures: [String; 3],
}

/// The colour of a value between 0 and 1: viridis (van der Walt, Smith 2015), which is perceptually uniform, also in
/// greyscale and with colour vision deficiency.
pub fn heat_colour(heat: f64) -> [u8; 3] {
    let colorous::Color { r, g, b } = colorous::VIRIDIS.eval_continuous(heat.clamp(0.0, 1.0));
    [r, g, b]
}

impl Drawing for HeatMapsPlot {
    const PLOT: &'static str = "heat_maps";

    fn draw(&self) -> Svg {
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        let rows = self.examples.len() as f64;
        let sentence = |example: &HeatExample| {
            let HeatExample { image_id, label, predicted, confidence, .. } = example;
            format!("{image_id}: {label}, predicted {predicted} with {confidence:.3}")
        };
        let sentences: Vec<String> = self.examples.iter().map(sentence).collect();
        let description = format!(
            "Images, where the model looked for the class that it predicted, and both upon each other. {}.",
            sentences.join("; ")
        );
        let whole = LEFT + 3.0 * (width + GAP) + 6.0;
        let bottom = TOP + rows * (height + GAP);
        let mut svg = Svg::new(whole, bottom + BOTTOM, &self.title, &description);
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        for (column, name) in ["image", "heat", "heat on the image"].into_iter().enumerate() {
            let x = LEFT + column as f64 * (width + GAP);
            svg.text("hf-soft", (x, TOP - 10.0), Anchor::Start, name);
        }
        for (line, example) in self.examples.iter().enumerate() {
            draw_example(&mut svg, TOP + line as f64 * (height + GAP), (width, height), example);
        }
        if self.examples.is_empty() {
            svg.text("hf-soft", (16.0, TOP - 10.0), Anchor::Start, "no image of this class was predicted");
        } else {
            draw_scale(&mut svg, bottom + 6.0, width);
        }
        svg
    }
}

fn draw_example(svg: &mut Svg, y: f64, (width, height): (f64, f64), example: &HeatExample) {
    let right = example.label == example.predicted;
    let middle = y + height / 2.0;
    svg.text("hf-ink hf-strong", (16.0, middle - 22.0), Anchor::Start, if right { "✓ right" } else { "✗ wrong" });
    svg.text("hf-ink", (16.0, middle - 2.0), Anchor::Start, &format!("true class {}", example.label));
    let predicted = format!("predicted {} ({:.3})", example.predicted, example.confidence);
    svg.text("hf-ink", (16.0, middle + 16.0), Anchor::Start, &predicted);
    svg.text("hf-soft hf-small", (16.0, middle + 34.0), Anchor::Start, &example.image_id);
    let names = ["", ", heat", ", heat on the image"];
    for (column, (picture, name)) in example.pictures.iter().zip(names).enumerate() {
        let corner = (LEFT + column as f64 * (width + GAP), y);
        let url = format!("data:image/jpeg;base64,{picture}");
        svg.image(corner, (width, height), &url, &format!("{}{name}", example.image_id));
    }
}

/// Draws the colour bar.
fn draw_scale(svg: &mut Svg, y: f64, width: f64) {
    let left = LEFT + width + GAP;
    let step = width / STEPS as f64;
    for i in 0..STEPS {
        let colour = heat_colour((i as f64 + 0.5) / STEPS as f64);
        // Slightly wider than a step, to avoid gaps between steps.
        svg.coloured_rect(colour, (left + i as f64 * step, y), (step + 0.3, 10.0));
    }
    svg.text("hf-soft hf-small", (left, y + 24.0), Anchor::Start, "none");
    svg.text("hf-soft hf-small", (left + width, y + 24.0), Anchor::End, "most of this image");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_labelled_with_true_and_predicted_class() {
        let example = |label: &str| HeatExample {
            image_id: format!("ISIC_{label}"),
            label: label.to_owned(),
            predicted: "mel".to_owned(),
            confidence: 0.91,
            pictures: ["AA==", "AQ==", "Ag=="].map(str::to_owned),
        };
        let examples = vec![example("mel"), example("nv")];
        let svg = HeatMapsPlot { title: "Melanoma".to_owned(), size: (200, 150), examples }.draw().file();
        assert!(svg.contains(">✓ right<") && svg.contains(">✗ wrong<") && svg.contains(">true class nv<"));
        assert!(svg.contains(">predicted mel (0.910)<") && svg.matches("<image ").count() == 6);
        let none = HeatMapsPlot { title: "None".to_owned(), size: (200, 150), examples: Vec::new() }.draw().file();
        assert!(none.contains("no image of this class was predicted"));
    }

    // matplotlib 3.10: [tuple(round(255 * v) for v in matplotlib.colormaps["viridis"](x)[:3]) for x in (0.0, 0.5, 1.0)]
    #[test]
    fn colours_match_matplotlib() {
        let near = |heat: f64, expected: [u8; 3]| {
            heat_colour(heat).iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 2)
        };
        assert!(near(0.0, [68, 1, 84]) && near(0.5, [33, 145, 140]) && near(1.0, [253, 231, 37]));
    }
}
