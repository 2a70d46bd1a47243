//! The 3×3 convolution that keeps height and width, and the gradient of its weights.
//!
//! Maps are rows of pixels of channels with a border of one zero pixel all around: `[height + 2, width + 2, channels]`.
//! Weights are `[3, 3, inputs, outputs]`, as Keras keeps them.

use super::kernel;
use super::lanes::{accumulate, accumulate_outer, lanes, lanes_mut};

/// The sizes of one convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Rows of the image, without the border.
    pub height: usize,
    /// Pixels of a row, without the border.
    pub width: usize,
    /// Channels that go in.
    pub inputs: usize,
    /// Channels that come out.
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

/// What happens to a sum of products before it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// Nothing.
    Plain,
    /// The bias of the channel is added and what is negative becomes 0.
    BiasRelu(&'a [f32]),
}

kernel! {
    /// Convolves one bordered map into another, whose border stays as it is.
    pub fn conv3x3(shape: ConvShape, input: &[f32], weights: &[f32], epilogue: Epilogue<'_>, output: &mut [f32]) {
        wide => strips::<10, 32>(shape, input, weights, epilogue, output),
        narrow => strips::<5, 16>(shape, input, weights, epilogue, output),
    }
}

kernel! {
    /// Writes the gradient of the weights from the map that went in and the bordered gradient of what came out.
    ///
    /// A weight's sum runs over the pixels of a row, then over the rows' sums, so that it stays accurate on large images.
    pub fn conv3x3_weight_gradient(shape: ConvShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
        wide => weight_strips::<12, 32>(shape, input, gradient, weights),
        narrow => weight_strips::<6, 16>(shape, input, gradient, weights),
    }
}

/// Turns weights by 180° and swaps their channels: convolving a gradient with the result gives the gradient of the input.
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
fn strips<const P: usize, const N: usize>(
    shape: ConvShape,
    input: &[f32],
    weights: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let mut first = 0;
    while first + N <= shape.outputs {
        strip::<P, N>(shape, input, &weights[first..], epilogue.from(first), &mut output[first..]);
        first += N;
    }
    while first + 8 <= shape.outputs {
        strip::<P, 8>(shape, input, &weights[first..], epilogue.from(first), &mut output[first..]);
        first += 8;
    }
    while first < shape.outputs {
        strip::<P, 1>(shape, input, &weights[first..], epilogue.from(first), &mut output[first..]);
        first += 1;
    }
}

impl<'a> Epilogue<'a> {
    /// The same for the channels from `first` on.
    #[inline(always)]
    fn from(self, first: usize) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::BiasRelu(bias) => Self::BiasRelu(&bias[first..]),
        }
    }
}

/// All pixels of `N` channels; `weights` and `output` start at the first of these channels.
#[inline(always)]
fn strip<const P: usize, const N: usize>(
    shape: ConvShape,
    input: &[f32],
    weights: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let ConvShape { height, width, inputs, outputs } = shape;
    for y in 0..height {
        let input = &input[y * shape.input_row()..][..3 * shape.input_row()];
        let output = &mut output[(y + 1) * shape.output_row() + outputs..];
        let mut x = 0;
        while x + P <= width {
            pixels::<P, N>(shape, &input[x * inputs..], weights, epilogue, &mut output[x * outputs..]);
            x += P;
        }
        while x + 4 <= width {
            pixels::<4, N>(shape, &input[x * inputs..], weights, epilogue, &mut output[x * outputs..]);
            x += 4;
        }
        while x < width {
            pixels::<1, N>(shape, &input[x * inputs..], weights, epilogue, &mut output[x * outputs..]);
            x += 1;
        }
    }
}

/// `P` pixels of `N` channels; `input` starts at the upper left neighbour of the first pixel.
#[inline(always)]
fn pixels<const P: usize, const N: usize>(
    shape: ConvShape,
    input: &[f32],
    weights: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let ConvShape { inputs, outputs, .. } = shape;
    let mut block = [[0.0; N]; P];
    for tap_row in 0..3 {
        let input = &input[tap_row * shape.input_row()..][..(P + 2) * inputs];
        let windows = std::array::from_fn(|p| &input[p * inputs..][..3 * inputs]);
        accumulate(&mut block, windows, &weights[tap_row * 3 * inputs * outputs..], outputs);
    }
    for (p, sums) in block.iter().enumerate() {
        let output = lanes_mut::<N>(&mut output[p * outputs..]);
        match epilogue {
            Epilogue::Plain => *output = *sums,
            Epilogue::BiasRelu(bias) => {
                let bias = lanes::<N>(bias);
                for l in 0..N {
                    let value = sums[l] + bias[l];
                    // Not `max`, which drops a NaN and leaves the sign of zero open.
                    output[l] = if value < 0.0 { 0.0 } else { value };
                }
            }
        }
    }
}

#[inline(always)]
fn weight_strips<const J: usize, const N: usize>(
    shape: ConvShape,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    weights.fill(0.0);
    let mut first = 0;
    while first + N <= shape.outputs {
        weight_strip::<J, N>(shape, input, &gradient[first..], &mut weights[first..]);
        first += N;
    }
    while first + 8 <= shape.outputs {
        weight_strip::<J, 8>(shape, input, &gradient[first..], &mut weights[first..]);
        first += 8;
    }
    while first < shape.outputs {
        weight_strip::<J, 1>(shape, input, &gradient[first..], &mut weights[first..]);
        first += 1;
    }
}

/// All weights of `N` channels; `gradient` and `weights` start at the first of these channels.
#[inline(always)]
fn weight_strip<const J: usize, const N: usize>(
    shape: ConvShape,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    let ConvShape { height, inputs, outputs, .. } = shape;
    let taps = 3 * inputs;
    for y in 0..height {
        let gradient = &gradient[(y + 1) * shape.output_row() + outputs..];
        for tap_row in 0..3 {
            let input = &input[(y + tap_row) * shape.input_row()..][..shape.input_row()];
            let weights = &mut weights[tap_row * taps * outputs..];
            let mut j = 0;
            while j + J <= taps {
                weight_block::<J, N>(shape, &input[j..], gradient, &mut weights[j * outputs..]);
                j += J;
            }
            while j + 3 <= taps {
                weight_block::<3, N>(shape, &input[j..], gradient, &mut weights[j * outputs..]);
                j += 3;
            }
        }
    }
}

#[inline(always)]
fn weight_block<const J: usize, const N: usize>(
    shape: ConvShape,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    let mut block = [[0.0; N]; J];
    accumulate_outer(&mut block, (input, shape.inputs), (gradient, shape.outputs), shape.width);
    for (j, sums) in block.iter().enumerate() {
        let weights = lanes_mut::<N>(&mut weights[j * shape.outputs..]);
        for l in 0..N {
            weights[l] += sums[l];
        }
    }
}
