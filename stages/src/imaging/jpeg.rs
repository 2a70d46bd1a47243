//! JPEG files: their structure, checked before decoding, and their pixels.

use image::RgbImage;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::{BadImage, check_size};

/// Decodes a JPEG file to RGB as it is stored, and says how it must be turned.
pub(super) fn decode(bytes: &[u8]) -> Result<(RgbImage, Orientation), BadImage> {
    let (width, height) = survey(bytes)?;
    check_size(width, height)?;
    decode_with(bytes, DecoderOptions::new_fast())
}

/// Decodes with the given choice of SIMD; the choice must not matter, and a test sees to it.
fn decode_with(bytes: &[u8], options: DecoderOptions) -> Result<(RgbImage, Orientation), BadImage> {
    // Strict: what other decoders paint grey is an error here. No image may change because half of it is missing.
    let options = options
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| BadImage::new(format!("is a damaged JPEG: {error}")))?;
    let (width, height) = decoder.dimensions().expect("a decoded image has dimensions");
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let image = u32::try_from(width)
        .ok()
        .zip(u32::try_from(height).ok())
        .and_then(|(width, height)| RgbImage::from_raw(width, height, pixels))
        .ok_or_else(|| BadImage::new("has colours that cannot become RGB"))?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Walks over the segments of a JPEG up to its end marker and returns the width and height that it claims.
///
/// Decoders fill up what is missing at the end of a file; this is how a half-copied image is noticed.
fn survey(bytes: &[u8]) -> Result<(u32, u32), BadImage> {
    let truncated = || BadImage::new(format!("is truncated: the JPEG has no end within its {} bytes", bytes.len()));
    let mut size = None;
    let mut position = 0;
    loop {
        position = next_marker(bytes, position).ok_or_else(truncated)?;
        let marker = bytes[position];
        position += 1;
        match marker {
            END_OF_IMAGE => break,
            // Markers without a segment: restarts, and the start itself.
            START_OF_IMAGE | 0x01 | 0xd0..=0xd7 => {}
            _ => {
                let length = bytes.get(position..position + 2).ok_or_else(truncated)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                let segment = bytes.get(position..position + length).ok_or_else(truncated)?;
                // A start of frame, in any of its codings; c4, c8 and cc are something else.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) && segment.len() >= 7 {
                    let value = |i: usize| u32::from(u16::from_be_bytes([segment[i], segment[i + 1]]));
                    size.get_or_insert((value(5), value(3)));
                }
                if marker == START_OF_SCAN && size.is_none() {
                    break;
                }
                position += length;
            }
        }
    }
    size.ok_or_else(|| BadImage::new("is a damaged JPEG: it has no frame"))
}

/// The position of the next marker's second byte; the data of a scan, stuffed zeros and fill bytes are passed over.
fn next_marker(bytes: &[u8], mut position: usize) -> Option<usize> {
    loop {
        position += bytes.get(position..)?.iter().position(|byte| *byte == 0xff)? + 1;
        match *bytes.get(position)? {
            0x00 => position += 1,
            0xff => {}
            _ => return Some(position),
        }
    }
}

#[cfg(test)]
#[path = "jpeg_tests.rs"]
mod tests;
