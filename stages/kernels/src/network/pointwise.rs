//! Elementwise operations: ReLU's gradient, dropout, sums, and the optimiser's update.

use super::kernel;
use crate::shape::Layout;

/// The dropout mask: a hash of a key and the value's index, so that it does not depend on the order of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutMask {
    key: [u32; 2],
    threshold: u32,
    scale: f32,
}

impl DropoutMask {
    /// A mask that drops values with probability `rate`; `key` is derived from the seed, the step, the layer and the image.
    pub fn new(rate: f64, key: u64) -> Self {
        Self {
            key: [key as u32, (key >> 32) as u32],
            threshold: (rate * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - rate)) as f32,
        }
    }

    #[inline(always)]
    fn apply(&self, index: u32, value: f32) -> f32 {
        // The finaliser of MurmurHash3, combined with the two halves of the key.
        let mut hash = index ^ self.key[0];
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b) ^ self.key[1];
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^= hash >> 16;
        if hash >= self.threshold { value * self.scale } else { 0.0 }
    }
}

/// The coefficients of one step of Adam, as computed by Keras.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// The learning rate including both bias corrections.
    pub alpha: f32,
    /// 1 - β₁.
    pub rate1: f32,
    /// 1 - β₂.
    pub rate2: f32,
    /// Added to the square root of the second moment.
    pub epsilon: f32,
}

kernel! {
    /// Applies dropout or its gradient to `values`, the first of which has the index `first`.
    pub fn dropout(mask: DropoutMask, first: u32, values: &[f32], output: &mut [f32]) {
        mask_values(mask, first, values, output)
    }
}

kernel! {
    /// Sets the gradient to 0 where ReLU's output is 0, and writes the bias gradient, summed over the pixels of each
    /// row, then over the rows.
    pub fn relu_gradient(layout: Layout, output: &[f32], gradient: &mut [f32], bias: &mut [f32]) {
        relu_backward(layout, output, gradient, bias)
    }
}

kernel! {
    /// Adds `values` to `sums`.
    pub fn add(values: &[f32], sums: &mut [f32]) {
        add_values(values, sums)
    }
}

kernel! {
    /// Updates weights by one step of Adam.
    pub fn adam(step: AdamStep, gradient: &[f32], first: &mut [f32], second: &mut [f32], weights: &mut [f32]) {
        adam_values(step, gradient, first, second, weights)
    }
}

kernel! {
    /// Multiplies values by a factor.
    pub fn scale(factor: f32, values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value *= factor)
    }
}

kernel! {
    /// Updates weights by one step of gradient descent with the coefficients momentum, weight decay and learning rate.
    pub fn momentum(coefficients: [f32; 3], gradient: &[f32], velocity: &mut [f32], weights: &mut [f32]) {
        momentum_values(coefficients, gradient, velocity, weights)
    }
}

kernel! {
    /// Moves averages towards values by the fraction `share`.
    pub fn blend(share: f32, values: &[f32], averages: &mut [f32]) {
        averages.iter_mut().zip(values).for_each(|(average, value)| *average = (value - *average).mul_add(share, *average))
    }
}

#[inline(always)]
fn momentum_values(coefficients: [f32; 3], gradient: &[f32], velocity: &mut [f32], weights: &mut [f32]) {
    let [momentum, decay, rate] = coefficients;
    for ((gradient, velocity), weight) in gradient.iter().zip(velocity).zip(weights) {
        *velocity = velocity.mul_add(momentum, weight.mul_add(decay, *gradient));
        *weight -= rate * *velocity;
    }
}

#[inline(always)]
fn mask_values(mask: DropoutMask, first: u32, values: &[f32], output: &mut [f32]) {
    for (i, (value, output)) in (0..).zip(values.iter().zip(output)) {
        *output = mask.apply(first.wrapping_add(i), *value);
    }
}

#[inline(always)]
fn relu_backward(layout: Layout, output: &[f32], gradient: &mut [f32], bias: &mut [f32]) {
    bias.fill(0.0);
    let mut first = 0;
    while first + 32 <= layout.shape.channels {
        relu_strip::<32>(layout, output, gradient, bias, first);
        first += 32;
    }
    while first < layout.shape.channels {
        relu_strip::<1>(layout, output, gradient, bias, first);
        first += 1;
    }
}

#[inline(always)]
fn relu_strip<const N: usize>(layout: Layout, output: &[f32], gradient: &mut [f32], bias: &mut [f32], first: usize) {
    for y in 0..layout.shape.height {
        let output = layout.row(output, y).chunks_exact(layout.shape.channels);
        let gradient = layout.row_mut(gradient, y).chunks_exact_mut(layout.shape.channels);
        let mut sums = [0.0; N];
        for (output, gradient) in output.zip(gradient) {
            let output = output[first..].first_chunk::<N>().expect("a strip is within its pixel");
            let gradient = gradient[first..].first_chunk_mut::<N>().expect("a strip is within its pixel");
            for l in 0..N {
                gradient[l] = if output[l] > 0.0 { gradient[l] } else { 0.0 };
                sums[l] += gradient[l];
            }
        }
        for (bias, sum) in bias[first..].iter_mut().zip(sums) {
            *bias += sum;
        }
    }
}

#[inline(always)]
fn add_values(values: &[f32], sums: &mut [f32]) {
    for (value, sum) in values.iter().zip(sums) {
        *sum += value;
    }
}

#[inline(always)]
fn adam_values(step: AdamStep, gradient: &[f32], first: &mut [f32], second: &mut [f32], weights: &mut [f32]) {
    let AdamStep { alpha, rate1, rate2, epsilon } = step;
    for (((g, m), v), w) in gradient.iter().zip(first).zip(second).zip(weights) {
        *m = (g - *m).mul_add(rate1, *m);
        *v = (g * g - *v).mul_add(rate2, *v);
        *w -= *m * alpha / (v.sqrt() + epsilon);
    }
}
