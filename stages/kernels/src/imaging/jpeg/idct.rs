//! Inverse cosine transforms of the low frequencies of a block, in integers.
//!
//! For N points, `f(x) = F(0) + Σ F(u) · √2 · cos((2x + 1) u π / 2N)` in each direction, and the result divided by 8.
//! This is the transform of ITU-T T.81, A.3.3, restricted to the N lowest frequencies and N pixels.

/// The number of fractional bits of the factors.
const DIGITS: u32 = 12;

/// √2 · cos(uπ/16) for each u, in fixed point.
const COSINES: [i32; 8] = [5793, 5681, 5352, 4816, 4096, 3218, 2217, 1130];

/// Transforms the lowest frequencies of a block to pixels of `size` (width, height), each 1, 2, 4 or 8.
#[inline(always)]
pub(super) fn block(coefficients: &[i32; 64], size: (usize, usize), target: &mut [u8], stride: usize) {
    match size {
        (1, 1) => target[0] = byte(coefficients[0], 3),
        (2, 2) => quarter(coefficients, target, stride),
        (4, 4) => separable::<4, 4>(coefficients, target, stride),
        (8, 8) => separable::<8, 8>(coefficients, target, stride),
        (2, 1) => separable::<2, 1>(coefficients, target, stride),
        (1, 2) => separable::<1, 2>(coefficients, target, stride),
        (4, 2) => separable::<4, 2>(coefficients, target, stride),
        (2, 4) => separable::<2, 4>(coefficients, target, stride),
        (8, 4) => separable::<8, 4>(coefficients, target, stride),
        (4, 8) => separable::<4, 8>(coefficients, target, stride),
        _ => unreachable!("block sizes are 1, 2, 4 or 8, with an aspect ratio of at most 2"),
    }
}

/// Rounds a value with `digits` fractional bits, adds 128 and clamps to a byte.
#[inline(always)]
fn byte(value: i32, digits: u32) -> u8 {
    ((value.wrapping_add(1 << (digits - 1)) >> digits) + 128).clamp(0, 255) as u8
}

/// 2×2: all factors are 1 or −1.
#[inline(always)]
fn quarter(coefficients: &[i32; 64], target: &mut [u8], stride: usize) {
    let [a, b, c, d] = [coefficients[0], coefficients[1], coefficients[8], coefficients[9]];
    let ([sum, other], [rest, last]) = (both(a, b), both(c, d));
    let ([left, left_below], [right, right_below]) = (both(sum, rest), both(other, last));
    let (target, below) = target.split_at_mut(stride);
    (target[0], target[1]) = (byte(left, 3), byte(right, 3));
    (below[0], below[1]) = (byte(left_below, 3), byte(right_below, 3));
}

/// The sum and the difference.
#[inline(always)]
fn both(a: i32, b: i32) -> [i32; 2] {
    [a.wrapping_add(b), a.wrapping_sub(b)]
}

/// Transforms first all columns, then all rows; adjacent columns (or rows) are processed together.
#[inline(always)]
fn separable<const ACROSS: usize, const DOWN: usize>(coefficients: &[i32; 64], target: &mut [u8], stride: usize) {
    let mut frequencies = [[0; ACROSS]; DOWN];
    for v in 0..DOWN {
        frequencies[v].copy_from_slice(&coefficients[v * 8..][..ACROSS]);
    }
    let columns = transform(frequencies);
    let mut rows = [[0; DOWN]; ACROSS];
    for y in 0..DOWN {
        for u in 0..ACROSS {
            // Three additional fractional bits for the rows.
            rows[u][y] = columns[y][u].wrapping_add(1 << (DIGITS - 4)) >> (DIGITS - 3);
        }
    }
    let pixels = transform(rows);
    for (y, target) in target.chunks_mut(stride).take(DOWN).enumerate() {
        let target = &mut target[..ACROSS];
        for x in 0..ACROSS {
            target[x] = byte(pixels[x][y], DIGITS + 6);
        }
    }
}

/// Values that are processed together.
type Lanes<const L: usize> = [i32; L];

#[inline(always)]
fn add<const L: usize>(a: Lanes<L>, b: Lanes<L>) -> Lanes<L> {
    std::array::from_fn(|l| a[l].wrapping_add(b[l]))
}

