//! JPEG decoding, at full or reduced size, with validation of the file structure.

mod frame;
mod huffman;
mod idct;
mod reduced;
mod survey;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use jpeg_decoder::{ColorTransform, PixelFormat};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::pixels::{BadImage, Pixels, check_size};
use super::planes::Planes;
use frame::Frame;
pub(super) use reduced::Scratch;
use survey::{Colours, Route, Survey, orientation};

/// Decodes a JPEG file to RGB as stored; returns its orientation.
pub(super) fn decode(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    let survey = Survey::of(bytes)?;
    let (width, height) = survey.size()?;
    if height > 0 {
        check_size(width, height)?;
    }
    let route = survey.route()?;
    // The libraries may panic on damaged files.
    let decoded = catch_unwind(AssertUnwindSafe(|| match route {
        Route::Zune => decode_with(&survey.cleaned(), DecoderOptions::new_fast(), image),
        Route::JpegDecoder(colours) => decode_with_jpeg_decoder(&survey, colours, image),
    }));
    decoded.unwrap_or_else(|_| Err(BadImage::new("is a damaged JPEG: its decoder gave up")))?;
    if let (Route::Zune, Some(offset)) = (route, damage_offset(bytes)) {
        return Err(BadImage::new("is a damaged JPEG: its codes are invalid").at(offset));
    }
    Ok(survey.orientation())
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
        return Err(BadImage::new("is a JPEG with colours that cannot become RGB, which is not supported"));
    }
    image.resize(width, height);
    decoder.decode_into(&mut image.bytes).map_err(|error| damaged(&error))
}

/// Decodes with jpeg-decoder, without SIMD, so that the pixels are the same on every machine.
fn decode_with_jpeg_decoder(survey: &Survey<'_>, colours: Colours, image: &mut Pixels) -> Result<(), BadImage> {
    let damaged = |error: &dyn std::fmt::Display| BadImage::new(format!("is a damaged JPEG: {error}"));
    let bytes = survey.cleaned();
    let mut decoder = jpeg_decoder::Decoder::new(&bytes[..]);
    decoder.set_color_transform(match colours {
        Colours::Grey => ColorTransform::Grayscale,
        Colours::Rgb => ColorTransform::RGB,
        Colours::YCbCr => ColorTransform::YCbCr,
        Colours::Cmyk => ColorTransform::CMYK,
        Colours::Ycck => ColorTransform::YCCK,
    });
    let pixels = decoder.decode().map_err(|error| match error {
        jpeg_decoder::Error::Unsupported(feature) => {
            BadImage::new(format!("is a JPEG that needs a feature which is not supported ({feature:?})"))
        }
        error => damaged(&error),
    })?;
    let info = decoder.info().ok_or_else(|| damaged(&"it has no size"))?;
    image.resize(usize::from(info.width), usize::from(info.height));
    let target = image.bytes.chunks_exact_mut(3);
    match info.pixel_format {
        PixelFormat::L8 => target.zip(&pixels).for_each(|(pixel, grey)| pixel.fill(*grey)),
        PixelFormat::RGB24 => target.zip(pixels.chunks_exact(3)).for_each(|(pixel, rgb)| pixel.copy_from_slice(rgb)),
        PixelFormat::CMYK32 => target.zip(pixels.chunks_exact(4)).for_each(|(pixel, cmyk)| {
            pixel.copy_from_slice(&rgb_of_cmyk(cmyk));
        }),
        PixelFormat::L16 => return Err(BadImage::new("is a JPEG of 16 bits per value, which is not supported")),
    }
    Ok(())
}

/// The colour of an ink mixture whose values are inverted, as Adobe's programs write them and Pillow reads them
/// (`cmyk2rgb` in `Convert.c`).
fn rgb_of_cmyk(cmyk: &[u8]) -> [u8; 3] {
    let white = 255 - cmyk[3];
    [0, 1, 2].map(|channel| {
        let product = u32::from(cmyk[channel]) * u32::from(white) + 128;
        let absorbed = ((product >> 8) + product) >> 8;
        white.saturating_sub(absorbed as u8)
    })
}

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
