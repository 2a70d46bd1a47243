//! Encoding of images.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hamflow_stage_api::StageError;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};

/// For pictures in figures: high enough to be visually lossless.
const QUALITY: u8 = 90;

/// Encodes RGB pixels, `[height, width, 3]`, as a JPEG with a quality between 1 and 100.
pub fn encode_jpeg(pixels: &[u8], width: usize, height: usize, quality: u8) -> Result<Vec<u8>, StageError> {
    let mut jpeg = Vec::new();
    encoded(JpegEncoder::new_with_quality(&mut jpeg, quality).encode(
        pixels,
        width as u32,
        height as u32,
        ExtendedColorType::Rgb8,
    ))?;
    Ok(jpeg)
}

/// Encodes RGB pixels, `[height, width, 3]`, as a PNG.
pub fn encode_png(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, StageError> {
    let mut png = Vec::new();
    encoded(PngEncoder::new(&mut png).write_image(pixels, width as u32, height as u32, ExtendedColorType::Rgb8))?;
    Ok(png)
}

/// Encodes RGB pixels, `[height, width, 3]`, as a Base64 JPEG.
pub fn jpeg_base64(pixels: &[u8], width: usize, height: usize) -> Result<String, StageError> {
    Ok(STANDARD.encode(encode_jpeg(pixels, width, height, QUALITY)?))
}

fn encoded(result: ImageResult<()>) -> Result<(), StageError> {
    result.map_err(|error| StageError::bug(format!("cannot encode an image: {error}")))
}
