//! Normalisation and activation of feature maps as they are read, and the gradients of both.
//!
//! A map is stored as an operation computed it. Batch normalisation and the activation are applied when the next
//! operation reads the map, pixel run by pixel run, so that neither needs a pass over memory of its own.

use std::ops::Range;

use super::kernel;

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// x.
    #[default]
    Identity,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6) (Krizhevsky 2010).
    Relu6,
    /// x · sigmoid(x) (Elfwing, Uchibe, Doya 2017).
    Silu,
}

/// How the values of a map derive from what is stored: `activation(scale · stored + shift)`, per channel.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The number of channels.
    pub channels: usize,
    /// Scale and shift of each channel, if the map is normalised.
    pub affine: Option<[&'a [f32]; 2]>,
    /// The activation.
    pub activation: Activation,
}

impl View<'_> {
    /// Whether the values are what is stored.
    pub fn is_identity(&self) -> bool {
        self.affine.is_none() && self.activation == Activation::Identity
    }
}

/// The sums that the backward pass of batch normalisation needs, per channel.
#[derive(Debug)]
pub struct NormSums<'a> {
    /// The mean of the stored values.
    pub mean: &'a [f32],
    /// Σ gradient, added to.
    pub gradients: &'a mut [f64],
    /// Σ gradient · (stored − mean), added to.
    pub products: &'a mut [f64],
}

/// The coefficients of the gradient of batch normalisation, per channel: `c[0] · gradient + c[1] · stored + c[2]`.
pub type NormCoefficients<'a> = [&'a [f32]; 3];

/// Dispatches to one instance of a generic function per activation.
macro_rules! with_activation {
    ($activation:expr, $name:ident => $call:expr) => {
        match $activation {
            Activation::Identity => {
                type $name = Identity;
                $call
            }
            Activation::Relu => {
                type $name = Relu;
                $call
            }
            Activation::Relu6 => {
                type $name = Relu6;
                $call
            }
            Activation::Silu => {
                type $name = Silu;
                $call
            }
        }
    };
}

pub(super) use with_activation;

kernel! {
    /// Writes the values of a run of pixels.
    pub fn view(view: View<'_>, stored: &[f32], values: &mut [f32]) {
        view_values(view, stored, values)
    }
}

kernel! {
    /// Writes the values of some channels of a run of pixels, `[pixels, columns]`.
    pub fn view_columns(view: View<'_>, columns: Range<usize>, stored: &[f32], values: &mut [f32]) {
        with_activation!(view.activation, A => columns_of::<A>(view, columns, stored, values))
    }
}

kernel! {
    /// Multiplies the gradient of a run of pixels by the derivative of the activation.
    pub fn view_gradient(view: View<'_>, stored: &[f32], gradient: &mut [f32]) {
        with_activation!(view.activation, A => gradient_values::<A>(view, stored, gradient, None))
    }
}

kernel! {
    /// As [`view_gradient`], and adds to the sums for the gradient of the normalisation.
    pub fn view_gradient_sums(view: View<'_>, stored: &[f32], gradient: &mut [f32], sums: NormSums<'_>) {
        with_activation!(view.activation, A => gradient_values::<A>(view, stored, gradient, Some(sums)))
    }
}

kernel! {
    /// Adds the sum and the sum of squares of each channel over a run of pixels.
    pub fn statistics(values: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        add_statistics(values, sums, squares)
    }
}

kernel! {
    /// Writes the gradient of what is stored, given the gradient of the normalised values.
    pub fn norm_gradient(coefficients: NormCoefficients<'_>, stored: &[f32], gradient: &[f32], output: &mut [f32]) {
        norm_gradients(coefficients, stored, gradient, output)
    }
}

kernel! {
    /// As [`norm_gradient`], in place.
    pub fn norm_gradient_in_place(coefficients: NormCoefficients<'_>, stored: &[f32], gradient: &mut [f32]) {
        norm_gradients_in_place(coefficients, stored, gradient)
    }
}

/// An activation that is known at compile time.
pub(super) trait Function {
    fn value(x: f32) -> f32;
    /// The derivative at `x`.
    fn slope(x: f32) -> f32;
}

pub(super) struct Identity;
pub(super) struct Relu;
pub(super) struct Relu6;
pub(super) struct Silu;

impl Function for Identity {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn slope(_x: f32) -> f32 {
        1.0
    }
}

impl Function for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        // Not `max`, which drops a NaN.
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }
}

