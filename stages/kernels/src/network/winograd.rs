//! The transforms of Winograd's minimal filtering algorithms F(2×2, 3×3) and F(4×4, 3×3) for convolutions (Lavin, Gray
//! 2016).
//!
//! A tile of m×m outputs of a 3×3 correlation depends on (m + 2)×(m + 2) inputs `d`. With the filter `g`, it is
//! `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`: 16 products instead of 36 for m = 2, and 36 instead of 144 for m = 4. Over many
//! channels, each of them is a matrix product.
//!
//! Lanes run over channels, and every value is computed by the same additions at every level: a sum is a multiply-add with
//! the factor 1, a difference one with −1.

use super::kernel;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2Single, Avx512Single};
use super::lanes::{Lanes, WIDEST};
use super::product::{Matrix, strips_of};
#[cfg(target_arch = "x86_64")]
use super::product::{WIDE_AVX2, WIDE_AVX512};
use super::view::{Activation, Function, Identity, Relu, Relu6, Silu, View, with_activation};

/// The place of a pixel outside of the map, which counts as 0.
pub const OUTSIDE: usize = usize::MAX;

/// The number of outputs that are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    /// 2×2 outputs.
    Two,
    /// 4×4 outputs.
    Four,
}

impl Tile {
    /// The height and width of the outputs of a tile.
    pub const fn side(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// The height and width of the inputs of a tile, and of its transformed values.
    pub const fn input_side(self) -> usize {
        self.side() + 2
    }

    /// The number of values of a transformed tile.
    pub const fn positions(self) -> usize {
        self.input_side() * self.input_side()
    }
}

kernel! {
    /// Writes `Bᵀ d B` for each channel of a tile, whose pixels, row by row, begin at `pixels` in `map`; `d` are their
    /// values in this view. The value at position `p` of channel `c` is `transformed[p · stride + c]`.
    pub fn winograd_input(tile: Tile, pixels: &[usize], view: View<'_>, map: &[f32], stride: usize, transformed: &mut [f32]) {
        avx512 => with_activation!(view.activation, A => match tile {
            Tile::Two => input::<Avx512Single, A, F2, 2, 4>(pixels, view, map, stride, transformed),
            Tile::Four => input::<Avx512Single, A, F4, 4, 6>(pixels, view, map, stride, transformed),
        }),
        avx2 => with_activation!(view.activation, A => match tile {
            Tile::Two => input::<Avx2Single, A, F2, 2, 4>(pixels, view, map, stride, transformed),
            Tile::Four => input::<Avx2Single, A, F4, 4, 6>(pixels, view, map, stride, transformed),
        }),
        portable => with_activation!(view.activation, A => match tile {
            Tile::Two => input::<[f32; 8], A, F2, 2, 4>(pixels, view, map, stride, transformed),
            Tile::Four => input::<[f32; 8], A, F4, 4, 6>(pixels, view, map, stride, transformed),
        }),
    }
}

kernel! {
    /// Writes, or adds, `Aᵀ m A` for each channel of a tile to the pixels, row by row, that begin at `pixels` in `map`.
    /// `products` are those of the first position, and the distance to the next one.
    pub fn winograd_output(tile: Tile, products: (&[f32], usize), channels: usize, pixels: &[usize], adds: bool, map: &mut [f32]) {
        avx512 => match tile {
            Tile::Two => output::<Avx512Single, F2, 2, 4>(products, channels, (pixels, adds), map),
            Tile::Four => output::<Avx512Single, F4, 4, 6>(products, channels, (pixels, adds), map),
        },
        avx2 => match tile {
            Tile::Two => output::<Avx2Single, F2, 2, 4>(products, channels, (pixels, adds), map),
            Tile::Four => output::<Avx2Single, F4, 4, 6>(products, channels, (pixels, adds), map),
        },
        portable => match tile {
            Tile::Two => output::<[f32; 8], F2, 2, 4>(products, channels, (pixels, adds), map),
            Tile::Four => output::<[f32; 8], F4, 4, 6>(products, channels, (pixels, adds), map),
        },
    }
}

kernel! {
    /// Writes `A y Aᵀ` for each channel, where `y` is the gradient of the outputs of a tile.
    pub fn winograd_output_gradient(tile: Tile, pixels: &[usize], map: &[f32], channels: usize, stride: usize, transformed: &mut [f32]) {
        avx512 => match tile {
            Tile::Two => output_gradient::<Avx512Single, F2, 2, 4>(pixels, map, channels, stride, transformed),
            Tile::Four => output_gradient::<Avx512Single, F4, 4, 6>(pixels, map, channels, stride, transformed),
        },
        avx2 => match tile {
            Tile::Two => output_gradient::<Avx2Single, F2, 2, 4>(pixels, map, channels, stride, transformed),
            Tile::Four => output_gradient::<Avx2Single, F4, 4, 6>(pixels, map, channels, stride, transformed),
        },
        portable => match tile {
            Tile::Two => output_gradient::<[f32; 8], F2, 2, 4>(pixels, map, channels, stride, transformed),
            Tile::Four => output_gradient::<[f32; 8], F4, 4, 6>(pixels, map, channels, stride, transformed),
        },
    }
}

kernel! {
    /// Writes `G g Gᵀ` for a matrix of filters, packed for [`product`](super::product()) at the same level: a matrix per
    /// position, `distance` values after the one before. `matrix` is that of the first weight of the filters; the next
    /// follow at the distance of `inputs · outputs`. `turned`, the filters are turned by 180°.
    pub fn winograd_filters(tile: Tile, matrix: Matrix<'_>, turned: bool, distance: usize, packed: &mut [f32]) {
        avx512 => match tile {
            Tile::Two => pack_filters::<Avx512Single, Avx2Single, F2, 2, 4>(matrix, turned, &WIDE_AVX512, distance, packed),
            Tile::Four => pack_filters::<Avx512Single, Avx2Single, F4, 4, 6>(matrix, turned, &WIDE_AVX512, distance, packed),
        },
        avx2 => match tile {
            Tile::Two => pack_filters::<Avx2Single, Avx2Single, F2, 2, 4>(matrix, turned, &WIDE_AVX2, distance, packed),
            Tile::Four => pack_filters::<Avx2Single, Avx2Single, F4, 4, 6>(matrix, turned, &WIDE_AVX2, distance, packed),
        },
        portable => match tile {
            Tile::Two => pack_filters::<[f32; 8], [f32; 8], F2, 2, 4>(matrix, turned, &[], distance, packed),
            Tile::Four => pack_filters::<[f32; 8], [f32; 8], F4, 4, 6>(matrix, turned, &[], distance, packed),
        },
    }
}

kernel! {
    /// Writes `Gᵀ u G`, the gradients of `count` filters with nine weights, where `u` is the gradient of the transformed
    /// ones.
    pub fn winograd_filter_gradient(tile: Tile, transformed: &[f32], count: usize, filters: &mut [&mut [f32]; 9]) {
        avx512 => match tile {
            Tile::Two => filter_gradient::<Avx512Single, F2, 2, 4>(transformed, count, filters),
            Tile::Four => filter_gradient::<Avx512Single, F4, 4, 6>(transformed, count, filters),
        },
        avx2 => match tile {
            Tile::Two => filter_gradient::<Avx2Single, F2, 2, 4>(transformed, count, filters),
            Tile::Four => filter_gradient::<Avx2Single, F4, 4, 6>(transformed, count, filters),
        },
        portable => match tile {
            Tile::Two => filter_gradient::<[f32; 8], F2, 2, 4>(transformed, count, filters),
            Tile::Four => filter_gradient::<[f32; 8], F4, 4, 6>(transformed, count, filters),
        },
    }
}

/// The transforms of F(M, 3) in one dimension, with T = M + 2 products.
trait Filtering<const M: usize, const T: usize> {
    /// `Bᵀ v`.
    fn of_inputs<L: Lanes>(v: [L; T]) -> [L; T];
    /// `Aᵀ v`.
    fn of_products<L: Lanes>(v: [L; T]) -> [L; M];
    /// `A v`.
    fn of_outputs<L: Lanes>(v: [L; M]) -> [L; T];
    /// `G v`.
    fn of_filters<L: Lanes>(v: [L; 3]) -> [L; T];
    /// `Gᵀ v`.
    fn of_filter_gradients<L: Lanes>(v: [L; T]) -> [L; 3];
}

/// Interpolation at 0, ±1 and ∞.
struct F2;

/// Interpolation at 0, ±1, ±2 and ∞.
struct F4;

#[inline(always)]
fn add<L: Lanes>(a: L, b: L) -> L {
    a.mul_add(L::splat(1.0), b)
}

#[inline(always)]
fn subtract<L: Lanes>(a: L, b: L) -> L {
    b.mul_add(L::splat(-1.0), a)
}

#[inline(always)]
fn times<L: Lanes>(a: L, factor: f32) -> L {
    a.mul_add(L::splat(factor), L::splat(0.0))
}

/// `a · factor + b`.
#[inline(always)]
fn add_times<L: Lanes>(a: L, factor: f32, b: L) -> L {
    a.mul_add(L::splat(factor), b)
}

impl Filtering<2, 4> for F2 {
    #[inline(always)]
    fn of_inputs<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 4] {
        [subtract(a, c), add(b, c), subtract(c, b), subtract(b, d)]
    }

