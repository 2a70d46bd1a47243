//! Resizes RGB images exactly as Pillow does, in integers.

use std::f64::consts::PI;

use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Resizes images to one size, keeping its tables and buffers from one image to the next.
#[derive(Debug)]
pub struct Resizer {
    filter: Filter,
    width: usize,
    height: usize,
    horizontal: Axis,
    vertical: Axis,
    /// The image after the horizontal pass.
    narrowed: Vec<u8>,
    /// One row of sums of the vertical pass.
    sums: Vec<i32>,
}

impl Resizer {
    /// Prepares resizing to `width` × `height`, neither of which may be 0.
    pub fn new(filter: Filter, width: usize, height: usize) -> Self {
        assert!(width > 0 && height > 0, "an image has pixels");
        let none = Axis::default();
        Self { filter, width, height, horizontal: none.clone(), vertical: none, narrowed: Vec::new(), sums: Vec::new() }
    }

    /// Resizes `image` into `target`, which must have room for exactly height × width × 3 bytes.
    pub fn resize(&mut self, image: &RgbImage, target: &mut [u8]) {
        assert_eq!(target.len(), self.width * self.height * CHANNELS, "the target has the resizer's size");
        let (width, height) = (image.width() as usize, image.height() as usize);
        if self.filter == Filter::Nearest {
            nearest(image.as_raw(), (width, height), target, (self.width, self.height));
            return;
        }
        self.horizontal.prepare(self.filter, width, self.width);
        self.vertical.prepare(self.filter, height, self.height);
        let narrowed = if width == self.width {
            image.as_raw()
        } else {
            self.narrowed.resize(self.width * height * CHANNELS, 0);
            let rows = image.as_raw().chunks_exact(width * CHANNELS);
            for (row, narrow) in rows.zip(self.narrowed.chunks_exact_mut(self.width * CHANNELS)) {
                resize_row(&self.horizontal, row, narrow);
            }
            &self.narrowed
        };
        if height == self.height {
            target.copy_from_slice(narrowed);
        } else {
            self.sums.resize(self.width * CHANNELS, 0);
            resize_columns(&self.vertical, narrowed, &mut self.sums, target);
        }
    }
}

/// Which pixels of a row (or column) each resized pixel is made from, and their weights.
#[derive(Debug, Clone, Default)]
struct Axis {
    from: usize,
    to: usize,
    /// Per resized pixel: its first source pixel and where its weights are.
    windows: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<i32>,
}

impl Axis {
    /// Makes the table for resizing `from` pixels to `to`, unless it is there already.
    ///
    /// Follows `precompute_coeffs` of Pillow's `Resample.c` operation by operation.
    fn prepare(&mut self, filter: Filter, from: usize, to: usize) {
        if (self.from, self.to) == (from, to) {
            return;
        }
        (self.from, self.to) = (from, to);
        self.windows.clear();
        self.weights.clear();
        let scale = from as f64 / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let step = 1.0 / filter_scale;
        let mut window = Vec::new();
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
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

fn resize_row(axis: &Axis, row: &[u8], target: &mut [u8]) {
    for (pixel, (first, weights)) in target.chunks_exact_mut(CHANNELS).zip(&axis.windows) {
        let mut sums = [HALF; CHANNELS];
        let sources = row[first * CHANNELS..].chunks_exact(CHANNELS);
        for (source, weight) in sources.zip(&axis.weights[weights.clone()]) {
            for channel in 0..CHANNELS {
                sums[channel] += i32::from(source[channel]) * weight;
            }
        }
        for channel in 0..CHANNELS {
            pixel[channel] = to_byte(sums[channel]);
        }
    }
}

fn resize_columns(axis: &Axis, image: &[u8], sums: &mut [i32], target: &mut [u8]) {
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

/// Takes the nearest pixels; the sizes are width and height.
fn nearest(image: &[u8], from: (usize, usize), target: &mut [u8], to: (usize, usize)) {
    let columns: Vec<usize> = nearest_positions(from.0, to.0).collect();
    let rows = target.chunks_exact_mut(to.0 * CHANNELS);
    for (row, y) in rows.zip(nearest_positions(from.1, to.1)) {
        let source = &image[y * from.0 * CHANNELS..][..from.0 * CHANNELS];
        for (pixel, x) in row.chunks_exact_mut(CHANNELS).zip(&columns) {
            pixel.copy_from_slice(&source[x * CHANNELS..][..CHANNELS]);
        }
    }
}

/// The nearest source position of each target position; adds the scale up as Pillow does, so that ties fall alike.
fn nearest_positions(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let scale = from as f64 / to as f64;
    let mut position = scale * 0.5;
    (0..to).map(move |_| {
        let nearest = (position as usize).min(from - 1);
        position += scale;
        nearest
    })
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
