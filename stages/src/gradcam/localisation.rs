//! How well heat maps localise the lesion.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hamflow_stage_api::{Input, InputFile, StageError};
use serde::Serialize;

use crate::image_names::ImageNames;
use crate::ml::classifier::Classifier;
use crate::ml::network::HeatMap;
use hamflow_kernels::imaging::{BadImage, ColourConstancy, Decoding, Filter, HairRemoval, Preparation, Preparer};

/// The mask file of an image, if there is one.
pub fn mask_of<'a>(names: &ImageNames<'a>, image_id: &str) -> Result<Option<&'a InputFile>, StageError> {
    match names.find(&format!("{image_id}_segmentation"))? {
        Some(file) => Ok(Some(file)),
        None => names.find(image_id),
    }
}

/// The lesion pixels of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// The height in pixels.
    pub height: usize,
    /// The width in pixels.
    pub width: usize,
    /// `[height, width]`.
    pub lesion: Vec<bool>,
}

/// Lesion masks, transformed like the model's images.
pub struct Masks<'a> {
    names: ImageNames<'a>,
    name: &'a str,
    size: (usize, usize),
    preparer: RefCell<Preparer>,
}

impl<'a> Masks<'a> {
    /// Masks are cropped, padded or stretched like the model's images.
    pub fn new(input: &'a Input, classifier: &Classifier) -> Result<Self, StageError> {
        let preparation = Preparation {
            filter: Filter::Bilinear,
            decode: Decoding::Exact,
            colour_constancy: ColourConstancy::None,
            hair_removal: HairRemoval::None,
            ..classifier.preparation()?
        };
        let size = (preparation.height, preparation.width);
        let preparer = RefCell::new(Preparer::new(preparation));
        Ok(Self { names: ImageNames::new(input)?, name: &input.name, size, preparer })
    }

    /// The mask of an image; `None` if it has none, or one that is all lesion or none.
    pub fn read(&self, image_id: &str) -> Result<Option<Mask>, StageError> {
        let Some(file) = mask_of(&self.names, image_id)? else { return Ok(None) };
        let mask = decode(&mut self.preparer.borrow_mut(), &file.read()?, self.size);
        mask.map_err(|bad| {
            StageError::input(format!("the mask `{}` in `{}` {bad}", file.path, self.name))
                .hint("replace it, or remove `masks`")
        })
    }
}

/// The mask in an image file of any size, scaled to `size` (height, width); `None` if it is all lesion or none.
fn decode(preparer: &mut Preparer, bytes: &[u8], size: (usize, usize)) -> Result<Option<Mask>, BadImage> {
    let (height, width) = size;
    let mut pixels = vec![0; height * width * 3];
    preparer.prepare(bytes, &mut pixels)?;
    let values: Vec<u8> =
        pixels.as_chunks::<3>().0.iter().map(|[red, green, blue]| *red.max(green).max(blue)).collect();
    let largest = values.iter().copied().max().unwrap_or(0);
    // Masks of labels (0 and 1) and palettes are darker. In a JPEG, dark values are noise.
    let is_lossy = bytes.starts_with(b"\xff\xd8");
    let threshold = if largest >= 128 || is_lossy { 128 } else { largest.div_ceil(2).max(1) };
    let lesion: Vec<bool> = values.iter().map(|value| *value >= threshold).collect();
    let says_something = lesion.contains(&true) && lesion.contains(&false);
    Ok(says_something.then_some(Mask { height, width, lesion }))
}

/// Accumulated sums over images.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    images: usize,
    without_mask: usize,
    without_heat: usize,
    measured: usize,
    hits: usize,
    heat_in_lesion: f64,
    lesion_share: f64,
}

/// The accumulated sums by true class.
#[derive(Debug, Default)]
pub struct Localisation {
    by_class: BTreeMap<String, Sums>,
}

/// The localisation metrics of some images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Located {
    /// The number of images with a heat map.
    pub images: usize,
    /// The number of images without a mask, or with one that is all white or all black.
    pub without_mask: usize,
    /// The number of images whose heat map is zero everywhere; they are excluded from the means.
    pub without_heat: usize,
    /// The fraction of images whose maximum heat lies on the lesion (the pointing game: Zhang et al., ECCV 2016,
    /// without their margin of 15 pixels).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointing_game: Option<f64>,
    /// The mean fraction of the heat that lies on the lesion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat_in_lesion: Option<f64>,
    /// The mean fraction of lesion pixels: the expected value of both metrics for uniformly random heat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesion_share: Option<f64>,
}