    #[inline(always)]
    fn of_products<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 2] {
        [add(add(a, b), c), subtract(subtract(b, c), d)]
    }

    #[inline(always)]
    fn of_outputs<L: Lanes>([a, b]: [L; 2]) -> [L; 4] {
        [a, add(a, b), subtract(a, b), subtract(L::splat(0.0), b)]
    }

    #[inline(always)]
    fn of_filters<L: Lanes>([a, b, c]: [L; 3]) -> [L; 4] {
        [a, times(add(add(a, b), c), 0.5), times(add(subtract(a, b), c), 0.5), c]
    }

    #[inline(always)]
    fn of_filter_gradients<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 3] {
        [add(a, times(add(b, c), 0.5)), times(subtract(b, c), 0.5), add(times(add(b, c), 0.5), d)]
    }
}

impl Filtering<4, 6> for F4 {
    #[inline(always)]
    fn of_inputs<L: Lanes>([a, b, c, d, e, f]: [L; 6]) -> [L; 6] {
        let (even, odd) = (add_times(c, -4.0, e), add_times(b, -4.0, d));
        let (even2, odd2) = (subtract(e, c), subtract(d, b));
        [
            add_times(a, 4.0, add_times(c, -5.0, e)),
            add(even, odd),
            subtract(even, odd),
            add_times(odd2, 2.0, even2),
            add_times(odd2, -2.0, even2),
            add_times(b, 4.0, add_times(d, -5.0, f)),
        ]
    }

