//! Turns the bytes of an image file into upright RGB pixels.

use std::fmt;
use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits, RgbImage};

use super::jpeg;

/// The largest image that is decoded, in pixels; a file that claims more is refused before memory is taken.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Says what is wrong with an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadImage {
    /// What, as the end of a sentence that begins with the file's name: `is truncated`.
    pub reason: String,
}

impl BadImage {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for BadImage {}

/// Decodes a JPEG or PNG file to 8-bit RGB, turned as its EXIF orientation says.
///
/// Grey becomes three equal channels, CMYK and palettes become RGB, 16 bits become 8, transparency is left out. An ICC profile
/// is not applied. A file that ends too early is refused, never padded with grey; damage in the middle that leaves the file's
/// structure whole cannot be told from an image. The pixels are the same on every machine.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, BadImage> {
    if bytes.is_empty() {
        return Err(BadImage::new("is empty"));
    }
    let (pixels, orientation) = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes)?,
        Ok(ImageFormat::Png) => png(bytes)?,
        Ok(format) => return Err(BadImage::new(format!("is {format:?}, neither JPEG nor PNG"))),
        Err(_) if looks_like_text(bytes) => return Err(BadImage::new("is text, not an image")),
        Err(_) => return Err(BadImage::new("is neither JPEG nor PNG")),
    };
    if orientation == Orientation::NoTransforms {
        return Ok(pixels);
    }
    let mut upright = DynamicImage::ImageRgb8(pixels);
    upright.apply_orientation(orientation);
    Ok(upright.into_rgb8())
}

fn png(bytes: &[u8]) -> Result<(RgbImage, Orientation), BadImage> {
    let mut limits = Limits::default();
    // Up to 16 bits in four channels.
    limits.max_alloc = Some(MAX_PIXELS * 8);
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(bad_png)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let pixels = DynamicImage::from_decoder(decoder).map_err(bad_png)?.into_rgb8();
    Ok((pixels, orientation))
}

fn bad_png(error: ImageError) -> BadImage {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            BadImage::new("is truncated: the PNG ends too early")
        }
        ImageError::Decoding(error) => BadImage::new(format!("is a damaged PNG: {error}")),
        error => BadImage::new(format!("cannot be decoded: {error}")),
    }
}

/// Refuses an image that has no pixels or claims more than [`MAX_PIXELS`].
pub(super) fn check_size(width: u32, height: u32) -> Result<(), BadImage> {
    if width == 0 || height == 0 {
        return Err(BadImage::new(format!("claims {width}×{height} pixels")));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let limit = MAX_PIXELS / 1_000_000;
        return Err(BadImage::new(format!("claims {width}×{height} pixels; the limit is {limit} million")));
    }
    Ok(())
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(512)];
    start.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
