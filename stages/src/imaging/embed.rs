//! Small pictures inside figures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hamflow_stage_api::StageError;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

/// Good enough that nobody sees a difference.
const QUALITY: u8 = 90;

/// RGB pixels, `[height, width, 3]`, as a JPEG file in Base64.
pub fn jpeg_base64(pixels: &[u8], width: usize, height: usize) -> Result<String, StageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| StageError::bug(format!("a picture cannot be encoded: {error}")))?;
    Ok(STANDARD.encode(jpeg))
}