    #[inline(always)]
    fn of_products<L: Lanes>([a, b, c, d, e, f]: [L; 6]) -> [L; 4] {
        let (even, odd) = (add(b, c), subtract(b, c));
        let (even2, odd2) = (add(d, e), subtract(d, e));
        [
            add(add(a, even), even2),
            add_times(odd2, 2.0, odd),
            add_times(even2, 4.0, even),
            add(add_times(odd2, 8.0, odd), f),
        ]
    }

    #[inline(always)]
    fn of_outputs<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 6] {
        let (even, odd) = (add(a, c), add(b, d));
        let (even2, odd2) = (add_times(c, 4.0, a), add_times(d, 8.0, times(b, 2.0)));
        [a, add(even, odd), subtract(even, odd), add(even2, odd2), subtract(even2, odd2), d]
    }

    #[inline(always)]
    fn of_filters<L: Lanes>([a, b, c]: [L; 3]) -> [L; 6] {
        let even = times(add(a, c), -1.0 / 6.0);
        let (even2, odd2) = (add_times(c, 1.0 / 6.0, times(a, 1.0 / 24.0)), times(b, 1.0 / 12.0));
        [
            times(a, 0.25),
            add_times(b, -1.0 / 6.0, even),
            add_times(b, 1.0 / 6.0, even),
            add(even2, odd2),
            subtract(even2, odd2),
            c,
        ]
    }

    #[inline(always)]
    fn of_filter_gradients<L: Lanes>([a, b, c, d, e, f]: [L; 6]) -> [L; 3] {
        let (even, odd) = (add(b, c), subtract(c, b));
        let (even2, odd2) = (add(d, e), subtract(d, e));
        [
            add_times(a, 0.25, add_times(even2, 1.0 / 24.0, times(even, -1.0 / 6.0))),
            add_times(odd2, 1.0 / 12.0, times(odd, 1.0 / 6.0)),
            add(add_times(even2, 1.0 / 6.0, times(even, -1.0 / 6.0)), f),
        ]
    }
}