impl Function for Relu6 {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        let x = if x < 0.0 { 0.0 } else { x };
        if x > 6.0 { 6.0 } else { x }
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let below = if x < 6.0 { 1.0 } else { 0.0 };
        if x > 0.0 { below } else { 0.0 }
    }
}

impl Function for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s * x.mul_add(1.0 - s, 1.0)
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// eˣ with a relative error below 3e-7, saturating outside ±87. Only additions, multiplications and one conversion, so
/// that it vectorises and gives the same bits everywhere.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, and eʳ by its Taylor polynomial of degree 6.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2²³ rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 87.0 { 87.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let n = x.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut e = 1.0 / 720.0;
    for factorial in [120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        e = r.mul_add(e, 1.0 / factorial);
    }
    e * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// Calls a function on strips of 32 channels, then of 8, then of single ones.
macro_rules! in_strips {
    ($channels:expr, $first:ident, $n:ident => $call:expr) => {
        let mut $first = 0;
        while $first + 32 <= $channels {
            const $n: usize = 32;
            $call;
            $first += 32;
        }
        while $first + 8 <= $channels {
            const $n: usize = 8;
            $call;
            $first += 8;
        }
        while $first < $channels {
            const $n: usize = 1;
            $call;
            $first += 1;
        }
    };
}

#[inline(always)]
fn lanes<const N: usize>(values: &[f32], first: usize) -> [f32; N] {
    *values[first..].first_chunk().expect("a strip is within its pixel")
}

/// Values per pixel that are copied at once.
const COLUMNS: usize = 16;

#[inline(always)]
fn columns_of<A: Function>(view: View<'_>, columns: Range<usize>, stored: &[f32], values: &mut [f32]) {
    let width = columns.len();
    let (mut scales, mut shifts) = ([1.0; COLUMNS], [0.0; COLUMNS]);
    for first in columns.clone().step_by(COLUMNS) {
        let count = COLUMNS.min(columns.end - first);
        if let Some([scale, shift]) = view.affine {
            scales[..count].copy_from_slice(&scale[first..][..count]);
            shifts[..count].copy_from_slice(&shift[first..][..count]);
        }
        let pixels = stored.chunks_exact(view.channels).zip(values.chunks_exact_mut(width));
        for (stored, values) in pixels {
            let stored = &stored[first..][..count];
            let values = &mut values[first - columns.start..][..count];
            for l in 0..count {
                values[l] = A::value(stored[l].mul_add(scales[l], shifts[l]));
            }
        }
    }
}

#[inline(always)]
fn view_values(view: View<'_>, stored: &[f32], values: &mut [f32]) {
    let channels = view.channels;
    match view.affine {
        None => with_activation!(view.activation, A => {
            values.iter_mut().zip(stored).for_each(|(value, &stored)| *value = A::value(stored))
        }),
        Some(affine) => with_activation!(view.activation, A => {
            in_strips!(channels, first, N => affine_strip::<A, N>(channels, affine, first, stored, values));
        }),
    }
}

#[inline(always)]
fn affine_strip<A: Function, const N: usize>(
    channels: usize,
    affine: [&[f32]; 2],
    first: usize,
    stored: &[f32],
    values: &mut [f32],
) {
    let (scale, shift) = (lanes::<N>(affine[0], first), lanes::<N>(affine[1], first));
    for (stored, values) in stored.chunks_exact(channels).zip(values.chunks_exact_mut(channels)) {
        let stored = lanes::<N>(stored, first);
        let values: &mut [f32; N] = values[first..].first_chunk_mut().expect("a strip is within its pixel");
        for l in 0..N {
            values[l] = A::value(stored[l].mul_add(scale[l], shift[l]));
        }
    }
}

#[inline(always)]
fn gradient_values<A: Function>(view: View<'_>, stored: &[f32], gradient: &mut [f32], sums: Option<NormSums<'_>>) {
    let channels = view.channels;
    match (view.affine, sums) {
        (None, _) => gradient.iter_mut().zip(stored).for_each(|(gradient, &stored)| *gradient *= A::slope(stored)),
        (Some(affine), None) => {
            in_strips!(channels, first, N => gradient_strip::<A, N>(channels, affine, first, stored, gradient));
        }
        (Some(affine), Some(mut sums)) => {
            in_strips!(channels, first, N => sums_strip::<A, N>(channels, affine, first, (stored, &mut *gradient), &mut sums));
        }
    }
}

