//! Max pooling, and its gradient.
//!
//! candle 0.11.1's `max_pool2d` is not used, because its backward pass gives a quarter of the gradient, in the wrong
//! places for odd sizes.

use super::kernel;
use crate::shape::Layout;

kernel! {
    /// Writes the maximum of each 2×2 window to a map of half the size; an odd last row or column is ignored.
    pub fn max_pool(input: Layout, output: Layout, values: &[f32], maxima: &mut [f32]) {
        forward(input, output, values, maxima)
    }
}

kernel! {
    /// Writes the gradient of the input: the gradient of a 2×2 window goes to its first maximum in row-major order, all
    /// others get 0.
    pub fn max_pool_gradient(input: Layout, output: Layout, values: &[f32], gradient: &[f32], result: &mut [f32]) {
        backward(input, output, values, gradient, result)
    }
}

/// Overlapping windows with padding, which never wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The layout of the input.
    pub input: Layout,
    /// The layout of the output.
    pub output: Layout,
    /// The height and width of a window.
    pub size: usize,
    /// The distance between windows.
    pub stride: usize,
    /// The padding above and to the left.
    pub padding: usize,
}

kernel! {
    /// Writes the maximum of each window.
    pub fn window_max(windows: Windows, values: &[f32], maxima: &mut [f32]) {
        largest_of_windows(windows, values, maxima)
    }
}