#[inline(always)]
fn pixel<L: Lanes>(map: &[f32], pixel: usize, channel: usize) -> L {
    if pixel == OUTSIDE { L::splat(0.0) } else { L::load(&map[pixel + channel..]) }
}

#[inline(always)]
fn input<L: Lanes, A: Function, F: Filtering<M, T>, const M: usize, const T: usize>(
    pixels: &[usize],
    view: View<'_>,
    map: &[f32],
    stride: usize,
    transformed: &mut [f32],
) {
    let wide = view.channels - view.channels % L::COUNT;
    for first in (0..wide).step_by(L::COUNT) {
        input_lanes::<L, A, F, M, T>(first, pixels, view, map, stride, transformed);
    }
    for first in wide..view.channels {
        input_lanes::<[f32; 1], A, F, M, T>(first, pixels, view, map, stride, transformed);
    }
}

#[inline(always)]
fn input_lanes<L: Lanes, A: Function, F: Filtering<M, T>, const M: usize, const T: usize>(
    first: usize,
    pixels: &[usize],
    view: View<'_>,
    map: &[f32],
    stride: usize,
    transformed: &mut [f32],
) {
    let [scale, shift] = match view.affine {
        Some(affine) => affine.map(|values| L::load(&values[first..])),
        None => [L::splat(1.0), L::splat(0.0)],
    };
    let value = |place: usize| match pixels[place] {
        OUTSIDE => L::splat(0.0),
        pixel => L::load(&map[pixel + first..]).mul_add(scale, shift).activated::<A>(),
    };
    let columns: [[L; T]; T] = std::array::from_fn(|x| F::of_inputs(std::array::from_fn(|y| value(T * y + x))));
    for y in 0..T {
        let row = F::of_inputs(std::array::from_fn(|x| columns[x][y]));
        for x in 0..T {
            row[x].store(&mut transformed[(T * y + x) * stride + first..]);
        }
    }
}

#[inline(always)]
fn output<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    (products, stride): (&[f32], usize),
    channels: usize,
    (pixels, adds): (&[usize], bool),
    map: &mut [f32],
) {
    let wide = channels - channels % L::COUNT;
    for first in (0..wide).step_by(L::COUNT) {
        output_lanes::<L, F, M, T>(first, (products, stride), (pixels, adds), map);
    }
    for first in wide..channels {
        output_lanes::<[f32; 1], F, M, T>(first, (products, stride), (pixels, adds), map);
    }
}

#[inline(always)]
fn output_lanes<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    first: usize,
    (products, stride): (&[f32], usize),
    (pixels, adds): (&[usize], bool),
    map: &mut [f32],
) {
    let columns: [[L; M]; T] = std::array::from_fn(|x| {
        F::of_products(std::array::from_fn(|y| L::load(&products[(T * y + x) * stride + first..])))
    });
    for y in 0..M {
        let row = F::of_products(std::array::from_fn(|x| columns[x][y]));
        for x in 0..M {
            let to = pixels[M * y + x];
            if to != OUTSIDE {
                let to = &mut map[to + first..];
                let value = if adds { add(L::load(to), row[x]) } else { row[x] };
                value.store(to);
            }
        }
    }
}

#[inline(always)]
fn output_gradient<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    pixels: &[usize],
    map: &[f32],
    channels: usize,
    stride: usize,
    transformed: &mut [f32],
) {
    let wide = channels - channels % L::COUNT;
    for first in (0..wide).step_by(L::COUNT) {
        output_gradient_lanes::<L, F, M, T>(first, pixels, map, stride, transformed);
    }
    for first in wide..channels {
        output_gradient_lanes::<[f32; 1], F, M, T>(first, pixels, map, stride, transformed);
    }
}

#[inline(always)]
fn output_gradient_lanes<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    first: usize,
    pixels: &[usize],
    map: &[f32],
    stride: usize,
    transformed: &mut [f32],
) {
    let columns: [[L; T]; M] =
        std::array::from_fn(|x| F::of_outputs(std::array::from_fn(|y| pixel::<L>(map, pixels[M * y + x], first))));
    for y in 0..T {
        let row = F::of_outputs(std::array::from_fn(|x| columns[x][y]));
        for x in 0..T {
            row[x].store(&mut transformed[(T * y + x) * stride + first..]);
        }
    }
}

/// Inputs whose filters are packed together, so that a transposed matrix is read along its rows.
const BLOCK: usize = 16;

