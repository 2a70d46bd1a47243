//! Images as separate luma and chroma planes, as stored in JPEGs.

use super::{Pixels, Span};

/// The neutral chroma value.
pub(super) const NO_COLOUR: u8 = 128;

/// An image with separate luma and chroma planes, which may extend beyond it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes<'a> {
    /// The luma plane.
    pub(super) luma: &'a [u8],
    /// The Cb and Cr planes; `None` for grey.
    pub(super) colours: Option<[&'a [u8]; 2]>,
    /// The row stride of each plane in bytes.
    pub(super) stride: usize,
    /// The width in pixels.
    pub(super) width: usize,
    /// The height in pixels.
    pub(super) height: usize,
    /// The columns covered by the image.
    pub(super) across: Span,
    /// The rows covered by the image.
    pub(super) down: Span,
}

impl Planes<'_> {
    /// Converts to RGB.
    pub(super) fn write_to(&self, image: &mut Pixels) {
        image.resize(self.width, self.height);
        (image.across, image.down) = (self.across, self.down);
        let rows = image.bytes.chunks_exact_mut(self.width * 3).zip(self.luma.chunks_exact(self.stride));
        let Some([blue, red]) = self.colours else {
            for (target, luma) in rows {
                for (pixel, value) in target.chunks_exact_mut(3).zip(luma) {
                    pixel.fill(*value);
                }
            }
            return;
        };
        let chroma = blue.chunks_exact(self.stride).zip(red.chunks_exact(self.stride));
        for ((target, luma), (blue, red)) in rows.zip(chroma) {
            for (((pixel, luma), blue), red) in target.chunks_exact_mut(3).zip(luma).zip(blue).zip(red) {
                pixel.copy_from_slice(&rgb(*luma, *blue, *red));
            }
        }
    }
}

/// Converts YCbCr to RGB (JFIF 1.02: full-range BT.601) with 16 fractional bits, as in libjpeg's `jdcolor.c`.
#[inline(always)]
pub(super) fn rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, blue, red) = (i32::from(luma) << 16, i32::from(blue) - 128, i32::from(red) - 128);
    let byte = |value: i32| ((value + HALF) >> 16).clamp(0, 255) as u8;
    [byte(luma + 91881 * red), byte(luma - 22554 * blue - 46802 * red), byte(luma + 116130 * blue)]
}
