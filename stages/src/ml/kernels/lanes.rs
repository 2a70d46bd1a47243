//! The two inner loops that all products share, on blocks of accumulators that fit the registers.

/// Adds to `block[r][l]` the products `rows[r][k] * weights[k * stride + l]`, k in order.
///
/// All rows have the same length; `weights` has that many rows of `stride`, the last possibly cut after `N`.
#[inline(always)]
pub fn accumulate<const R: usize, const N: usize>(
    block: &mut [[f32; N]; R],
    rows: [&[f32]; R],
    weights: &[f32],
    stride: usize,
) {
    let length = rows[0].len();
    let rows = rows.map(|row| &row[..length]);
    for (k, weights) in (0..length).zip(weights.chunks(stride)) {
        let weights = lanes::<N>(weights);
        for r in 0..R {
            let value = rows[r][k];
            for l in 0..N {
                block[r][l] = value.mul_add(weights[l], block[r][l]);
            }
        }
    }
}

/// Adds to `block[j][l]` the products `left[i * left_stride + j] * right[i * right_stride + l]` for `count` values of i, in order.
#[inline(always)]
pub fn accumulate_outer<const J: usize, const N: usize>(
    block: &mut [[f32; N]; J],
    left: (&[f32], usize),
    right: (&[f32], usize),
    count: usize,
) {
    for i in 0..count {
        let left = lanes::<J>(&left.0[i * left.1..]);
        let right = lanes::<N>(&right.0[i * right.1..]);
        for j in 0..J {
            for l in 0..N {
                block[j][l] = left[j].mul_add(right[l], block[j][l]);
            }
        }
    }
}

/// The first `N` values.
#[inline(always)]
pub fn lanes<const N: usize>(values: &[f32]) -> &[f32; N] {
    values.first_chunk().expect("a block lies inside its row")
}

/// The first `N` values, to write to.
#[inline(always)]
pub fn lanes_mut<const N: usize>(values: &mut [f32]) -> &mut [f32; N] {
    values.first_chunk_mut().expect("a block lies inside its row")
}
