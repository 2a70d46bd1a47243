//! The figures: each image, its heat map, and an overlay of both.

use std::collections::BTreeMap;

use hamflow_stage_api::StageError;

use super::localisation::{Mask, Masks};
use super::rows::Row;
use crate::image_names::ImageNames;
use crate::ml::classifier::Classifier;
use crate::ml::network::HeatMap;
use crate::plot::{Figure, HeatExample, HeatMapsPlot, heat_colour};
use hamflow_kernels::imaging::{Preparation, Preparer, jpeg_base64};

/// Minimum width of the pictures; the width is a multiple of that of the model's images.
const WIDTH: usize = 200;

/// The opacity of the overlay at maximum heat; it decreases with the heat.
const COVER: f64 = 0.7;

/// One figure per class, with its file name without extension.
pub fn figures(
    classifier: &Classifier,
    examples: &[(String, Vec<&Row>)],
    heat: &BTreeMap<usize, HeatMap>,
    images: &ImageNames<'_>,
    masks: Option<&Masks<'_>>,
) -> Result<Vec<(String, Figure)>, StageError> {
    let preparation = enlarged(classifier.preparation()?);
    let mut painter = Painter { preparation, preparer: Preparer::new(preparation) };
    let mut figures = Vec::new();
    for (label, rows) in examples {
        let name = classifier.classes().iter().find(|class| class.label == *label).map(|class| class.name.as_str());
        let mut shown = Vec::new();
        for row in rows {
            let heat = heat.get(&row.place).ok_or_else(|| StageError::bug("an example has no heat"))?;
            let mask = masks.map(|masks| masks.read(&row.image_id)).transpose()?.flatten();
            shown.push(HeatExample {
                image_id: row.image_id.clone(),
                label: row.label.clone(),
                predicted: row.predicted.clone(),
                confidence: row.confidence,
                pictures: painter.paint(row, heat, images, mask.as_ref())?,
            });
        }
        let plot = HeatMapsPlot {
            title: format!("Where the model looks: {} ({label})", name.unwrap_or("unknown class")),
            size: (preparation.width, preparation.height),
            examples: shown,
        };
        figures.push((format!("heat_{label}"), Figure::new(&plot)));
    }
    Ok(figures)
}

/// Draws the three pictures of an image.
struct Painter {
    preparation: Preparation,
    preparer: Preparer,
}

impl Painter {
    fn paint(
        &mut self,
        row: &Row,
        heat: &HeatMap,
        images: &ImageNames<'_>,
        mask: Option<&Mask>,
    ) -> Result<[String; 3], StageError> {
        let Preparation { height, width, .. } = self.preparation;
        let file = images.find(&row.image_id)?.ok_or_else(|| images.missing([row.image_id.as_str()].into_iter()))?;
        let mut image = vec![0; height * width * 3];
        self.preparer
            .prepare(&file.read()?, &mut image)
            .map_err(|bad| StageError::input(format!("bad image `{}`: the file {bad}", file.path)))?;
        let (map, mut overlay) = paint(&image, &heat.resized(height, width));
        if let Some(mask) = mask {
            outline(mask, &mut overlay, (height, width));
        }
        Ok([
            jpeg_base64(&image, width, height)?,
            jpeg_base64(&map, width, height)?,
            jpeg_base64(&overlay, width, height)?,
        ])
    }
}

/// A narrow image is not enlarged to more than this height in pixels.
const MAX_HEIGHT: usize = 4096;

/// The same preprocessing, enlarged for display.
pub fn enlarged(of_model: Preparation) -> Preparation {
    let times = WIDTH.div_ceil(of_model.width).min((MAX_HEIGHT / of_model.height).max(1));
    Preparation { height: of_model.height * times, width: of_model.width * times, ..of_model }
}

/// The heat map in colour, and its overlay on the image of the same size. The maximum has the last colour of the map.
pub fn paint(image: &[u8], heat: &HeatMap) -> (Vec<u8>, Vec<u8>) {
    heat.over(image, heat_colour, COVER)
}

/// Draws the lesion's outline in white, on pixels whose right or lower neighbour is on the other side of the boundary.
fn outline(mask: &Mask, picture: &mut [u8], (height, width): (usize, usize)) {
    let lesion = |y: usize, x: usize| mask.lesion[y * mask.height / height * mask.width + x * mask.width / width];
    for y in 0..height {
        for x in 0..width {
            let here = lesion(y, x);
            let border = (y + 1 < height && lesion(y + 1, x) != here) || (x + 1 < width && lesion(y, x + 1) != here);
            if border {
                picture[(y * width + x) * 3..][..3].fill(255);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_follows_only_the_lesion_boundary() {
        let mask = Mask { height: 2, width: 2, lesion: vec![true, false, false, false] };
        let mut picture = vec![7; 4 * 4 * 3];
        outline(&mask, &mut picture, (4, 4));
        let white: Vec<usize> = (0..16).filter(|place| picture[place * 3] == 255).collect();
        // Of the 2×2 lesion, the pixels (0,1), (1,0) and (1,1) are at the boundary.
        assert_eq!(white, [1, 4, 5]);
    }
}
