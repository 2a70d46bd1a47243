//! The preview: pairs of images before and after preprocessing.

use hamflow_stage_api::{InputFile, StageError};
use image::{Rgb, RgbImage, imageops};

use hamflow_kernels::imaging::{Preparation, Preparer, decode, encode_png};

/// The height of each image in pixels.
const HEIGHT: u32 = 225;

/// The number of pairs per row.
const COLUMNS: u32 = 2;

const GAP: u32 = 12;

const BACKGROUND: Rgb<u8> = Rgb([244, 244, 244]);

/// Draws a pair for each file: the original on the left and the enlarged tensor on the right, both `HEIGHT` pixels high.
///
/// A file that cannot be decoded is drawn as a dark red pair.
pub(super) fn draw(preparation: &Preparation, files: &[&InputFile]) -> Result<Vec<u8>, StageError> {
    let mut preparer = Preparer::new(*preparation);
    let pairs = files.iter().map(|file| pair(&mut preparer, preparation, file)).collect::<Result<Vec<_>, _>>()?;
    let width = |picture: fn(&(RgbImage, RgbImage)) -> u32| pairs.iter().map(picture).max().unwrap_or(1);
    let (left, right) = (width(|pair| pair.0.width()), width(|pair| pair.1.width()));
    let rows = u32::try_from(pairs.len()).expect("a sample is small").div_ceil(COLUMNS);
    let pair_width = left + GAP / 2 + right + 2 * GAP;
    let size = (GAP + COLUMNS * pair_width, GAP + rows * (HEIGHT + GAP));
    let mut sheet = RgbImage::from_pixel(size.0, size.1, BACKGROUND);
    for (number, (before, after)) in (0u32..).zip(&pairs) {
        let x = GAP + number % COLUMNS * pair_width;
        let y = i64::from(GAP + number / COLUMNS * (HEIGHT + GAP));
        imageops::replace(&mut sheet, before, i64::from(x), y);
        imageops::replace(&mut sheet, after, i64::from(x + left + GAP / 2), y);
    }
    encode_png(sheet.as_raw(), sheet.width() as usize, sheet.height() as usize)
}

fn pair(
    preparer: &mut Preparer,
    preparation: &Preparation,
    file: &InputFile,
) -> Result<(RgbImage, RgbImage), StageError> {
    let bytes = file.read()?;
    let (width, height) = (side(preparation.width), side(preparation.height));
    let mut tensor = vec![0; preparation.width * preparation.height * 3];
    let Ok(before) = decode(&bytes).and_then(|image| preparer.prepare(&bytes, &mut tensor).map(|()| image)) else {
        let bad = RgbImage::from_pixel(HEIGHT, HEIGHT, Rgb([120, 20, 20]));
        return Ok((bad.clone(), bad));
    };
    let after = RgbImage::from_raw(width, height, tensor).expect("a tensor has the preparation's size");
    Ok((at_height(&before, imageops::FilterType::Triangle), at_height(&after, imageops::FilterType::Nearest)))
}

fn side(side: usize) -> u32 {
    u32::try_from(side).expect("a tensor's sides are at most 4096")
}

fn at_height(image: &RgbImage, filter: imageops::FilterType) -> RgbImage {
    let width = (f64::from(image.width()) / f64::from(image.height()) * f64::from(HEIGHT)).round() as u32;
    imageops::resize(image, width.clamp(1, 4 * HEIGHT), HEIGHT, filter)
}
