//! Inverse cosine transforms of the low frequencies of a block, in integers.
//!
//! For N points, `f(x) = F(0) + Σ F(u) · √2 · cos((2x + 1) u π / 2N)`, in each direction, and the whole divided by 8: what
//! is left of the transform of ITU-T T.81, A.3.3, where only the N lowest frequencies are kept and the block has N pixels.

/// Binary digits behind the point of the factors.
const DIGITS: u32 = 12;

/// √2 · cos(uπ/16) of each u, in fixed point.
const COSINES: [i32; 8] = [5793, 5681, 5352, 4816, 4096, 3218, 2217, 1130];

/// Transforms the lowest frequencies of a block into pixels of `size` (across, down), each 1, 2, 4 or 8.
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
        _ => unreachable!("blocks have 1, 2, 4 or 8 pixels, and no more than twice as many one way as the other"),
    }
}

/// A value with `digits` binary digits, rounded, moved up by 128 and cut to a byte.
#[inline(always)]
fn byte(value: i32, digits: u32) -> u8 {
    ((value.wrapping_add(1 << (digits - 1)) >> digits) + 128).clamp(0, 255) as u8
}

/// 2×2: all factors are 1 or −1.
#[inline(always)]
fn quarter(coefficients: &[i32; 64], target: &mut [u8], stride: usize) {
    let [a, b, c, d] = [coefficients[0], coefficients[1], coefficients[8], coefficients[9]];
    let (target, below) = target.split_at_mut(stride);
    (target[0], target[1]) = (byte(a + b + c + d, 3), byte(a - b + c - d, 3));
    (below[0], below[1]) = (byte(a + b - c - d, 3), byte(a - b - c + d, 3));
}

/// First all columns, then all rows.
#[inline(always)]
fn separable<const ACROSS: usize, const DOWN: usize>(coefficients: &[i32; 64], target: &mut [u8], stride: usize) {
    let mut columns = [[0i32; ACROSS]; DOWN];
    for u in 0..ACROSS {
        let mut column = [0; DOWN];
        for v in 0..DOWN {
            column[v] = coefficients[v * 8 + u];
        }
        let column = transform(column);
        for v in 0..DOWN {
            // Three digits more than a whole number, for the rows.
            columns[v][u] = column[v].wrapping_add(1 << (DIGITS - 4)) >> (DIGITS - 3);
        }
    }
    for (row, target) in columns.into_iter().zip(target.chunks_mut(stride)) {
        let (row, target) = (transform(row), &mut target[..ACROSS]);
        for x in 0..ACROSS {
            target[x] = byte(row[x], DIGITS + 6);
        }
    }
}

/// The transform of 1, 2, 4 or 8 values; the results have [`DIGITS`] binary digits more.
#[inline(always)]
fn transform<const N: usize>(input: [i32; N]) -> [i32; N] {
    let times = |value: i32, u: usize| value.wrapping_mul(COSINES[u]);
    let mut output = [0; N];
    match N {
        1 => output[0] = input[0] << DIGITS,
        2 => {
            output[0] = input[0].wrapping_add(input[1]) << DIGITS;
            output[1] = input[0].wrapping_sub(input[1]) << DIGITS;
        }
        _ => {
            // Even frequencies are the transform of half as many points.
            let (a, b, c, d) = (input[0], input[N / 4], input[N / 2], input[3 * N / 4]);
            let (even, other) = (a.wrapping_add(c) << DIGITS, a.wrapping_sub(c) << DIGITS);
            let odd = times(b, 2).wrapping_add(times(d, 6));
            let last = times(b, 6).wrapping_sub(times(d, 2));
            let half =
                [even.wrapping_add(odd), other.wrapping_add(last), other.wrapping_sub(last), even.wrapping_sub(odd)];
            if N == 4 {
                output.copy_from_slice(&half);
                return output;
            }
            // cos((2x + 1) u π / 16) for odd u, brought into the first quarter of the circle.
            let odd = [1, 3, 5, 7].map(|u| input[u % N]);
            let sum = |signs: [(i32, usize); 4]| {
                let [a, b, c, d] = signs;
                let product = |value: i32, (sign, u): (i32, usize)| times(value, u).wrapping_mul(sign);
                let (first, second) = (product(odd[0], a), product(odd[1], b));
                first.wrapping_add(second).wrapping_add(product(odd[2], c)).wrapping_add(product(odd[3], d))
            };
            let odd = [
                sum([(1, 1), (1, 3), (1, 5), (1, 7)]),
                sum([(1, 3), (-1, 7), (-1, 1), (-1, 5)]),
                sum([(1, 5), (-1, 1), (1, 7), (1, 3)]),
                sum([(1, 7), (-1, 5), (1, 3), (-1, 1)]),
            ];
            for x in 0..4 {
                output[x] = half[x].wrapping_add(odd[x]);
                output[7 - x] = half[x].wrapping_sub(odd[x]);
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula at the top, in floats.
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

    #[test]
    fn every_size_follows_the_formula() {
        let mut random = hamflow_stage_api::Random::new(5, "coefficients");
        let sizes = [(1, 1), (2, 2), (4, 4), (8, 8), (2, 1), (1, 2), (4, 2), (2, 4), (8, 4), (4, 8)];
        for size in sizes {
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
