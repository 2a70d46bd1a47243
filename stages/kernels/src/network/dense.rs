//! Products of a batch of vectors with a matrix, and their gradients, for a range of inputs.
//!
//! The caller splits the inputs into ranges that depend only on the shape and distributes them over threads. Weights are
//! `[inputs, outputs]`.

use super::kernel;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{Lanes, accumulate, accumulate_outer};

/// The sizes of a product, for a range of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseShape {
    /// The number of vectors in the batch.
    pub rows: usize,
    /// The distance between two input vectors, or between their gradients.
    pub stride: usize,
    /// The number of inputs in the range.
    pub inputs: usize,
    /// The number of outputs per vector.
    pub outputs: usize,
}

kernel! {
    /// Writes `output[row, o]`, the sum over the range of `input[row * stride + k] * weights[k, o]`, with k in order.
    pub fn dense(shape: DenseShape, input: &[f32], weights: &[f32], output: &mut [f32]) {
        avx512 => forward::<Avx512, 10>(shape, input, weights, output),
        avx2 => forward::<Avx2, 5>(shape, input, weights, output),
        portable => forward::<[f32; 8], 4>(shape, input, weights, output),
    }
}

kernel! {
    /// Writes `weights[k, o]`, the sum over the batch of `input[row * stride + k] * gradient[row, o]`, with rows in order.
    pub fn dense_weight_gradient(shape: DenseShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
        avx512 => weight_gradient::<Avx512, 12>(shape, input, gradient, weights),
        avx2 => weight_gradient::<Avx2, 6>(shape, input, gradient, weights),
        portable => weight_gradient::<[f32; 8], 4>(shape, input, gradient, weights),
    }
}

kernel! {
    /// Writes `output[row, k]` (rows of `inputs` values), the sum over the outputs of `gradient[row, o] * weights[k, o]`.
    ///
    /// Here, adjacent weights contribute to the same sum. They are transposed tile by tile, so that lanes run over
    /// the inputs.
    pub fn dense_input_gradient(shape: DenseShape, gradient: &[f32], weights: &[f32], output: &mut [f32]) {
        avx512 => input_gradient::<Avx512, 10>(shape, gradient, weights, output),
        avx2 => input_gradient::<Avx2, 5>(shape, gradient, weights, output),
        portable => input_gradient::<[f32; 8], 4>(shape, gradient, weights, output),
    }
}

/// The number of inputs whose weights stay in the L1 cache while all vectors are processed.
const L1_INPUTS: usize = 64;

#[inline(always)]
fn forward<L: Lanes, const R: usize>(shape: DenseShape, input: &[f32], weights: &[f32], output: &mut [f32]) {
    output.fill(0.0);
    let weights = &weights[..shape.inputs * shape.outputs];
    for (part, weights) in weights.chunks(L1_INPUTS * shape.outputs).enumerate() {
        let input = &input[part * L1_INPUTS..];
        let mut first = 0;
        while first + L::COUNT <= shape.outputs {
            forward_strip::<L, R>(shape, input, weights, first, output);
            first += L::COUNT;
        }
        while first < shape.outputs {
            forward_strip::<[f32; 1], R>(shape, input, weights, first, output);
            first += 1;
        }
    }
}

#[inline(always)]
fn forward_strip<L: Lanes, const R: usize>(
    shape: DenseShape,
    input: &[f32],
    weights: &[f32],
    first: usize,
    output: &mut [f32],
) {
    let mut row = 0;
    while row + R <= shape.rows {
        let output = &mut output[row * shape.outputs + first..];
        forward_block::<L, R>(shape, &input[row * shape.stride..], weights, first, output);
        row += R;
    }
    while row < shape.rows {
        let output = &mut output[row * shape.outputs + first..];
        forward_block::<L, 1>(shape, &input[row * shape.stride..], weights, first, output);
        row += 1;
    }
}