#[inline(always)]
fn subtract<const L: usize>(a: Lanes<L>, b: Lanes<L>) -> Lanes<L> {
    std::array::from_fn(|l| a[l].wrapping_sub(b[l]))
}

/// Multiplies by √2 · cos(uπ/16).
#[inline(always)]
fn times<const L: usize>(a: Lanes<L>, u: usize) -> Lanes<L> {
    std::array::from_fn(|l| a[l].wrapping_mul(COSINES[u]))
}

#[inline(always)]
fn raised<const L: usize>(a: Lanes<L>) -> Lanes<L> {
    std::array::from_fn(|l| a[l] << DIGITS)
}

/// The transform of 1, 2, 4 or 8 values in each lane; the results have [`DIGITS`] additional fractional bits.
#[inline(always)]
fn transform<const N: usize, const L: usize>(input: [Lanes<L>; N]) -> [Lanes<L>; N] {
    let mut output = [[0; L]; N];
    match N {
        1 => output[0] = raised(input[0]),
        2 => {
            output[0] = raised(add(input[0], input[1]));
            output[1] = raised(subtract(input[0], input[1]));
        }
        _ => {
            // Even frequencies are a transform of half the number of points.
            let (a, b, c, d) = (input[0], input[N / 4], input[N / 2], input[3 * N / 4]);
            let (even, other) = (raised(add(a, c)), raised(subtract(a, c)));
            let odd = add(times(b, 2), times(d, 6));
            let last = subtract(times(b, 6), times(d, 2));
            let half = [add(even, odd), add(other, last), subtract(other, last), subtract(even, odd)];
            if N == 4 {
                output.copy_from_slice(&half);
                return output;
            }
            // cos((2x + 1) u π / 16) for odd u, reduced to the first quadrant.
            let [a, b, c, d] = [1, 3, 5, 7].map(|u| input[u % N]);
            let odd = [
                add(add(times(a, 1), times(b, 3)), add(times(c, 5), times(d, 7))),
                subtract(times(a, 3), add(add(times(b, 7), times(c, 1)), times(d, 5))),
                add(subtract(times(a, 5), times(b, 1)), add(times(c, 7), times(d, 3))),
                subtract(add(times(a, 7), times(c, 3)), add(times(b, 5), times(d, 1))),
            ];
            for x in 0..4 {
                output[x] = add(half[x], odd[x]);
                output[7 - x] = subtract(half[x], odd[x]);
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of the module documentation, in floating point.
    fn reference(coefficients: &[i32; 64], (across, down): (usize, usize)) -> Vec<f64> {
        let cosine = |x: usize, u: usize, n: usize| match u {
            0 => 1.0,
            _ => 2.0f64.sqrt() * ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / (2 * n) as f64).cos(),
        };
        let pixel = |x: usize, y: usize| {
            let terms = (0..down).flat_map(|v| (0..across).map(move |u| (u, v)));
            let sum: f64 = terms
                .map(|(u, v)| f64::from(coefficients[v * 8 + u]) * cosine(x, u, across) * cosine(y, v, down))
                .sum();
            (sum / 8.0 + 128.0).clamp(0.0, 255.0)
        };
        (0..down).flat_map(|y| (0..across).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect()
    }

    // A corrupt file may contain such coefficients. Any pixels are valid, but overflow checks must not panic.
    #[test]
    fn the_largest_coefficients_wrap_around() {
        for value in [i32::MAX, i32::MIN, -1] {
            for size in SIZES {
                block(&[value; 64], size, &mut vec![0; size.0 * size.1], size.0);
            }
        }
    }

    const SIZES: [(usize, usize); 10] =
        [(1, 1), (2, 2), (4, 4), (8, 8), (2, 1), (1, 2), (4, 2), (2, 4), (8, 4), (4, 8)];

    #[test]
    fn every_size_matches_the_formula() {
        let mut random = hamflow_stage_api::Random::new(5, "coefficients");
        for size in SIZES {
            for _ in 0..200 {
                let mut coefficients = [0i32; 64];
                for coefficient in &mut coefficients {
                    *coefficient = random.below(401) as i32 - 200;
                }
                let mut target = vec![0; size.0 * size.1];
                block(&coefficients, size, &mut target, size.0);
                for (found, wanted) in target.iter().zip(reference(&coefficients, size)) {
                    assert!((f64::from(*found) - wanted).abs() < 0.6, "{size:?}: {found} is not {wanted}");
                }
            }
        }
    }
}
