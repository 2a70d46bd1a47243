//! JPEG files: their structure, checked before decoding, and their pixels, whole or at a part of the size.

mod frame;
mod huffman;
mod idct;
mod reduced;

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::Pixels;
use super::decode::{BadImage, check_size};
use super::planes::Planes;
use frame::{EXIF, Frame};
pub(super) use reduced::Scratch;

/// Decodes a JPEG file to RGB as it is stored, and says how it must be turned.
pub(super) fn decode(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    let Survey { width, height, orientation } = survey(bytes)?;
    check_size(width, height)?;
    decode_with(bytes, DecoderOptions::new_fast(), image)?;
    Ok(orientation)
}

/// Decodes at a half, a quarter or an eighth of the size, and says how the image must be turned.
///
/// `least` says which fraction of an upright image of a width and height must be left. None where no such reduction will
/// do, or where the file is not of the usual sort or damaged: then [`decode`] is to be asked.
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

/// The byte at which the codes of a damaged file stop making sense; none for the sorts of file that only the whole decoder
/// knows, and where the damage is not in the codes.
fn damage_offset(bytes: &[u8]) -> Option<usize> {
    let frame = Frame::read(bytes)?;
    let offset = reduced::damage(&frame)?;
    Some(bytes.len() - frame.scan.len() + offset)
}

/// Whether turning makes width of height.
fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Decodes with the given choice of SIMD; the choice must not matter, and a test sees to it.
fn decode_with(bytes: &[u8], options: DecoderOptions, image: &mut Pixels) -> Result<(), BadImage> {
    // Strict: what other decoders paint grey is an error here. No image may change because half of it is missing.
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

/// What the segments of a JPEG say.
struct Survey {
    width: u32,
    height: u32,
    /// How the first EXIF block says that the image must be turned.
    orientation: Orientation,
}

/// Walks over the segments of a JPEG up to its end marker.
///
/// Decoders fill up what is missing at the end of a file; this is how a half-copied image is noticed.
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

/// What an EXIF block says of how the image must be turned.
fn orientation(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
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
mod tests;
