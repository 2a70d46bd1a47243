//! Images as JPEGs keep them: brightness and colour apart.

use super::{Pixels, Span};

/// The value of both colours where there is none.
pub(super) const NO_COLOUR: u8 = 128;

/// An image whose brightness and colours are each by themselves; the planes may reach beyond it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes<'a> {
    /// Brightness.
    pub(super) luma: &'a [u8],
    /// How far blue and red differ from it; none for grey.
    pub(super) colours: Option<[&'a [u8]; 2]>,
    /// Bytes of a row of each plane.
    pub(super) stride: usize,
    /// In pixels.
    pub(super) width: usize,
    /// In pixels.
    pub(super) height: usize,
    /// The columns that the image fills.
    pub(super) across: Span,
    /// The rows that the image fills.
    pub(super) down: Span,
}

impl Planes<'_> {
    /// Makes RGB of it.
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

/// Red, green and blue of brightness and colours (JFIF 1.02: BT.601 over the whole range), in 16 binary digits as libjpeg's
/// `jdcolor.c` makes them.
#[inline(always)]
pub(super) fn rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, blue, red) = (i32::from(luma) << 16, i32::from(blue) - 128, i32::from(red) - 128);
    let byte = |value: i32| ((value + HALF) >> 16).clamp(0, 255) as u8;
    [byte(luma + 91881 * red), byte(luma - 22554 * blue - 46802 * red), byte(luma + 116130 * blue)]
}
