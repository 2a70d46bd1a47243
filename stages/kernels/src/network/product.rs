//! Products of a run of pixels with a matrix, and the gradient of the matrix.
//!
//! The matrix is packed into strips of output channels beforehand, so that each step of a sum loads adjacent lanes.

use super::kernel;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx2Single, Avx512, Avx512Single};
use super::lanes::{Lanes, WIDEST, accumulate, accumulate_outer};

/// The sizes of a product of `rows` vectors with a matrix `[inputs, outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductShape {
    /// The number of vectors.
    pub rows: usize,
    /// The number of values per vector.
    pub inputs: usize,
    /// The number of sums per vector.
    pub outputs: usize,
    /// The distance between two vectors.
    pub input_stride: usize,
    /// The distance between the outputs of two vectors.
    pub output_stride: usize,
}

/// The narrowest strip.
const NARROW: usize = 8;

/// The widths of wider strips.
#[cfg(target_arch = "x86_64")]
pub(super) const WIDE_AVX512: [usize; 2] = [Avx512::COUNT, Avx512Single::COUNT];

/// The widths of wider strips.
#[cfg(target_arch = "x86_64")]
pub(super) const WIDE_AVX2: [usize; 1] = [Avx2::COUNT];

/// The number of values of a packed matrix `[inputs, outputs]`; its last strip is filled up with zeros.
pub const fn packed_len(inputs: usize, outputs: usize) -> usize {
    inputs * outputs.next_multiple_of(NARROW)
}

/// A matrix to be packed: element (i, o) is `values[i · strides[0] + o · strides[1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements.
    pub values: &'a [f32],
    /// The number of rows.
    pub inputs: usize,
    /// The number of columns.
    pub outputs: usize,
    /// The distances between rows and between columns.
    pub strides: [usize; 2],
}

kernel! {
    /// Packs a matrix for [`product`] at the same level.
    pub fn pack(matrix: Matrix<'_>, packed: &mut [f32]) {
        avx512 => pack_strips(matrix, &WIDE_AVX512, packed),
        avx2 => pack_strips(matrix, &WIDE_AVX2, packed),
        portable => pack_strips(matrix, &[], packed),
    }
}

kernel! {
    /// Writes, or adds to, `output[r, o]` the sum of `input[r, i] · matrix[i, o]`, with i in order.
    pub fn product(shape: ProductShape, input: &[f32], packed: &[f32], adds: bool, output: &mut [f32]) {
        avx512 => {
            let first = strips::<Avx512, 10>(shape, input, packed, adds, 0, output);
            let first = strips::<Avx512Single, 12>(shape, input, packed, adds, first, output);
            narrow_strips::<Avx2Single, 12>(shape, input, packed, adds, first, output)
        },
        avx2 => {
            let first = strips::<Avx2, 5>(shape, input, packed, adds, 0, output);
            narrow_strips::<Avx2Single, 10>(shape, input, packed, adds, first, output)
        },
        portable => narrow_strips::<[f32; NARROW], 4>(shape, input, packed, adds, 0, output),
    }
}

kernel! {
    /// Writes, or adds, to `weights[i, o]` the sum over the rows of `input[r, i] · gradient[r, o]`, with rows in order.
    ///
    /// `shape.output_stride` is the distance between two rows of the gradient.
    pub fn outer_product(shape: ProductShape, input: &[f32], gradient: &[f32], adds: bool, weights: &mut [f32]) {
        avx512 => {
            let first = outer_strips::<Avx512, 12>(shape, input, (gradient, adds), 0, weights);
            let first = outer_strips::<Avx512Single, 12>(shape, input, (gradient, adds), first, weights);
            let first = outer_strips::<Avx2Single, 12>(shape, input, (gradient, adds), first, weights);
            outer_strips::<[f32; 1], 8>(shape, input, (gradient, adds), first, weights);
        },
        avx2 => {
            let first = outer_strips::<Avx2, 6>(shape, input, (gradient, adds), 0, weights);
            let first = outer_strips::<Avx2Single, 8>(shape, input, (gradient, adds), first, weights);
            outer_strips::<[f32; 1], 8>(shape, input, (gradient, adds), first, weights);
        },
        portable => {
            let first = outer_strips::<[f32; 8], 4>(shape, input, (gradient, adds), 0, weights);
            outer_strips::<[f32; 1], 8>(shape, input, (gradient, adds), first, weights);
        },
    }
}

/// The strips of a packed matrix: the first column of each, and its width. There are as many as possible of each of the
/// widths `wide`, then narrow ones.
pub(super) fn strips_of(outputs: usize, wide: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let width = wide.iter().copied().find(|width| first + width <= outputs).unwrap_or(NARROW);
        let strip = (first, width);
        first += width;
        (strip.0 < outputs).then_some(strip)
    })
}

#[inline(always)]
fn pack_strips(matrix: Matrix<'_>, wide: &[usize], packed: &mut [f32]) {
    let Matrix { values, inputs, outputs, strides } = matrix;
    for (first, width) in strips_of(outputs, wide) {
        let used = width.min(outputs - first);
        let strip = &mut packed[inputs * first..][..inputs * width];
        for (i, row) in strip.chunks_exact_mut(width).enumerate() {
            let from = &values[i * strides[0] + first * strides[1]..];
            for (o, value) in row[..used].iter_mut().enumerate() {
                *value = from[o * strides[1]];
            }
            row[used..].fill(0.0);
        }
    }
}

