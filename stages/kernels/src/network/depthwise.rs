//! Depthwise convolution of rows: each channel has its own filter.
//!
//! Rows are `[pixels, channels]` with zeros beside the map, so that no tap leaves them. The caller keeps the few rows
//! under the filter in the cache.

use super::kernel;
use super::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2Single, Avx512Single};

/// One weight of a filter, and where its input lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// The index of the row.
    pub row: usize,
    /// The pixel of the row under the first output pixel.
    pub pixel: usize,
    /// The index of the weight in the filter.
    pub weight: usize,
}

/// The sizes of a row of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation {
    /// The number of channels.
    pub channels: usize,
    /// The number of output pixels.
    pub count: usize,
    /// The distance in pixels between the inputs of two adjacent outputs.
    pub input_step: usize,
    /// The distance in pixels between two outputs.
    pub output_step: usize,
}

kernel! {
    /// Writes, or adds to, every output the sum over the taps, in order, of input times weight. Weights are
    /// `[filter positions, channels]`.
    pub fn correlate(shape: Correlation, rows: &[&[f32]], taps: &[Tap], weights: &[f32], adds: bool, output: &mut [f32]) {
        avx512 => {
            let first = strips::<Avx512Single, 8>(shape, rows, taps, weights, adds, 0, output);
            let first = strips::<Avx2Single, 8>(shape, rows, taps, weights, adds, first, output);
            strips::<[f32; 1], 4>(shape, rows, taps, weights, adds, first, output);
        },
        avx2 => {
            let first = strips::<Avx2Single, 8>(shape, rows, taps, weights, adds, 0, output);
            strips::<[f32; 1], 4>(shape, rows, taps, weights, adds, first, output);
        },
        portable => {
            let first = strips::<[f32; 8], 2>(shape, rows, taps, weights, adds, 0, output);
            strips::<[f32; 1], 4>(shape, rows, taps, weights, adds, first, output);
        },
    }
}

kernel! {
    /// Adds to one row of a filter, `[width, channels]`, the products of a row of inputs with the gradient of a row of
    /// outputs. Input pixel `t · step + x` lies under weight x of output t.
    pub fn row_weight_gradient(channels: usize, step: usize, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
        avx512 => {
            let first = filter_strips::<Avx512Single>(channels, step, input, gradient, 0, weights);
            let first = filter_strips::<Avx2Single>(channels, step, input, gradient, first, weights);
            filter_strips::<[f32; 1]>(channels, step, input, gradient, first, weights);
        },
        avx2 => {
            let first = filter_strips::<Avx2Single>(channels, step, input, gradient, 0, weights);
            filter_strips::<[f32; 1]>(channels, step, input, gradient, first, weights);
        },
        portable => {
            let first = filter_strips::<[f32; 8]>(channels, step, input, gradient, 0, weights);
            filter_strips::<[f32; 1]>(channels, step, input, gradient, first, weights);
        },
    }
}

#[inline(always)]
fn strips<L: Lanes, const P: usize>(
    shape: Correlation,
    rows: &[&[f32]],
    taps: &[Tap],
    weights: &[f32],
    adds: bool,
    mut first: usize,
    output: &mut [f32],
) -> usize {
    while first + L::COUNT <= shape.channels {
        let mut t = 0;
        while t + P <= shape.count {
            block::<L, P>(shape, rows, taps, weights, adds, (first, t), output);
            t += P;
        }
        while t < shape.count {
            block::<L, 1>(shape, rows, taps, weights, adds, (first, t), output);
            t += 1;
        }
        first += L::COUNT;
    }
    first
}

/// `P` outputs from output `t` on, one strip of channels from `first` on.
#[inline(always)]
fn block<L: Lanes, const P: usize>(
    shape: Correlation,
    rows: &[&[f32]],
    taps: &[Tap],
    weights: &[f32],
    adds: bool,
    (first, t): (usize, usize),
    output: &mut [f32],
) {
    let Correlation { channels, input_step, output_step, .. } = shape;
    let mut sums = [L::splat(0.0); P];
    if adds {
        for (p, sum) in sums.iter_mut().enumerate() {
            *sum = L::load(&output[(t + p) * output_step * channels + first..]);
        }
    }
    for tap in taps {
        let weight = L::load(&weights[tap.weight * channels + first..]);
        let input = &rows[tap.row][(tap.pixel + t * input_step) * channels + first..];
        for (p, sum) in sums.iter_mut().enumerate() {
            *sum = L::load(&input[p * input_step * channels..]).mul_add(weight, *sum);
        }
    }
    for (p, sum) in sums.iter().enumerate() {
        sum.store(&mut output[(t + p) * output_step * channels + first..]);
    }
}

#[inline(always)]
fn filter_strips<L: Lanes>(
    channels: usize,
    step: usize,
    input: &[f32],
    gradient: &[f32],
    mut first: usize,
    weights: &mut [f32],
) -> usize {
    let width = weights.len() / channels;
    while first + L::COUNT <= channels {
        let mut x = 0;
        while x + 5 <= width {
            filter_block::<L, 5>(
                channels,
                step,
                &input[x * channels + first..],
                &gradient[first..],
                &mut weights[x * channels + first..],
            );
            x += 5;
        }
        while x + 3 <= width {
            filter_block::<L, 3>(
                channels,
                step,
                &input[x * channels + first..],
                &gradient[first..],
                &mut weights[x * channels + first..],
            );
            x += 3;
        }
        while x < width {
            filter_block::<L, 1>(
                channels,
                step,
                &input[x * channels + first..],
                &gradient[first..],
                &mut weights[x * channels + first..],
            );
            x += 1;
        }
        first += L::COUNT;
    }
    first
}

/// `K` adjacent weights of a row of the filter, one strip of channels.
#[inline(always)]
fn filter_block<L: Lanes, const K: usize>(
    channels: usize,
    step: usize,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    let mut sums = [L::splat(0.0); K];
    for (t, gradient) in gradient.chunks(channels).enumerate() {
        if gradient.len() < L::COUNT {
            break;
        }
        let gradient = L::load(gradient);
        let input = &input[t * step * channels..];
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = L::load(&input[k * channels..]).mul_add(gradient, *sum);
        }
    }
    for (k, sum) in sums.iter().enumerate() {
        let weights = &mut weights[k * channels..];
        // The sum of earlier rows, times one, plus this row's sum.
        L::load(weights).mul_add(L::splat(1.0), *sum).store(weights);
    }
}