/// The localisation metrics of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LocalisationMetrics {
    /// Over all images.
    #[serde(flatten)]
    pub all: Located,
    /// By true class.
    pub per_class: BTreeMap<String, Located>,
    /// The reasons for undefined metrics.
    pub undefined: BTreeMap<String, String>,
}

impl Sums {
    fn located(&self) -> Located {
        let mean = |sum: f64| (self.measured > 0).then(|| sum / self.measured as f64);
        Located {
            images: self.images,
            without_mask: self.without_mask,
            without_heat: self.without_heat,
            pointing_game: mean(self.hits as f64),
            heat_in_lesion: mean(self.heat_in_lesion),
            lesion_share: mean(self.lesion_share),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            images: self.images + other.images,
            without_mask: self.without_mask + other.without_mask,
            without_heat: self.without_heat + other.without_heat,
            measured: self.measured + other.measured,
            hits: self.hits + other.hits,
            heat_in_lesion: self.heat_in_lesion + other.heat_in_lesion,
            lesion_share: self.lesion_share + other.lesion_share,
        }
    }
}

impl Localisation {
    /// Adds an image of the true class `label` with its heat map and mask.
    pub fn add(&mut self, label: &str, heat: &HeatMap, mask: Option<&Mask>) {
        let sums = self.by_class.entry(label.to_owned()).or_default();
        sums.images += 1;
        let Some(Mask { height, width, lesion }) = mask else {
            sums.without_mask += 1;
            return;
        };
        let heat = heat.resized(*height, *width);
        let Some(peak) = heat.peak() else {
            sums.without_heat += 1;
            return;
        };
        let total: f64 = heat.values.iter().sum();
        let inside: f64 = heat.values.iter().zip(lesion).filter(|(_, lesion)| **lesion).map(|(heat, _)| heat).sum();
        let hottest = heat.values.iter().position(|value| *value == peak);
        sums.measured += 1;
        sums.hits += usize::from(hottest.is_some_and(|place| lesion[place]));
        sums.heat_in_lesion += inside / total;
        sums.lesion_share += lesion.iter().filter(|lesion| **lesion).count() as f64 / lesion.len() as f64;
    }

