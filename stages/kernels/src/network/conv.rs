//! The 3×3 convolution with "same" padding, and the gradient of its weights.
//!
//! Feature maps are `[height + 2, width + 2, channels]` with a border of one zero pixel on each side. Weights are
//! `[3, 3, inputs, outputs]`, as in Keras.

use super::kernel;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{Lanes, accumulate, accumulate_outer};

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// The height without the border.
    pub height: usize,
    /// The width without the border.
    pub width: usize,
    /// The number of input channels.
    pub inputs: usize,
    /// The number of output channels.
    pub outputs: usize,
}

impl ConvShape {
    /// The number of weights, without the bias.
    pub const fn weights(self) -> usize {
        9 * self.inputs * self.outputs
    }

    const fn input_row(self) -> usize {
        (self.width + 2) * self.inputs
    }

    const fn output_row(self) -> usize {
        (self.width + 2) * self.outputs
    }
}

/// The operation on a sum of products before it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// None.
    Plain,
    /// Adds the channel's bias and applies ReLU.
    BiasRelu(&'a [f32]),
}

kernel! {
    /// Convolves one bordered map into another; the border of the output is not written.
    pub fn conv3x3(shape: ConvShape, input: &[f32], weights: &[f32], epilogue: Epilogue<'_>, output: &mut [f32]) {
        avx512 => strips::<Avx512, 10>(shape, input, weights, epilogue, output),
        avx2 => strips::<Avx2, 5>(shape, input, weights, epilogue, output),
        portable => strips::<[f32; 8], 4>(shape, input, weights, epilogue, output),
    }
}

kernel! {
    /// Writes the gradient of the weights, given the input and the bordered gradient of the output.
    ///
    /// Sums run first over the pixels of each row, then over the rows, to stay accurate on large images.
    pub fn conv3x3_weight_gradient(shape: ConvShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
        avx512 => weight_strips::<Avx512, 12>(shape, input, gradient, weights),
        avx2 => weight_strips::<Avx2, 6>(shape, input, gradient, weights),
        portable => weight_strips::<[f32; 8], 6>(shape, input, gradient, weights),
    }
}

/// Rotates weights by 180° and swaps their channels. Convolving a gradient with the result gives the gradient of the input.
pub fn flip(shape: ConvShape, weights: &[f32], flipped: &mut [f32]) {
    let ConvShape { inputs, outputs, .. } = shape;
    for tap in 0..9 {
        for i in 0..inputs {
            for o in 0..outputs {
                flipped[((8 - tap) * outputs + o) * inputs + i] = weights[(tap * inputs + i) * outputs + o];
            }
        }
    }
}

#[inline(always)]
fn strips<L: Lanes, const P: usize>(
    shape: ConvShape,
    input: &[f32],
    weights: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let mut first = 0;
    while first + L::COUNT <= shape.outputs {
        strip::<L, P>(shape, input, &weights[first..], epilogue.from(first), &mut output[first..]);
        first += L::COUNT;
    }
    while first + 8 <= shape.outputs {
        strip::<[f32; 8], P>(shape, input, &weights[first..], epilogue.from(first), &mut output[first..]);
        first += 8;
    }
    while first < shape.outputs {
        strip::<[f32; 1], P>(shape, input, &weights[first..], epilogue.from(first), &mut output[first..]);
        first += 1;
    }
}

impl<'a> Epilogue<'a> {
    /// The same, for the channels from `first` on.
    #[inline(always)]
    fn from(self, first: usize) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::BiasRelu(bias) => Self::BiasRelu(&bias[first..]),
        }
    }
}

/// Bytes of weights that stay in the L1 cache while a row of pixels is processed.
const L1_BYTES: usize = 40 * 1024;

/// All pixels of one register width of channels; `weights` and `output` start at the first of these channels.
#[inline(always)]
fn strip<L: Lanes, const P: usize>(
    shape: ConvShape,
    input: &[f32],
    weights: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let ConvShape { height, width, inputs, outputs } = shape;
    let packed: Vec<L> = weights.chunks(outputs).take(9 * inputs).map(L::load).collect();
    // Storing partial sums after a row of taps and reloading them does not change the sums.
    let tap_rows_at_once = if size_of_val(&packed[..]) <= L1_BYTES { 3 } else { 1 };
    for y in 0..height {
        let input = &input[y * shape.input_row()..][..3 * shape.input_row()];
        let output = &mut output[(y + 1) * shape.output_row() + outputs..];
        for first in (0..3).step_by(tap_rows_at_once) {
            let taps = Taps { shape, input, weights: &packed, epilogue, rows: (first, first + tap_rows_at_once) };
            let mut x = 0;
            while x + P <= width {
                taps.pixels::<P>(x, &mut output[x * outputs..]);
                x += P;
            }
            while x + 4 <= width {
                taps.pixels::<4>(x, &mut output[x * outputs..]);
                x += 4;
            }
            while x < width {
                taps.pixels::<1>(x, &mut output[x * outputs..]);
                x += 1;
            }
        }
    }
}