/// The filters of a strip for a block of inputs: `[9, BLOCK, width]`.
type Filters = [[[f32; WIDEST]; BLOCK]; 9];

#[inline(always)]
fn pack_filters<W: Lanes, N: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    matrix: Matrix<'_>,
    turned: bool,
    wide: &[usize],
    distance: usize,
    packed: &mut [f32],
) {
    let Matrix { values, inputs, outputs, strides } = matrix;
    let mut filters: Filters = [[[0.0; WIDEST]; BLOCK]; 9];
    for (first, width) in strips_of(outputs, wide) {
        for input in (0..inputs).step_by(BLOCK) {
            let count = BLOCK.min(inputs - input);
            let is_stored = strides[1] == 1 && first + width <= outputs;
            if !is_stored {
                load_filters(matrix, turned, (first, width), (input, count), &mut filters);
            }
            for i in 0..count {
                let rows: [&[f32]; 9] = std::array::from_fn(|tap| match is_stored {
                    true => {
                        let tap = if turned { 8 - tap } else { tap };
                        &values[(tap * inputs + input + i) * outputs + first..][..width]
                    }
                    false => &filters[tap][i][..width],
                });
                let packed = &mut packed[inputs * first + (input + i) * width..];
                if width % W::COUNT == 0 {
                    transform_filters::<W, F, M, T>(&rows, distance, packed);
                } else {
                    transform_filters::<N, F, M, T>(&rows, distance, packed);
                }
            }
        }
    }
}

/// Copies filters; those beyond the last column are zero.
#[inline(always)]
fn load_filters(
    Matrix { values, inputs, outputs, strides }: Matrix<'_>,
    turned: bool,
    (first, width): (usize, usize),
    (input, count): (usize, usize),
    filters: &mut Filters,
) {
    let used = width.min(outputs - first);
    for (tap, filters) in filters.iter_mut().enumerate() {
        let tap = if turned { 8 - tap } else { tap };
        let values = &values[tap * inputs * outputs + input * strides[0] + first * strides[1]..];
        if strides[1] == 1 {
            for (i, row) in filters[..count].iter_mut().enumerate() {
                row[..used].copy_from_slice(&values[i * strides[0]..][..used]);
            }
        } else {
            for o in 0..used {
                for (i, row) in filters[..count].iter_mut().enumerate() {
                    row[o] = values[i * strides[0] + o * strides[1]];
                }
            }
        }
        filters[..count].iter_mut().for_each(|row| row[used..width].fill(0.0));
    }
}

#[inline(always)]
fn transform_filters<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    rows: &[&[f32]; 9],
    distance: usize,
    packed: &mut [f32],
) {
    for first in (0..rows[0].len()).step_by(L::COUNT) {
        let tap = |y: usize, x: usize| L::load(&rows[3 * y + x][first..]);
        let columns: [[L; T]; 3] = std::array::from_fn(|x| F::of_filters([tap(0, x), tap(1, x), tap(2, x)]));
        for y in 0..T {
            let row = F::of_filters([columns[0][y], columns[1][y], columns[2][y]]);
            for x in 0..T {
                row[x].store(&mut packed[(T * y + x) * distance + first..]);
            }
        }
    }
}

#[inline(always)]
fn filter_gradient<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    transformed: &[f32],
    count: usize,
    filters: &mut [&mut [f32]; 9],
) {
    let wide = count - count % L::COUNT;
    for first in (0..wide).step_by(L::COUNT) {
        filter_gradient_lanes::<L, F, M, T>(first, transformed, count, filters);
    }
    for first in wide..count {
        filter_gradient_lanes::<[f32; 1], F, M, T>(first, transformed, count, filters);
    }
}

#[inline(always)]
fn filter_gradient_lanes<L: Lanes, F: Filtering<M, T>, const M: usize, const T: usize>(
    first: usize,
    transformed: &[f32],
    count: usize,
    filters: &mut [&mut [f32]; 9],
) {
    let columns: [[L; 3]; T] = std::array::from_fn(|x| {
        F::of_filter_gradients(std::array::from_fn(|y| L::load(&transformed[(T * y + x) * count + first..])))
    });
    for y in 0..3 {
        let row = F::of_filter_gradients(std::array::from_fn(|x| columns[x][y]));
        for (x, value) in row.into_iter().enumerate() {
            value.store(&mut filters[3 * y + x][first..]);
        }
    }
}
