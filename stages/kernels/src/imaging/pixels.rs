//! Decoded pixels, and what is wrong with files that have none.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::resize::Span;

/// Maximum image size in pixels. Larger images are rejected before memory is allocated.
pub const MAX_PIXELS: u64 = 100_000_000;

/// A problem with an image file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", offset.map_or(String::new(), |offset| format!(" (noticed at byte {offset})")))]
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

    pub(super) fn turn(&mut self, orientation: Orientation) {
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