/// Some rows of filter taps for one row of pixels.
struct Taps<'a, L> {
    shape: ConvShape,
    input: &'a [f32],
    weights: &'a [L],
    epilogue: Epilogue<'a>,
    rows: (usize, usize),
}

impl<L: Lanes> Taps<'_, L> {
    /// `P` pixels from `x` on; `output` starts at the first pixel's first channel.
    #[inline(always)]
    fn pixels<const P: usize>(&self, x: usize, output: &mut [f32]) {
        let ConvShape { inputs, outputs, .. } = self.shape;
        let (first, end) = self.rows;
        let mut block = [L::splat(0.0); P];
        if first > 0 {
            for (p, sums) in block.iter_mut().enumerate() {
                *sums = L::load(&output[p * outputs..]);
            }
        }
        for tap_row in first..end {
            let input = &self.input[tap_row * self.shape.input_row() + x * inputs..][..(P + 2) * inputs];
            let windows = std::array::from_fn(|p| &input[p * inputs..][..3 * inputs]);
            accumulate(&mut block, windows, self.weights[tap_row * 3 * inputs..][..3 * inputs].iter().copied());
        }
        for (p, sums) in block.iter().enumerate() {
            let output = &mut output[p * outputs..][..L::COUNT];
            sums.store(output);
            if let (Epilogue::BiasRelu(bias), 3) = (self.epilogue, end) {
                for (output, bias) in output.iter_mut().zip(bias) {
                    let value = *output + bias;
                    // Not `max`, which drops a NaN and leaves the sign of zero unspecified.
                    *output = if value < 0.0 { 0.0 } else { value };
                }
            }
        }
    }
}

#[inline(always)]
fn weight_strips<L: Lanes, const J: usize>(shape: ConvShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
    weights.fill(0.0);
    let mut first = 0;
    while first + L::COUNT <= shape.outputs {
        weight_strip::<L, J>(shape, input, &gradient[first..], &mut weights[first..]);
        first += L::COUNT;
    }
    while first + 8 <= shape.outputs {
        weight_strip::<[f32; 8], J>(shape, input, &gradient[first..], &mut weights[first..]);
        first += 8;
    }
    while first < shape.outputs {
        weight_strip::<[f32; 1], J>(shape, input, &gradient[first..], &mut weights[first..]);
        first += 1;
    }
}

/// All weights of one register width of channels; `gradient` and `weights` start at the first of these channels.
#[inline(always)]
fn weight_strip<L: Lanes, const J: usize>(shape: ConvShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
    let ConvShape { height, inputs, outputs, .. } = shape;
    let taps = 3 * inputs;
    for y in 0..height {
        let gradient = &gradient[(y + 1) * shape.output_row() + outputs..];
        for tap_row in 0..3 {
            let input = &input[(y + tap_row) * shape.input_row()..][..shape.input_row()];
            let weights = &mut weights[tap_row * taps * outputs..];
            let mut j = 0;
            while j + J <= taps {
                weight_block::<L, J>(shape, &input[j..], gradient, &mut weights[j * outputs..]);
                j += J;
            }
            while j + 3 <= taps {
                weight_block::<L, 3>(shape, &input[j..], gradient, &mut weights[j * outputs..]);
                j += 3;
            }
        }
    }
}

#[inline(always)]
fn weight_block<L: Lanes, const J: usize>(shape: ConvShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
    let mut block = [L::splat(0.0); J];
    accumulate_outer(&mut block, (input, shape.inputs), (gradient, shape.outputs), shape.width);
    for (j, sums) in block.iter().enumerate() {
        let weights = &mut weights[j * shape.outputs..];
        // The sum of the previous rows, times one, plus this row's sum.
        L::load(weights).mul_add(L::splat(1.0), *sums).store(weights);
    }
}