/// Continues the sums in `output`.
#[inline(always)]
fn forward_block<L: Lanes, const R: usize>(
    shape: DenseShape,
    input: &[f32],
    weights: &[f32],
    first: usize,
    output: &mut [f32],
) {
    let mut block: [L; R] = std::array::from_fn(|r| L::load(&output[r * shape.outputs..]));
    let rows = std::array::from_fn(|r| &input[r * shape.stride..]);
    accumulate(&mut block, rows, weights.chunks_exact(shape.outputs).map(|row| L::load(&row[first..])));
    for (r, sums) in block.iter().enumerate() {
        sums.store(&mut output[r * shape.outputs..]);
    }
}

#[inline(always)]
fn weight_gradient<L: Lanes, const J: usize>(shape: DenseShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
    let mut first = 0;
    while first + L::COUNT <= shape.outputs {
        weight_strip::<L, J>(shape, input, &gradient[first..], &mut weights[first..]);
        first += L::COUNT;
    }
    while first < shape.outputs {
        weight_strip::<[f32; 1], J>(shape, input, &gradient[first..], &mut weights[first..]);
        first += 1;
    }
}

#[inline(always)]
fn weight_strip<L: Lanes, const J: usize>(shape: DenseShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
    let mut k = 0;
    while k + J <= shape.inputs {
        weight_block::<L, J>(shape, &input[k..], gradient, &mut weights[k * shape.outputs..]);
        k += J;
    }
    while k < shape.inputs {
        weight_block::<L, 1>(shape, &input[k..], gradient, &mut weights[k * shape.outputs..]);
        k += 1;
    }
}

#[inline(always)]
fn weight_block<L: Lanes, const J: usize>(shape: DenseShape, input: &[f32], gradient: &[f32], weights: &mut [f32]) {
    let mut block = [L::splat(0.0); J];
    accumulate_outer(&mut block, (input, shape.stride), (gradient, shape.outputs), shape.rows);
    for (j, sums) in block.iter().enumerate() {
        sums.store(&mut weights[j * shape.outputs..]);
    }
}

#[inline(always)]
fn input_gradient<L: Lanes, const R: usize>(shape: DenseShape, gradient: &[f32], weights: &[f32], output: &mut [f32]) {
    let mut k = 0;
    while k + L::COUNT <= shape.inputs {
        input_tile::<L, R>(shape, gradient, &weights[k * shape.outputs..], &mut output[k..]);
        k += L::COUNT;
    }
    while k < shape.inputs {
        input_tile::<[f32; 1], R>(shape, gradient, &weights[k * shape.outputs..], &mut output[k..]);
        k += 1;
    }
}

/// The gradients of one register width of inputs; the slices start at their weights and at the first output.
#[inline(always)]
fn input_tile<L: Lanes, const R: usize>(shape: DenseShape, gradient: &[f32], weights: &[f32], output: &mut [f32]) {
    let mut turned = vec![0.0; shape.outputs * L::COUNT];
    for (l, weights) in weights.chunks_exact(shape.outputs).take(L::COUNT).enumerate() {
        for (turned, weight) in turned.chunks_exact_mut(L::COUNT).zip(weights) {
            turned[l] = *weight;
        }
    }
    let mut row = 0;
    while row + R <= shape.rows {
        input_block::<L, R>(shape, &gradient[row * shape.outputs..], &turned, &mut output[row * shape.inputs..]);
        row += R;
    }
    while row < shape.rows {
        input_block::<L, 1>(shape, &gradient[row * shape.outputs..], &turned, &mut output[row * shape.inputs..]);
        row += 1;
    }
}

#[inline(always)]
fn input_block<L: Lanes, const R: usize>(shape: DenseShape, gradient: &[f32], turned: &[f32], output: &mut [f32]) {
    let mut block = [L::splat(0.0); R];
    let rows = std::array::from_fn(|r| &gradient[r * shape.outputs..]);
    accumulate(&mut block, rows, turned.chunks_exact(L::COUNT).map(L::load));
    for (r, sums) in block.iter().enumerate() {
        sums.store(&mut output[r * shape.inputs..]);
    }
}
