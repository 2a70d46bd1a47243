//! JPEG decoding, at full or reduced size, with validation of the file structure.

mod frame;
mod huffman;
mod idct;
mod reduced;

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::pixels::{BadImage, Pixels, check_size};
use super::planes::Planes;
use frame::{EXIF, Frame};
pub(super) use reduced::Scratch;

/// Decodes a JPEG file to RGB as stored; returns its orientation.
pub(super) fn decode(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    let Survey { width, height, orientation } = survey(bytes)?;
    check_size(width, height)?;
    decode_with(bytes, DecoderOptions::new_fast(), image)?;
    Ok(orientation)
}

/// Decodes at a half, a quarter or an eighth of the size; returns the orientation.
///
/// `least` returns the minimum scale for an upright image of the given width and height. `None` if no reduction is
/// possible, or if the file is unusual or corrupt; the caller must then use [`decode`].
pub(super) fn decode_reduced<'a>(
    bytes: &[u8],
    least: impl Fn(usize, usize) -> f64,
    scratch: &'a mut Scratch,
) -> Option<(Planes<'a>, Orientation)> {
    let frame = Frame::read(bytes)?;
    check_size(frame.width as u32, frame.height as u32).ok()?;
    let orientation = orientation(frame.exif);
    let (width, height) = if swaps(orientation) { (frame.height, frame.width) } else { (frame.width, frame.height) };
    let eighths = reduced::eighths(least(width, height))?;
    Some((reduced::decode(&frame, eighths, scratch)?, orientation))
}

/// The byte offset at which the entropy-coded data of a corrupt file becomes invalid. `None` for files that only the
/// full decoder supports, and for corruption elsewhere.
fn damage_offset(bytes: &[u8]) -> Option<usize> {
    let frame = Frame::read(bytes)?;
    let offset = reduced::damage(&frame)?;
    Some(bytes.len() - frame.scan.len() + offset)
}

/// Whether the orientation swaps width and height.
fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Decodes with the given SIMD options, which must not affect the result; a test verifies that.
fn decode_with(bytes: &[u8], options: DecoderOptions, image: &mut Pixels) -> Result<(), BadImage> {
    // Strict: what other decoders paint grey is an error here, so that no image changes because half of it is missing.
    let options = options
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let damaged =
        |error: &dyn std::fmt::Display| BadImage::new(format!("is a damaged JPEG: {error}")).at(damage_offset(bytes));
    decoder.decode_headers().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged(&"it has no size"))?;
    if decoder.output_buffer_size() != Some(width * height * 3) {
        return Err(BadImage::new("has colours that cannot become RGB"));
    }
    image.resize(width, height);
    decoder.decode_into(&mut image.bytes).map_err(|error| damaged(&error))
}

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const EXIF_SEGMENT: u8 = 0xe1;

/// The information in a JPEG's segments.
struct Survey {
    width: u32,
    height: u32,
    /// The orientation in the first EXIF block.
    orientation: Orientation,
}

/// Walks over the segments of a JPEG up to its end marker.
///
/// Decoders pad missing data at the end of a file. This check detects truncated files.
fn survey(bytes: &[u8]) -> Result<Survey, BadImage> {
    let truncated =
        || BadImage::new(format!("is truncated: the JPEG has no end within its {} bytes", bytes.len())).at(bytes.len());
    let (mut size, mut exif, mut scanned) = (None, None, false);
    let mut position = 0;
    loop {
        position = next_marker(bytes, position).ok_or_else(truncated)?;
        let marker = bytes[position];
        position += 1;
        match marker {
            END_OF_IMAGE => break,
            // Markers without a segment: restarts, and the start of the image.
            START_OF_IMAGE | 0x01 | 0xd0..=0xd7 => {}
            _ => {
                let length = bytes.get(position..position + 2).ok_or_else(truncated)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                let segment = bytes.get(position..position + length).ok_or_else(truncated)?;
                // A start of frame of any coding process; c4, c8 and cc are other markers.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) && segment.len() >= 7 {
                    let value = |i: usize| u32::from(u16::from_be_bytes([segment[i], segment[i + 1]]));
                    size.get_or_insert((value(5), value(3)));
                }
                let content = segment.get(2..).unwrap_or_default();
                if marker == EXIF_SEGMENT && !scanned && content.starts_with(EXIF) {
                    exif.get_or_insert(&content[EXIF.len()..]);
                }
                scanned |= marker == START_OF_SCAN;
                if marker == START_OF_SCAN && size.is_none() {
                    break;
                }
                position += length;
            }
        }
    }
    let (width, height) = size.ok_or_else(|| BadImage::new("is a damaged JPEG: it has no frame"))?;
    if height == 0 {
        return Err(BadImage::new("is a JPEG that tells its height behind the pixels, which is not supported"));
    }
    Ok(Survey { width, height, orientation: orientation(exif) })
}

/// The orientation in an EXIF block.
fn orientation(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// The position of the next marker's second byte; skips scan data, stuffed zeros and fill bytes.
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
mod tests;