#[inline(always)]
fn gradient_strip<A: Function, const N: usize>(
    channels: usize,
    affine: [&[f32]; 2],
    first: usize,
    stored: &[f32],
    gradient: &mut [f32],
) {
    let (scale, shift) = (lanes::<N>(affine[0], first), lanes::<N>(affine[1], first));
    for (stored, gradient) in stored.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
        let stored = lanes::<N>(stored, first);
        let gradient: &mut [f32; N] = gradient[first..].first_chunk_mut().expect("a strip is within its pixel");
        for l in 0..N {
            gradient[l] *= A::slope(stored[l].mul_add(scale[l], shift[l]));
        }
    }
}

#[inline(always)]
fn sums_strip<A: Function, const N: usize>(
    channels: usize,
    affine: [&[f32]; 2],
    first: usize,
    (stored, gradient): (&[f32], &mut [f32]),
    sums: &mut NormSums<'_>,
) {
    let (scale, shift) = (lanes::<N>(affine[0], first), lanes::<N>(affine[1], first));
    let mean = lanes::<N>(sums.mean, first);
    let (mut total, mut products) = ([0.0f32; N], [0.0f32; N]);
    for (stored, gradient) in stored.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
        let stored = lanes::<N>(stored, first);
        let gradient: &mut [f32; N] = gradient[first..].first_chunk_mut().expect("a strip is within its pixel");
        for l in 0..N {
            let slope = gradient[l] * A::slope(stored[l].mul_add(scale[l], shift[l]));
            gradient[l] = slope;
            total[l] += slope;
            products[l] = slope.mul_add(stored[l] - mean[l], products[l]);
        }
    }
    for l in 0..N {
        sums.gradients[first + l] += f64::from(total[l]);
        sums.products[first + l] += f64::from(products[l]);
    }
}

#[inline(always)]
fn add_statistics(values: &[f32], sums: &mut [f64], squares: &mut [f64]) {
    let channels = sums.len();
    in_strips!(channels, first, N => statistics_strip::<N>(channels, first, values, sums, squares));
}

#[inline(always)]
fn statistics_strip<const N: usize>(
    channels: usize,
    first: usize,
    values: &[f32],
    sums: &mut [f64],
    squares: &mut [f64],
) {
    let (mut total, mut square) = ([0.0f32; N], [0.0f32; N]);
    for values in values.chunks_exact(channels) {
        let values = lanes::<N>(values, first);
        for l in 0..N {
            total[l] += values[l];
            square[l] = values[l].mul_add(values[l], square[l]);
        }
    }
    for l in 0..N {
        sums[first + l] += f64::from(total[l]);
        squares[first + l] += f64::from(square[l]);
    }
}

#[inline(always)]
fn norm_gradients(coefficients: NormCoefficients<'_>, stored: &[f32], gradient: &[f32], output: &mut [f32]) {
    let channels = coefficients[0].len();
    in_strips!(channels, first, N => norm_strip::<N>(channels, coefficients, first, [stored, gradient], output));
}

#[inline(always)]
fn norm_strip<const N: usize>(
    channels: usize,
    coefficients: NormCoefficients<'_>,
    first: usize,
    [stored, gradient]: [&[f32]; 2],
    output: &mut [f32],
) {
    let [a, b, c] = coefficients.map(|values| lanes::<N>(values, first));
    let pixels = stored.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for (output, (stored, gradient)) in output.chunks_exact_mut(channels).zip(pixels) {
        let (stored, gradient) = (lanes::<N>(stored, first), lanes::<N>(gradient, first));
        let output: &mut [f32; N] = output[first..].first_chunk_mut().expect("a strip is within its pixel");
        for l in 0..N {
            output[l] = gradient[l].mul_add(a[l], stored[l].mul_add(b[l], c[l]));
        }
    }
}

#[inline(always)]
fn norm_gradients_in_place(coefficients: NormCoefficients<'_>, stored: &[f32], gradient: &mut [f32]) {
    let channels = coefficients[0].len();
    in_strips!(channels, first, N => norm_strip_in_place::<N>(channels, coefficients, first, stored, gradient));
}

#[inline(always)]
fn norm_strip_in_place<const N: usize>(
    channels: usize,
    coefficients: NormCoefficients<'_>,
    first: usize,
    stored: &[f32],
    gradient: &mut [f32],
) {
    let [a, b, c] = coefficients.map(|values| lanes::<N>(values, first));
    for (stored, gradient) in stored.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
        let stored = lanes::<N>(stored, first);
        let gradient: &mut [f32; N] = gradient[first..].first_chunk_mut().expect("a strip is within its pixel");
        for l in 0..N {
            gradient[l] = gradient[l].mul_add(a[l], stored[l].mul_add(b[l], c[l]));
        }
    }
}
