//! Products of a batch of vectors with a matrix, and their gradients, each for a range of inputs.
//!
//! A caller splits the inputs into ranges that follow from the shape and gives each to a thread; weights are `[inputs, outputs]`.

use super::kernel;
use super::lanes::{accumulate, accumulate_outer, lanes, lanes_mut};

/// The sizes of a product, for a range of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseShape {
    /// Vectors in the batch.
    pub rows: usize,
    /// The distance between two vectors that go in, or of which a gradient is made.
    pub stride: usize,
    /// Inputs in the range.
    pub inputs: usize,
    /// Values per vector that come out.
    pub outputs: usize,
}

kernel! {
    /// Writes `output[row, o]`, the sum over the range of `input[row * stride + k] * weights[k, o]`, k in order.
    pub fn dense(shape: DenseShape, input: &[f32], weights: &[f32], output: &mut [f32]) {
        wide => forward::<10, 32>(shape, input, weights, output),
        narrow => forward::<5, 16>(shape, input, weights, output),
    }
}

kernel! {
    /// Writes `weights[k, o]`, the sum over the batch of `input[row * stride + k] * gradient[row, o]`, rows in order.
    pub fn dense_weight_gradient(shape: DenseShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
        wide => weight_gradient::<8, 32>(shape, input, gradient, weights),
        narrow => weight_gradient::<4, 16>(shape, input, gradient, weights),
    }
}

kernel! {
    /// Writes `output[row, k]` (rows of `inputs` values), the sum over the outputs of `gradient[row, o] * weights[k, o]`.
    ///
    /// Neighbouring weights belong to one sum here, so it runs in sixteen chains, which are added in pairs at the end.
    pub fn dense_input_gradient(shape: DenseShape, gradient: &[f32], weights: &[f32], output: &mut [f32]) {
        wide => input_gradient::<8>(shape, gradient, weights, output),
        narrow => input_gradient::<4>(shape, gradient, weights, output),
    }
}

#[inline(always)]
fn forward<const R: usize, const N: usize>(shape: DenseShape, input: &[f32], weights: &[f32], output: &mut [f32]) {
    let mut first = 0;
    while first + N <= shape.outputs {
        forward_strip::<R, N>(shape, input, &weights[first..], &mut output[first..]);
        first += N;
    }
    while first < shape.outputs {
        forward_strip::<R, 1>(shape, input, &weights[first..], &mut output[first..]);
        first += 1;
    }
}

#[inline(always)]
fn forward_strip<const R: usize, const N: usize>(
    shape: DenseShape,
    input: &[f32],
    weights: &[f32],
    output: &mut [f32],
) {
    let mut row = 0;
    while row + R <= shape.rows {
        forward_block::<R, N>(shape, &input[row * shape.stride..], weights, &mut output[row * shape.outputs..]);
        row += R;
    }
    while row < shape.rows {
        forward_block::<1, N>(shape, &input[row * shape.stride..], weights, &mut output[row * shape.outputs..]);
        row += 1;
    }
}

#[inline(always)]
fn forward_block<const R: usize, const N: usize>(
    shape: DenseShape,
    input: &[f32],
    weights: &[f32],
    output: &mut [f32],
) {
    let mut block = [[0.0; N]; R];
    let rows = std::array::from_fn(|r| &input[r * shape.stride..][..shape.inputs]);
    accumulate(&mut block, rows, weights, shape.outputs);
    for (r, sums) in block.iter().enumerate() {
        *lanes_mut::<N>(&mut output[r * shape.outputs..]) = *sums;
    }
}

#[inline(always)]
fn weight_gradient<const J: usize, const N: usize>(
    shape: DenseShape,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    let mut first = 0;
    while first + N <= shape.outputs {
        weight_strip::<J, N>(shape, input, &gradient[first..], &mut weights[first..]);
        first += N;
    }
    while first < shape.outputs {
        weight_strip::<J, 1>(shape, input, &gradient[first..], &mut weights[first..]);
        first += 1;
    }
}

#[inline(always)]
fn weight_strip<const J: usize, const N: usize>(
    shape: DenseShape,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    let mut k = 0;
    while k + J <= shape.inputs {
        weight_block::<J, N>(shape, &input[k..], gradient, &mut weights[k * shape.outputs..]);
        k += J;
    }
    while k < shape.inputs {
        weight_block::<1, N>(shape, &input[k..], gradient, &mut weights[k * shape.outputs..]);
        k += 1;
    }
}

#[inline(always)]
fn weight_block<const J: usize, const N: usize>(
    shape: DenseShape,
    input: &[f32],
    gradient: &[f32],
    weights: &mut [f32],
) {
    let mut block = [[0.0; N]; J];
    accumulate_outer(&mut block, (input, shape.stride), (gradient, shape.outputs), shape.rows);
    for (j, sums) in block.iter().enumerate() {
        *lanes_mut::<N>(&mut weights[j * shape.outputs..]) = *sums;
    }
}

const CHAINS: usize = 16;

#[inline(always)]
fn input_gradient<const R: usize>(shape: DenseShape, gradient: &[f32], weights: &[f32], output: &mut [f32]) {
    let mut row = 0;
    while row + R <= shape.rows {
        input_rows::<R>(shape, &gradient[row * shape.outputs..], weights, &mut output[row * shape.inputs..]);
        row += R;
    }
    while row < shape.rows {
        input_rows::<1>(shape, &gradient[row * shape.outputs..], weights, &mut output[row * shape.inputs..]);
        row += 1;
    }
}

#[inline(always)]
fn input_rows<const R: usize>(shape: DenseShape, gradient: &[f32], weights: &[f32], output: &mut [f32]) {
    let gradients: [&[f32]; R] = std::array::from_fn(|r| &gradient[r * shape.outputs..][..shape.outputs]);
    for (k, weights) in weights.chunks_exact(shape.outputs).take(shape.inputs).enumerate() {
        let mut block = [[0.0; CHAINS]; R];
        let mut o = 0;
        while o + CHAINS <= shape.outputs {
            let weights = lanes::<CHAINS>(&weights[o..]);
            for r in 0..R {
                let gradient = lanes::<CHAINS>(&gradients[r][o..]);
                for l in 0..CHAINS {
                    block[r][l] = gradient[l].mul_add(weights[l], block[r][l]);
                }
            }
            o += CHAINS;
        }
        for l in 0..shape.outputs - o {
            for r in 0..R {
                block[r][l] = gradients[r][o + l].mul_add(weights[o + l], block[r][l]);
            }
        }
        for r in 0..R {
            output[r * shape.inputs + k] = sum_in_pairs(block[r]);
        }
    }
}

/// Adds sixteen chains: the halves, the quarters, the eighths, the pair.
#[inline(always)]
fn sum_in_pairs(chains: [f32; CHAINS]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|l| chains[l] + chains[l + 8]);
    let four: [f32; 4] = std::array::from_fn(|l| eight[l] + eight[l + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
