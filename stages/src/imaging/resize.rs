//! Resizes RGB images exactly as Pillow does, in integers.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Pixels;

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

/// The number of binary digits behind the point of a weight: 32 less 8 for the pixel and 2 for what overshoots.
const PRECISION: u32 = 22;

/// Resizes images, keeping its tables and buffers from one image to the next.
#[derive(Debug, Default)]
pub struct Resizer {
    filter: Filter,
    horizontal: Axis,
    vertical: Axis,
    tiles: Tiles,
    /// The image after the horizontal pass.
    narrowed: Vec<u8>,
    /// One row of sums of the vertical pass.
    sums: Vec<i32>,
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
        let narrowed = if across == Span::all_of(width) && width == to_width {
            bytes
        } else {
            self.horizontal.prepare(self.filter, across, width, to_width);
            self.narrowed.resize(to_width * height * CHANNELS, 0);
            resize_rows(&self.horizontal, bytes, width, &mut self.tiles, &mut self.narrowed, to_width);
            &self.narrowed
        };
        if down == Span::all_of(height) && height == to_height {
            target.copy_from_slice(narrowed);
        } else {
            self.vertical.prepare(self.filter, down, height, to_height);
            self.sums.resize(to_width * CHANNELS, 0);
            resize_columns(&self.vertical, narrowed, &mut self.sums, target);
        }
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

/// Which pixels of a row (or column) each resized pixel is made from, and their weights.
#[derive(Debug, Clone, Default)]
struct Axis {
    /// What the table was made for: the filter, the span, the source's pixels and the target's.
    of: Option<(Filter, Span, usize, usize)>,
    /// Per resized pixel: its first source pixel and where its weights are.
    windows: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<i32>,
}

impl Axis {
    /// Makes the table for resizing a span of `from` pixels to `to`, unless it is there already.
    ///
    /// Follows `precompute_coeffs` of Pillow's `Resample.c` operation by operation.
    fn prepare(&mut self, filter: Filter, span: Span, from: usize, to: usize) {
        if self.of == Some((filter, span, from, to)) {
            return;
        }
        self.of = Some((filter, span, from, to));
        self.windows.clear();
        self.weights.clear();
        let scale = f64::from(span.length()) / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let step = 1.0 / filter_scale;
        let mut window = Vec::new();
        for i in 0..to {
            let center = f64::from(span.start) + (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            window.clear();
            window.extend((first..end).map(|x| filter.weight((x as f64 - center + 0.5) * step)));
            let mut total = 0.0;
            for weight in &window {
                total += weight;
            }
            let start = self.weights.len();
            self.weights
                .extend(window.iter().map(|weight| fixed_point(if total == 0.0 { *weight } else { weight / total })));
            self.windows.push((first, start..self.weights.len()));
        }
    }
}

/// A weight in fixed point, rounded half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

const HALF: i32 = 1 << (PRECISION - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Makes a function of one that is always inlined, once for processors with AVX2 and once for all; which of them runs
/// changes no bit, because the sums are of whole numbers.
macro_rules! for_every_processor {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2($($argument: $type),*) {
                    $body($($argument),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was asked a moment ago.
                    unsafe { with_avx2($($argument),*) };
                    return;
                }
            }
            $body($($argument),*);
        }
    };
}

for_every_processor! {
    /// Resizes rows of `width` pixels to rows of `narrow` pixels.
    fn resize_rows(axis: &Axis, image: &[u8], width: usize, tiles: &mut Tiles, target: &mut [u8], narrow: usize)
        = resize_rows_anywhere
}

for_every_processor! {
    /// Resizes columns; `sums` is as long as a row.
    fn resize_columns(axis: &Axis, image: &[u8], sums: &mut [i32], target: &mut [u8]) = resize_columns_anywhere
}

/// Rows that are worked on together, each in a lane.
const LANES: usize = 16;

/// Some rows turned so that neighbours in memory are neighbours in the column: before and after resizing.
#[derive(Debug, Default)]
struct Tiles {
    wide: Vec<[u8; LANES]>,
    narrow: Vec<[u8; LANES]>,
}

#[inline(always)]
fn resize_rows_anywhere(axis: &Axis, image: &[u8], width: usize, tiles: &mut Tiles, target: &mut [u8], narrow: usize) {
    let Tiles { wide, narrow: narrowed } = tiles;
    wide.resize(width * CHANNELS, [0; LANES]);
    narrowed.resize(narrow * CHANNELS, [0; LANES]);
    let blocks = image.chunks(width * CHANNELS * LANES).zip(target.chunks_mut(narrow * CHANNELS * LANES));
    for (rows, targets) in blocks {
        for (lane, row) in rows.chunks_exact(width * CHANNELS).enumerate() {
            for (values, value) in wide.iter_mut().zip(row) {
                values[lane % LANES] = *value;
            }
        }
        for (pixel, (first, weights)) in narrowed.chunks_exact_mut(CHANNELS).zip(&axis.windows) {
            let weights = &axis.weights[weights.clone()];
            let sources = &wide[first * CHANNELS..][..weights.len() * CHANNELS];
            for (channel, target) in pixel.iter_mut().enumerate() {
                let mut sums = [HALF; LANES];
                for (source, weight) in sources.chunks_exact(CHANNELS).zip(weights) {
                    for lane in 0..LANES {
                        sums[lane] += i32::from(source[channel][lane]) * weight;
                    }
                }
                for lane in 0..LANES {
                    target[lane] = to_byte(sums[lane]);
                }
            }
        }
        for (lane, row) in targets.chunks_exact_mut(narrow * CHANNELS).enumerate() {
            for (value, values) in row.iter_mut().zip(&*narrowed) {
                *value = values[lane % LANES];
            }
        }
    }
}

#[inline(always)]
fn resize_columns_anywhere(axis: &Axis, image: &[u8], sums: &mut [i32], target: &mut [u8]) {
    let stride = sums.len();
    for (row, (first, weights)) in target.chunks_exact_mut(stride).zip(&axis.windows) {
        sums.fill(HALF);
        let sources = image[first * stride..].chunks_exact(stride);
        for (source, weight) in sources.zip(&axis.weights[weights.clone()]) {
            for (sum, value) in sums.iter_mut().zip(source) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (value, sum) in row.iter_mut().zip(&*sums) {
            *value = to_byte(*sum);
        }
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
#[path = "resize_tests.rs"]
mod tests;