kernel! {
    /// Adds the gradient of each window to its first maximum in row-major order.
    pub fn window_max_gradient(windows: Windows, values: &[f32], gradient: &[f32], result: &mut [f32]) {
        window_gradients(windows, values, gradient, result)
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn forward(input: Layout, output: Layout, values: &[f32], maxima: &mut [f32]) {
    let channels = input.shape.channels;
    for y in 0..output.shape.height {
        let upper = input.row(values, 2 * y);
        let lower = input.row(values, 2 * y + 1);
        let maxima = output.row_mut(maxima, y);
        let windows = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
        for (maxima, (upper, lower)) in maxima.chunks_exact_mut(channels).zip(windows) {
            let ((a, b), (c, d)) = (upper.split_at(channels), lower.split_at(channels));
            for (i, maximum) in maxima.iter_mut().enumerate() {
                *maximum = larger(larger(a[i], b[i]), larger(c[i], d[i]));
            }
        }
    }
}

#[inline(always)]
fn backward(input: Layout, output: Layout, values: &[f32], gradient: &[f32], result: &mut [f32]) {
    let channels = input.shape.channels;
    for y in 0..output.shape.height {
        let gradient = output.row(gradient, y);
        let windows = input.row(values, 2 * y).chunks_exact(2 * channels);
        let windows = windows.zip(input.row(values, 2 * y + 1).chunks_exact(2 * channels));
        let (upper_output, lower_output) = input.two_rows_mut(result, 2 * y);
        let outputs = upper_output.chunks_exact_mut(2 * channels).zip(lower_output.chunks_exact_mut(2 * channels));
        for ((gradient, (upper, lower)), (upper_output, lower_output)) in
            gradient.chunks_exact(channels).zip(windows).zip(outputs)
        {
            let mut first = 0;
            while first + 16 <= channels {
                window::<16>(channels, first, [upper, lower, gradient], [&mut *upper_output, &mut *lower_output]);
                first += 16;
            }
            while first < channels {
                window::<1>(channels, first, [upper, lower, gradient], [&mut *upper_output, &mut *lower_output]);
                first += 1;
            }
        }
        if input.shape.width % 2 == 1 {
            upper_output[2 * output.shape.width * channels..].fill(0.0);
            lower_output[2 * output.shape.width * channels..].fill(0.0);
        }
    }
    if input.shape.height % 2 == 1 {
        input.row_mut(result, input.shape.height - 1).fill(0.0);
    }
}

/// `N` channels of one window: from the upper pair, the lower pair and the gradient to the gradients of the pairs.
#[inline(always)]
fn window<const N: usize>(channels: usize, first: usize, from: [&[f32]; 3], to: [&mut [f32]; 2]) {
    // Copies, so that the compiler can rule out aliasing between reads and writes.
    let take =
        |values: &[f32], at: usize| -> [f32; N] { *values[at..].first_chunk().expect("a block is within its pixel") };
    let [a, b] = [take(from[0], first), take(from[0], channels + first)];
    let [c, d] = [take(from[1], first), take(from[1], channels + first)];
    let gradient = take(from[2], first);
    let [mut e, mut f, mut g, mut h] = [[0.0; N]; 4];
    for i in 0..N {
        let largest = larger(larger(a[i], b[i]), larger(c[i], d[i]));
        let is_a = a[i] == largest;
        let is_b = !is_a & (b[i] == largest);
        let is_c = !is_a & !is_b & (c[i] == largest);
        let is_d = !is_a & !is_b & !is_c;
        e[i] = if is_a { gradient[i] } else { 0.0 };
        f[i] = if is_b { gradient[i] } else { 0.0 };
        g[i] = if is_c { gradient[i] } else { 0.0 };
        h[i] = if is_d { gradient[i] } else { 0.0 };
    }
    let [upper, lower] = to;
    upper[first..][..N].copy_from_slice(&e);
    upper[channels + first..][..N].copy_from_slice(&f);
    lower[first..][..N].copy_from_slice(&g);
    lower[channels + first..][..N].copy_from_slice(&h);
}

impl Windows {
    /// The pixels of the input that a window covers: their rows and columns.
    #[inline(always)]
    fn covered(self, y: usize, x: usize) -> impl Iterator<Item = (usize, usize)> {
        let range = |output: usize, length: usize| {
            let start = output * self.stride;
            start.saturating_sub(self.padding)..(start + self.size).saturating_sub(self.padding).min(length)
        };
        let columns = range(x, self.input.shape.width);
        range(y, self.input.shape.height).flat_map(move |row| columns.clone().map(move |column| (row, column)))
    }
}

#[inline(always)]
fn largest_of_windows(windows: Windows, values: &[f32], maxima: &mut [f32]) {
    let (channels, output) = (windows.input.shape.channels, windows.output);
    for y in 0..output.shape.height {
        for x in 0..output.shape.width {
            let maxima = &mut maxima[output.at(y, x)..][..channels];
            maxima.fill(f32::NEG_INFINITY);
            for (row, column) in windows.covered(y, x) {
                let values = &values[windows.input.at(row, column)..][..channels];
                maxima.iter_mut().zip(values).for_each(|(maximum, value)| *maximum = larger(*maximum, *value));
            }
        }
    }
}

#[inline(always)]
fn window_gradients(windows: Windows, values: &[f32], gradient: &[f32], result: &mut [f32]) {
    let (channels, output) = (windows.input.shape.channels, windows.output);
    for y in 0..output.shape.height {
        for x in 0..output.shape.width {
            let gradient = &gradient[output.at(y, x)..][..channels];
            let mut first = 0;
            while first + 16 <= channels {
                window_gradient::<16>(windows, (y, x), first, values, gradient, result);
                first += 16;
            }
            while first < channels {
                window_gradient::<1>(windows, (y, x), first, values, gradient, result);
                first += 1;
            }
        }
    }
}

/// `N` channels of one window.
#[inline(always)]
fn window_gradient<const N: usize>(
    windows: Windows,
    (y, x): (usize, usize),
    first: usize,
    values: &[f32],
    gradient: &[f32],
    result: &mut [f32],
) {
    let take =
        |values: &[f32], at: usize| -> [f32; N] { *values[at..].first_chunk().expect("a block is within its pixel") };
    let gradient = take(gradient, first);
    let (mut best, mut winner) = ([f32::NEG_INFINITY; N], [0; N]);
    for (number, (row, column)) in (0u32..).zip(windows.covered(y, x)) {
        let values = take(values, windows.input.at(row, column) + first);
        for l in 0..N {
            let wins = values[l] > best[l];
            best[l] = if wins { values[l] } else { best[l] };
            winner[l] = if wins { number } else { winner[l] };
        }
    }
    for (number, (row, column)) in (0u32..).zip(windows.covered(y, x)) {
        let result = &mut result[windows.input.at(row, column) + first..][..N];
        for l in 0..N {
            result[l] += if winner[l] == number { gradient[l] } else { 0.0 };
        }
    }
}
