//! Thumbnails embedded in figures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hamflow_stage_api::StageError;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

/// High enough to be visually lossless.
const QUALITY: u8 = 90;

/// Encodes RGB pixels, `[height, width, 3]`, as a Base64 JPEG.
pub fn jpeg_base64(pixels: &[u8], width: usize, height: usize) -> Result<String, StageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| StageError::bug(format!("cannot encode a picture: {error}")))?;
    Ok(STANDARD.encode(jpeg))
}