    /// The metrics over `rows` images, with an entry for each of `labels`.
    pub fn metrics(&self, rows: usize, labels: &[&str], masks: bool) -> LocalisationMetrics {
        let all = self.by_class.values().fold(Sums::default(), |all, sums| all.plus(*sums));
        let of_class = |label: &&str| self.by_class.get(*label).copied().unwrap_or_default().located();
        let mut undefined = BTreeMap::new();
        let mut explain = |prefix: &str, images: usize, located: &Located| {
            if located.pointing_game.is_none() {
                let reason = match images {
                    0 => "there are no rows of it",
                    _ if !masks => "no masks are given",
                    _ => "no image of it has both a mask and heat",
                };
                for name in ["pointing_game", "heat_in_lesion", "lesion_share"] {
                    undefined.insert(format!("{prefix}{name}"), reason.to_owned());
                }
            }
        };
        let all = all.located();
        explain("", rows, &all);
        let mut per_class = BTreeMap::new();
        if masks {
            per_class.extend(labels.iter().map(|label| ((*label).to_owned(), of_class(label))));
            for (label, located) in &per_class {
                explain(&format!("per_class.{label}."), located.images, located);
            }
        }
        // Without masks, only the shown images have heat maps, but the metrics would be about all rows.
        let all = if masks { all } else { Located { images: rows, without_mask: rows, ..all } };
        LocalisationMetrics { all, per_class, undefined }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heat(values: &[f64]) -> HeatMap {
        HeatMap { height: 1, width: values.len(), values: values.to_vec() }
    }

    fn png(width: u32, height: u32, values: &[u8]) -> Vec<u8> {
        let image = image::GrayImage::from_raw(width, height, values.to_vec()).unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    // Pillow: p = Image.new("P", (4, 2)); p.putpalette([0, 0, 0, 128, 0, 0]); p.putdata([0, 0, 1, 1] * 2); p.save(…)
    const PALETTE: &str = "89504e470d0a1a0a0000000d49484452000000040000000201030000004566ef2000000006504c54450000008000004452a24f0000000c49444154789c633060620000009800332f04781e0000000049454e44ae426082";
    // Pillow: p = Image.new("1", (4, 2)); p.putdata([0, 0, 255, 255] * 2); p.save(…)
    const ONE_BIT: &str = "89504e470d0a1a0a0000000d494844520000000400000002010000000057d340ce0000000c49444154789c633060620000009800332f04781e0000000049454e44ae426082";

    #[test]
    fn masks_of_every_kind_have_the_same_lesion() {
        let hex = |text: &str| -> Vec<u8> {
            text.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let twice = |row: [u8; 4]| [row, row].concat();
        let larger: Vec<u8> = (0..4 * 8).map(|place| if place % 8 < 4 { 0 } else { 255 }).collect();
        let kinds = [
            ("0 and 255", png(4, 2, &twice([0, 0, 255, 255]))),
            ("0 and 1", png(4, 2, &twice([0, 0, 1, 1]))),
            ("0 and 2", png(4, 2, &twice([0, 0, 2, 2]))),
            ("soft", png(4, 2, &twice([0, 100, 160, 255]))),
            ("another size", png(8, 4, &larger)),
            ("palette", hex(PALETTE)),
            ("one bit", hex(ONE_BIT)),
        ];
        let preparation = Preparation {
            height: 2,
            width: 4,
            filter: Filter::Bilinear,
            fit: hamflow_kernels::imaging::Fit::Stretch,
            decode: Decoding::Exact,
            colour_constancy: ColourConstancy::None,
            hair_removal: HairRemoval::None,
        };
        let mut preparer = Preparer::new(preparation);
        for (kind, bytes) in kinds {
            let mask = decode(&mut preparer, &bytes, (2, 4)).unwrap().unwrap_or_else(|| panic!("{kind}"));
            assert_eq!(mask.lesion, [false, false, true, true].repeat(2), "{kind}");
        }
        for empty in [0, 1, 255] {
            assert_eq!(decode(&mut preparer, &png(4, 2, &[empty; 8]), (2, 4)).unwrap(), None);
        }
    }

    // numpy: heat = [0, 1, 3, 0]; mask = [0, 0, 1, 1]: argmax 2 is in the mask, 3/4 of the heat, half of the image;
    //        heat = [4, 1, 0, 0]: argmax 0 is not in the mask, 0 of the heat.
    #[test]
    fn the_metrics_are_means_over_images_with_mask_and_heat() {
        let mask = Mask { height: 1, width: 4, lesion: vec![false, false, true, true] };
        let mut localisation = Localisation::default();
        localisation.add("nv", &heat(&[0.0, 1.0, 3.0, 0.0]), Some(&mask));
        localisation.add("nv", &heat(&[4.0, 1.0, 0.0, 0.0]), Some(&mask));
        localisation.add("nv", &heat(&[0.0; 4]), Some(&mask));
        localisation.add("mel", &heat(&[0.0, 0.0, 0.0, 1.0]), Some(&mask));
        localisation.add("mel", &heat(&[1.0; 4]), None);
        let found = localisation.metrics(5, &["bcc", "mel", "nv"], true);
        let expected = Located {
            images: 3,
            without_mask: 0,
            without_heat: 1,
            pointing_game: Some(0.5),
            heat_in_lesion: Some(0.375),
            lesion_share: Some(0.5),
        };
        assert_eq!(found.per_class["nv"], expected);
        assert_eq!((found.all.images, found.all.without_mask, found.all.pointing_game), (5, 1, Some(2.0 / 3.0)));
        assert_eq!(found.undefined["per_class.bcc.pointing_game"], "there are no rows of it");
        assert_eq!(found.undefined.len(), 3);
    }

    #[test]
    fn without_masks_the_metrics_are_undefined_with_a_reason() {
        let found = Localisation::default().metrics(7, &["nv"], false);
        assert_eq!((found.all.images, found.all.pointing_game, found.per_class.len()), (7, None, 0));
        assert_eq!(found.undefined["pointing_game"], "no masks are given");
    }
}
