//! Resizes RGB images exactly as Pillow does, in integers.

mod axis;
mod lanes;
mod passes;
mod source;

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Pixels;
use super::planes::Planes;
use axis::Axis;
use lanes::Instructions;
use passes::Buffers;
use source::Source;

/// How the pixels of a resized image are made from those around them.
///
/// The names and the results are Pillow's. All but `nearest` widen with the scale, so that shrinking averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The nearest pixel, unchanged.
    Nearest,
    /// A triangle over 2 pixels.
    Bilinear,
    /// A cubic over 4 pixels, with a = −0.5; what Pillow's `resize` does when nothing is said.
    #[default]
    Bicubic,
    /// A windowed sinc over 6 pixels.
    Lanczos,
}

impl Filter {
    /// Half the width of the window, in pixels of the smaller image.
    const fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    libm::sin(x) / x
}

const CHANNELS: usize = 3;

/// Resizes images, keeping its tables and buffers from one image to the next.
#[derive(Debug, Default)]
pub struct Resizer {
    filter: Filter,
    horizontal: Axis,
    vertical: Axis,
    buffers: Buffers,
    /// For `nearest`: the columns and rows that are taken.
    taken: [Vec<usize>; 2],
}

impl Resizer {
    /// Prepares resizing by one filter.
    pub fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Resizes the whole of `image` to `size` (width and height, neither of which may be 0) into `target`, which must have
    /// room for exactly height × width × 3 bytes.
    pub fn resize(&mut self, image: &Pixels, size: (usize, usize), target: &mut [u8]) {
        self.resize_box(image, (image.across, image.down), size, target);
    }

    /// The same for some columns and rows of the image, which may begin and end within a pixel.
    pub fn resize_box(
        &mut self,
        image: &Pixels,
        (across, down): (Span, Span),
        (to_width, to_height): (usize, usize),
        target: &mut [u8],
    ) {
        assert!(to_width > 0 && to_height > 0, "an image has pixels");
        assert_eq!(target.len(), to_width * to_height * CHANNELS, "the target has the size that it says");
        let Pixels { bytes, width, height, .. } = image;
        let (width, height) = (*width, *height);
        if self.filter == Filter::Nearest {
            let [columns, rows] = &mut self.taken;
            nearest_positions(across, width, to_width, columns);
            nearest_positions(down, height, to_height, rows);
            nearest(bytes, width, columns, rows, target);
            return;
        }
        self.by_passes(image, (across, down), (to_width, to_height), target);
    }

    /// The same for an image whose brightness and colours are apart; the filter must not be `nearest`.
    pub(super) fn resize_planes(
        &mut self,
        image: &Planes<'_>,
        spans: (Span, Span),
        size: (usize, usize),
        target: &mut [u8],
    ) {
        assert!(size.0 > 0 && size.1 > 0 && self.filter != Filter::Nearest, "an image has pixels, of which all count");
        assert_eq!(target.len(), size.0 * size.1 * CHANNELS, "the target has the size that it says");
        self.by_passes(image, spans, size, target);
    }

    fn by_passes(
        &mut self,
        source: &impl Source,
        (across, down): (Span, Span),
        (to_width, to_height): (usize, usize),
        target: &mut [u8],
    ) {
        let (width, height) = source.size();
        let Self { filter, horizontal, vertical, buffers, taken: _ } = self;
        let across = (across != Span::all_of(width) || width != to_width).then(|| {
            horizontal.prepare(*filter, across, width, to_width);
            &*horizontal
        });
        let down = (down != Span::all_of(height) || height != to_height).then(|| {
            vertical.prepare(*filter, down, height, to_height);
            &*vertical
        });
        passes::resize(Instructions::of_this_processor(), source, (across, down), buffers, target);
    }
}

/// Columns or rows of an image, in pixels from its edge; in single precision, as Pillow keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// Where it begins.
    pub start: f32,
    /// Where it ends.
    pub end: f32,
}

impl Span {
    /// All pixels of a row or column.
    pub fn all_of(side: usize) -> Self {
        Self { start: 0.0, end: side as f32 }
    }

    /// The same pixels counted from the other end of a row or column of `side`.
    pub fn mirrored(self, side: usize) -> Self {
        Self { start: side as f32 - self.end, end: side as f32 - self.start }
    }

    /// How many pixels.
    pub fn length(self) -> f32 {
        self.end - self.start
    }
}

/// Takes the pixels at these columns and rows of an image of `width` columns.
fn nearest(image: &[u8], width: usize, columns: &[usize], rows: &[usize], target: &mut [u8]) {
    for (row, y) in target.chunks_exact_mut(columns.len() * CHANNELS).zip(rows) {
        let source = &image[y * width * CHANNELS..][..width * CHANNELS];
        for (pixel, x) in row.chunks_exact_mut(CHANNELS).zip(columns) {
            pixel.copy_from_slice(&source[x * CHANNELS..][..CHANNELS]);
        }
    }
}

/// The nearest source position of each target position; adds the scale up as Pillow does, so that ties fall alike.
fn nearest_positions(span: Span, from: usize, to: usize, positions: &mut Vec<usize>) {
    let scale = f64::from(span.length()) / to as f64;
    let mut position = f64::from(span.start) + scale * 0.5;
    positions.clear();
    positions.extend((0..to).map(|_| {
        let nearest = (position as usize).min(from - 1);
        position += scale;
        nearest
    }));
}

#[cfg(test)]
mod tests;
