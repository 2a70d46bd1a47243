//! Decodes image files to upright RGB pixels.

use std::fmt;
use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits, RgbImage};

use super::jpeg;
use super::planes::Planes;
use super::resize::Span;

/// Maximum image size in pixels. Larger images are rejected before memory is allocated.
pub const MAX_PIXELS: u64 = 100_000_000;

/// A problem with an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadImage {
    /// The reason, as the end of a sentence that begins with the file's name: `is truncated`.
    pub reason: String,
    /// The byte offset at which the problem was detected, if known.
    pub offset: Option<usize>,
}

impl BadImage {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), offset: None }
    }

    pub(super) fn at(mut self, offset: impl Into<Option<usize>>) -> Self {
        self.offset = offset.into();
        self
    }
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match self.offset {
            Some(offset) => write!(f, " (noticed at byte {offset})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BadImage {}

/// An RGB image with 8 bits per channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pixels {
    /// The pixels, height × width × 3 bytes.
    pub bytes: Vec<u8>,
    /// The width in pixels.
    pub width: usize,
    /// The height in pixels.
    pub height: usize,
    /// The columns covered by the image: all, unless it was reduced from a width that is not a multiple of the reduction.
    pub across: Span,
    /// The rows covered by the image.
    pub down: Span,
}

impl From<RgbImage> for Pixels {
    fn from(image: RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self { bytes: image.into_raw(), width, height, across: Span::all_of(width), down: Span::all_of(height) }
    }
}

impl Pixels {
    /// Resizes the buffer to an image of this size that covers it.
    pub(super) fn resize(&mut self, width: usize, height: usize) {
        self.bytes.resize(width * height * 3, 0);
        (self.width, self.height) = (width, height);
        (self.across, self.down) = (Span::all_of(width), Span::all_of(height));
    }

    /// Converts to an image of the `image` crate.
    pub fn into_image(self) -> RgbImage {
        let side = |side: usize| u32::try_from(side).expect("an image has fewer than 2^32 pixels in a row");
        RgbImage::from_raw(side(self.width), side(self.height), self.bytes)
            .expect("the number of bytes matches the size")
    }

    fn turn(&mut self, orientation: Orientation) {
        use Orientation as O;
        let (across, down) = (self.across, self.down);
        let (mirrored_across, mirrored_down) = (across.mirrored(self.width), down.mirrored(self.height));
        let spans = match orientation {
            O::NoTransforms => (across, down),
            O::FlipHorizontal => (mirrored_across, down),
            O::FlipVertical => (across, mirrored_down),
            O::Rotate180 => (mirrored_across, mirrored_down),
            O::Rotate90 => (mirrored_down, across),
            O::Rotate90FlipH => (down, across),
            O::Rotate270 => (down, mirrored_across),
            O::Rotate270FlipH => (mirrored_down, mirrored_across),
        };
        let mut image = DynamicImage::ImageRgb8(std::mem::take(self).into_image());
        image.apply_orientation(orientation);
        *self = image.into_rgb8().into();
        (self.across, self.down) = spans;
    }
}

/// Decodes images one after the other with reusable buffers.
#[derive(Default)]
pub struct Decoder {
    image: Pixels,
    scratch: jpeg::Scratch,
}

impl Decoder {
    /// Decodes a JPEG or PNG file to 8-bit RGB and applies its EXIF orientation.
    ///
    /// Grey images get three equal channels, CMYK and palettes are converted to RGB, 16 bits are reduced to 8, and
    /// alpha is dropped. ICC profiles are ignored. A truncated file is an error and is never padded with grey.
    /// Corruption that leaves the file's structure intact cannot be detected. The pixels are identical on every
    /// machine.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<&mut Pixels, BadImage> {
        let orientation = decode_whole(bytes, &mut self.image)?;
        Ok(self.upright(orientation))
    }

    /// Like [`decode`](Self::decode), but at a half, a quarter or an eighth of the size if possible: for baseline
    /// JPEGs in one scan.
    ///
    /// `least` returns the minimum scale for an upright image of the given width and height.
    pub fn decode_reduced(
        &mut self,
        bytes: &[u8],
        least: impl Fn(usize, usize) -> f64,
    ) -> Result<&mut Pixels, BadImage> {
        let orientation = match jpeg::decode_reduced(bytes, least, &mut self.scratch) {
            Some((planes, orientation)) => {
                planes.write_to(&mut self.image);
                orientation
            }
            None => decode_whole(bytes, &mut self.image)?,
        };
        Ok(self.upright(orientation))
    }

    /// The same, with luma and chroma planes kept separate if the file stores them that way and the image is upright.
    pub(super) fn decode_planes(
        &mut self,
        bytes: &[u8],
        least: impl Fn(usize, usize) -> f64,
    ) -> Result<Decoded<'_>, BadImage> {
        let Self { image, scratch } = self;
        let orientation = match jpeg::decode_reduced(bytes, least, scratch) {
            Some((planes, Orientation::NoTransforms)) => return Ok(Decoded::Planes(planes)),
            Some((planes, orientation)) => {
                planes.write_to(image);
                orientation
            }
            None => decode_whole(bytes, image)?,
        };
        if orientation != Orientation::NoTransforms {
            image.turn(orientation);
        }
        Ok(Decoded::Pixels(image))
    }

    fn upright(&mut self, orientation: Orientation) -> &mut Pixels {
        if orientation != Orientation::NoTransforms {
            self.image.turn(orientation);
        }
        &mut self.image
    }
}

/// A decoded image in the layout that is fastest to resize.
pub(super) enum Decoded<'a> {
    Planes(Planes<'a>),
    Pixels(&'a mut Pixels),
}

/// Decodes a file as stored; returns its orientation.
fn decode_whole(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, image),
        _ => other(bytes, image),
    }
}

/// Decodes one file like a [`Decoder`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, BadImage> {
    let mut decoder = Decoder::default();
    decoder.decode(bytes)?;
    Ok(decoder.image.into_image())
}

/// Decodes files other than JPEG.
fn other(bytes: &[u8], image: &mut Pixels) -> Result<Orientation, BadImage> {
    if bytes.is_empty() {
        return Err(BadImage::new("is empty"));
    }
    let (pixels, orientation) = match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => png(bytes)?,
        Ok(format) => {
            let name = format.extensions_str().first().map_or_else(String::new, |name| name.to_uppercase());
            return Err(BadImage::new(format!("is a {name}, neither JPEG nor PNG")));
        }
        Err(_) if looks_like_text(bytes) => return Err(BadImage::new("is text, not an image")),
        Err(_) => return Err(BadImage::new("is neither JPEG nor PNG")),
    };
    *image = pixels.into();
    Ok(orientation)
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

/// Rejects an image without pixels or with more than [`MAX_PIXELS`].
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