/// Inputs per block: the strip's weights of a block stay in the L1 cache while all rows are processed.
const BLOCK: usize = 192;

#[inline(always)]
fn strips<L: Lanes, const P: usize>(
    shape: ProductShape,
    input: &[f32],
    packed: &[f32],
    adds: bool,
    mut first: usize,
    output: &mut [f32],
) -> usize {
    while first + L::COUNT <= shape.outputs {
        let packed = &packed[shape.inputs * first..][..shape.inputs * L::COUNT];
        strip::<L, P>(shape, input, packed, adds, L::COUNT, &mut output[first..]);
        first += L::COUNT;
    }
    first
}

/// All remaining outputs; the last strip may have fewer outputs than lanes.
#[inline(always)]
fn narrow_strips<L: Lanes, const P: usize>(
    shape: ProductShape,
    input: &[f32],
    packed: &[f32],
    adds: bool,
    first: usize,
    output: &mut [f32],
) {
    let mut first = strips::<L, P>(shape, input, packed, adds, first, output);
    if first < shape.outputs {
        let packed = &packed[shape.inputs * first..][..shape.inputs * L::COUNT];
        strip::<L, P>(shape, input, packed, adds, shape.outputs - first, &mut output[first..]);
        first = shape.outputs;
    }
    debug_assert_eq!(first, shape.outputs);
}

/// All rows of one strip, of whose lanes the first `used` are stored.
#[inline(always)]
fn strip<L: Lanes, const P: usize>(
    shape: ProductShape,
    input: &[f32],
    packed: &[f32],
    adds: bool,
    used: usize,
    output: &mut [f32],
) {
    for (number, packed) in packed.chunks(BLOCK * L::COUNT).enumerate() {
        let input = &input[number * BLOCK..];
        let adds = adds || number > 0;
        let mut row = 0;
        while row + P <= shape.rows {
            block::<L, P>(shape, row, input, packed, adds, used, output);
            row += P;
        }
        while row + 4 <= shape.rows {
            block::<L, 4>(shape, row, input, packed, adds, used, output);
            row += 4;
        }
        while row < shape.rows {
            block::<L, 1>(shape, row, input, packed, adds, used, output);
            row += 1;
        }
    }
}

#[inline(always)]
fn block<L: Lanes, const P: usize>(
    shape: ProductShape,
    row: usize,
    input: &[f32],
    packed: &[f32],
    adds: bool,
    used: usize,
    output: &mut [f32],
) {
    let rows = std::array::from_fn(|p| &input[(row + p) * shape.input_stride..]);
    let mut sums = [L::splat(0.0); P];
    if adds {
        for (p, sum) in sums.iter_mut().enumerate() {
            *sum = load_some(&output[(row + p) * shape.output_stride..], used);
        }
    }
    accumulate(&mut sums, rows, packed.chunks_exact(L::COUNT).map(L::load));
    for (p, sum) in sums.iter().enumerate() {
        store_some(*sum, &mut output[(row + p) * shape.output_stride..], used);
    }
}

#[inline(always)]
fn load_some<L: Lanes>(values: &[f32], used: usize) -> L {
    if used == L::COUNT {
        return L::load(values);
    }
    let mut all = [0.0; WIDEST];
    all[..used].copy_from_slice(&values[..used]);
    L::load(&all)
}

#[inline(always)]
fn store_some<L: Lanes>(sums: L, values: &mut [f32], used: usize) {
    if used == L::COUNT {
        return sums.store(values);
    }
    let mut all = [0.0; WIDEST];
    sums.store(&mut all);
    values[..used].copy_from_slice(&all[..used]);
}

#[inline(always)]
fn outer_strips<L: Lanes, const J: usize>(
    shape: ProductShape,
    input: &[f32],
    (gradient, adds): (&[f32], bool),
    mut first: usize,
    weights: &mut [f32],
) -> usize {
    while first + L::COUNT <= shape.outputs {
        let mut i = 0;
        while i + J <= shape.inputs {
            outer_block::<L, J>(
                shape,
                &input[i..],
                (&gradient[first..], adds),
                &mut weights[i * shape.outputs + first..],
            );
            i += J;
        }
        while i + 4 <= shape.inputs {
            outer_block::<L, 4>(
                shape,
                &input[i..],
                (&gradient[first..], adds),
                &mut weights[i * shape.outputs + first..],
            );
            i += 4;
        }
        while i < shape.inputs {
            outer_block::<L, 1>(
                shape,
                &input[i..],
                (&gradient[first..], adds),
                &mut weights[i * shape.outputs + first..],
            );
            i += 1;
        }
        first += L::COUNT;
    }
    first
}

#[inline(always)]
fn outer_block<L: Lanes, const J: usize>(
    shape: ProductShape,
    input: &[f32],
    (gradient, adds): (&[f32], bool),
    weights: &mut [f32],
) {
    let mut sums = [L::splat(0.0); J];
    accumulate_outer(&mut sums, (input, shape.input_stride), (gradient, shape.output_stride), shape.rows);
    for (j, sum) in sums.iter().enumerate() {
        let weights = &mut weights[j * shape.outputs..];
        // The sum of earlier runs, times one, plus this run's sum.
        let sum = if adds { L::load(weights).mul_add(L::splat(1.0), *sum) } else { *sum };
        sum.store(weights);
    }
}
