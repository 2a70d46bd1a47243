//! Shows sample images.

use serde::{Deserialize, Serialize};

use super::Drawing;
use super::svg::{Anchor, Svg, text_width};

const GAP: f64 = 10.0;
const TOP: f64 = 40.0;
const HEADING: f64 = 120.0;

/// Rows of images, one row per class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleGridPlot {
    /// The title.
    pub title: String,
    /// The size of an image in pixels, width first.
    pub size: (usize, usize),
    /// The rows, from top to bottom.
    pub rows: Vec<SampleRow>,
}

/// The sample images of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRow {
    /// The label on the left.
    pub label: String,
    /// The images, from left to right.
    pub images: Vec<Sample>,
}

/// A sample image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The image id.
    pub image_id: String,
    /// A Base64 JPEG; `None` if the image cannot be decoded.
    pub jpeg: Option<String>,
}

impl Drawing for SampleGridPlot {
    const PLOT: &'static str = "sample_grid";

    fn draw(&self) -> Svg {
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        let columns = self.rows.iter().map(|row| row.images.len()).max().unwrap_or(0) as f64;
        let left = self.rows.iter().map(|row| text_width(&row.label, 13.0) + 32.0).fold(HEADING, f64::max);
        let whole = left + columns * (width + GAP) + 16.0;
        let sentence = |row: &SampleRow| {
            let ids: Vec<&str> = row.images.iter().map(|image| image.image_id.as_str()).collect();
            format!("{}: {}", row.label, ids.join(", "))
        };
        let sentences: Vec<String> = self.rows.iter().map(sentence).collect();
        let description = format!("Sample images by class. {}.", sentences.join("; "));
        let mut svg = Svg::new(whole, TOP + self.rows.len() as f64 * (height + GAP) + 6.0, &self.title, &description);
        svg.text("hf-ink hf-head", (16.0, 24.0), Anchor::Start, &self.title);
        for (line, row) in self.rows.iter().enumerate() {
            let y = TOP + line as f64 * (height + GAP);
            svg.text("hf-ink", (left - 14.0, y + height / 2.0 + 4.5), Anchor::End, &row.label);
            for (column, image) in row.images.iter().enumerate() {
                let corner = (left + column as f64 * (width + GAP), y);
                match &image.jpeg {
                    Some(jpeg) => {
                        let url = format!("data:image/jpeg;base64,{jpeg}");
                        svg.image(corner, (width, height), &url, &image.image_id);
                    }
                    None => {
                        svg.rect("hf-cell", corner, (width, height), 1.0);
                        let middle = (corner.0 + width / 2.0, y + height / 2.0 + 4.0);
                        svg.text("hf-soft hf-small", middle, Anchor::Middle, "unreadable");
                    }
                }
            }
        }
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_inside_the_figure_and_has_its_name() {
        let sample = |id: &str, jpeg: Option<&str>| Sample { image_id: id.to_owned(), jpeg: jpeg.map(str::to_owned) };
        let images = vec![sample("ISIC_1", Some("/9j/4A==")), sample("ISIC_2", None)];
        let rows = vec![SampleRow { label: "Melanoma".to_owned(), images }];
        let svg = SampleGridPlot { title: "Test".to_owned(), size: (100, 75), rows }.draw().file();
        assert!(svg.contains("href=\"data:image/jpeg;base64,/9j/4A==\"") && svg.contains("<title>ISIC_1</title>"));
        assert!(svg.contains(">unreadable</text>") && svg.contains("Melanoma: ISIC_1, ISIC_2."));
    }
}
