//! Max pooling over 2×2 windows, and its gradient.
//!
//! candle 0.11.1's `max_pool2d` is not used, because its backward pass gives a quarter of the gradient, in the wrong
//! places for odd sizes.

use super::kernel;
use crate::ml::shape::MapShape;

kernel! {
    /// Writes the maximum of each window of a bordered map to a bordered map of half the size; an odd last row or
    /// column is ignored.
    pub fn max_pool(shape: MapShape, input: &[f32], output: &mut [f32]) {
        forward(shape, input, output)
    }
}

kernel! {
    /// Writes the gradient of the input: the gradient of a window goes to its first maximum in row-major order, all
    /// others get 0.
    pub fn max_pool_gradient(shape: MapShape, input: &[f32], gradient: &[f32], output: &mut [f32]) {
        backward(shape, input, gradient, output)
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn forward(shape: MapShape, input: &[f32], output: &mut [f32]) {
    let channels = shape.channels;
    let half = shape.halved();
    for y in 0..half.height {
        let upper = shape.row(input, 2 * y);
        let lower = shape.row(input, 2 * y + 1);
        let output = half.row_mut(output, y);
        let windows = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
        for (output, (upper, lower)) in output.chunks_exact_mut(channels).zip(windows) {
            let ((a, b), (c, d)) = (upper.split_at(channels), lower.split_at(channels));
            for (i, output) in output.iter_mut().enumerate() {
                *output = larger(larger(a[i], b[i]), larger(c[i], d[i]));
            }
        }
    }
}

#[inline(always)]
fn backward(shape: MapShape, input: &[f32], gradient: &[f32], output: &mut [f32]) {
    let channels = shape.channels;
    let half = shape.halved();
    for y in 0..half.height {
        let gradient = half.row(gradient, y);
        let windows = shape.row(input, 2 * y).chunks_exact(2 * channels);
        let windows = windows.zip(shape.row(input, 2 * y + 1).chunks_exact(2 * channels));
        let (upper_output, lower_output) = shape.two_rows_mut(output, 2 * y);
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
        if shape.width % 2 == 1 {
            upper_output[2 * half.width * channels..].fill(0.0);
            lower_output[2 * half.width * channels..].fill(0.0);
        }
    }
    if shape.height % 2 == 1 {
        shape.row_mut(output, shape.height - 1).fill(0.0);
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
