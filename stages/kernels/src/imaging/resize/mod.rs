//! Resizes RGB images with integer arithmetic, bit-identical to Pillow.

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

/// The resampling filter.
///
/// Names and results are Pillow's. All filters except `nearest` widen with the scale, so that downscaling averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// A triangle filter over 2 pixels.
    Bilinear,
    /// A cubic filter over 4 pixels with a = −0.5; the default of Pillow's `resize`.
    #[default]
    Bicubic,
    /// A windowed sinc filter over 6 pixels.
    Lanczos,
}

impl Filter {
    /// The radius of the filter, in pixels of the smaller image.
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

/// Resizes images one after the other with reusable tables and buffers.
#[derive(Debug, Default)]
pub struct Resizer {
    filter: Filter,
    horizontal: Axis,
    vertical: Axis,
    buffers: Buffers,
    /// For `nearest`: the selected columns and rows.
    taken: [Vec<usize>; 2],
}

impl Resizer {
    /// Creates a resizer with the given filter.
    pub fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Resizes all of `image` to `size` (width and height, both nonzero) into `target`, which must have exactly
    /// height × width × 3 bytes.
    pub fn resize(&mut self, image: &Pixels, size: (usize, usize), target: &mut [u8]) {
        self.resize_box(image, (image.across, image.down), size, target);
    }

    /// The same for a range of columns and rows, which may start and end within a pixel.
    pub fn resize_box(
        &mut self,
        image: &Pixels,
        (across, down): (Span, Span),
        (to_width, to_height): (usize, usize),
        target: &mut [u8],
    ) {
        assert!(to_width > 0 && to_height > 0, "the target size must not be 0");
        assert_eq!(target.len(), to_width * to_height * CHANNELS, "the target must match the size");
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

    /// The same for an image with separate planes; the filter must not be `nearest`.
    pub(super) fn resize_planes(
        &mut self,
        image: &Planes<'_>,
        spans: (Span, Span),
        size: (usize, usize),
        target: &mut [u8],
    ) {
        assert!(
            size.0 > 0 && size.1 > 0 && self.filter != Filter::Nearest,
            "the target size must not be 0, and the filter must not be `nearest`"
        );
        assert_eq!(target.len(), size.0 * size.1 * CHANNELS, "the target must match the size");
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

/// A range of columns or rows of an image in pixels, in single precision as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// The start.
    pub start: f32,
    /// The end.
    pub end: f32,
}

impl Span {
    /// All pixels along an axis.
    pub fn all_of(side: usize) -> Self {
        Self { start: 0.0, end: side as f32 }
    }

    /// The same range counted from the other end of an axis of length `side`.
    pub fn mirrored(self, side: usize) -> Self {
        Self { start: side as f32 - self.end, end: side as f32 - self.start }
    }

    /// The number of pixels.
    pub fn length(self) -> f32 {
        self.end - self.start
    }
}

/// Selects these columns and rows of an image that is `width` pixels wide.
fn nearest(image: &[u8], width: usize, columns: &[usize], rows: &[usize], target: &mut [u8]) {
    for (row, y) in target.chunks_exact_mut(columns.len() * CHANNELS).zip(rows) {
        let source = &image[y * width * CHANNELS..][..width * CHANNELS];
        for (pixel, x) in row.chunks_exact_mut(CHANNELS).zip(columns) {
            pixel.copy_from_slice(&source[x * CHANNELS..][..CHANNELS]);
        }
    }
}

/// The nearest source index of each target index; accumulates the scale like Pillow, so that ties are resolved equally.
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
