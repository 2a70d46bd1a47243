//! The transforms of Winograd's minimal filtering algorithm F(2×2, 3×3) for convolutions (Lavin, Gray 2016).
//!
//! A tile of 2×2 outputs of a 3×3 correlation depends on 4×4 inputs `d`. With the filter `g`, it is
//! `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`: 16 products instead of 36. Over many channels, each of the 16 is a matrix product.
//!
//! Lanes run over channels, and every value is computed by the same additions at every level: a sum is a multiply-add with
//! the factor 1, a difference one with −1.

#![expect(clippy::needless_range_loop, reason = "indices say which row and column of a tile is meant")]

use super::kernel;
use super::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2Single, Avx512Single};

/// The place of a pixel outside of the map, which counts as 0.
pub const OUTSIDE: usize = usize::MAX;

/// The number of values of a transformed tile.
pub const POSITIONS: usize = 16;

kernel! {
    /// Writes `Bᵀ d B` for each channel of a tile, whose pixels begin at `pixels` in `map`. The value at position `p` of
    /// channel `c` is `transformed[p · stride + c]`.
    pub fn winograd_input(pixels: &[usize; 16], map: &[f32], channels: usize, stride: usize, transformed: &mut [f32]) {
        avx512 => {
            let first = input_lanes::<Avx512Single>(0, channels, pixels, map, stride, transformed);
            input_lanes::<[f32; 1]>(first, channels, pixels, map, stride, transformed);
        },
        avx2 => {
            let first = input_lanes::<Avx2Single>(0, channels, pixels, map, stride, transformed);
            input_lanes::<[f32; 1]>(first, channels, pixels, map, stride, transformed);
        },
        portable => {
            let first = input_lanes::<[f32; 8]>(0, channels, pixels, map, stride, transformed);
            input_lanes::<[f32; 1]>(first, channels, pixels, map, stride, transformed);
        },
    }
}

kernel! {
    /// Writes, or adds, `Aᵀ m A` for each channel of a tile to the 2×2 pixels that begin at `pixels` in `map`.
    pub fn winograd_output(products: &[f32], stride: usize, channels: usize, pixels: &[usize; 4], adds: bool, map: &mut [f32]) {
        avx512 => {
            let first = output_lanes::<Avx512Single>(0, channels, products, stride, (pixels, adds), map);
            output_lanes::<[f32; 1]>(first, channels, products, stride, (pixels, adds), map);
        },
        avx2 => {
            let first = output_lanes::<Avx2Single>(0, channels, products, stride, (pixels, adds), map);
            output_lanes::<[f32; 1]>(first, channels, products, stride, (pixels, adds), map);
        },
        portable => {
            let first = output_lanes::<[f32; 8]>(0, channels, products, stride, (pixels, adds), map);
            output_lanes::<[f32; 1]>(first, channels, products, stride, (pixels, adds), map);
        },
    }
}

kernel! {
    /// Writes `A y Aᵀ` for each channel, where `y` is the gradient of the 2×2 outputs of a tile.
    pub fn winograd_output_gradient(pixels: &[usize; 4], map: &[f32], channels: usize, stride: usize, transformed: &mut [f32]) {
        avx512 => {
            let first = gradient_lanes::<Avx512Single>(0, channels, pixels, map, stride, transformed);
            gradient_lanes::<[f32; 1]>(first, channels, pixels, map, stride, transformed);
        },
        avx2 => {
            let first = gradient_lanes::<Avx2Single>(0, channels, pixels, map, stride, transformed);
            gradient_lanes::<[f32; 1]>(first, channels, pixels, map, stride, transformed);
        },
        portable => {
            let first = gradient_lanes::<[f32; 8]>(0, channels, pixels, map, stride, transformed);
            gradient_lanes::<[f32; 1]>(first, channels, pixels, map, stride, transformed);
        },
    }
}

kernel! {
    /// Writes row `y` of `G g Gᵀ`, its four positions, for filters `[3, 3, count]` that share everything else.
    pub fn winograd_filter(y: usize, filters: &[f32], count: usize, transformed: &mut [f32]) {
        avx512 => {
            let first = filter_lanes::<Avx512Single>(0, count, y, filters, transformed);
            filter_lanes::<[f32; 1]>(first, count, y, filters, transformed);
        },
        avx2 => {
            let first = filter_lanes::<Avx2Single>(0, count, y, filters, transformed);
            filter_lanes::<[f32; 1]>(first, count, y, filters, transformed);
        },
        portable => {
            let first = filter_lanes::<[f32; 8]>(0, count, y, filters, transformed);
            filter_lanes::<[f32; 1]>(first, count, y, filters, transformed);
        },
    }
}

kernel! {
    /// Writes `Gᵀ u G`, the gradients of filters `[3, 3, count]`, where `u` is the gradient of the transformed ones.
    pub fn winograd_filter_gradient(transformed: &[f32], count: usize, filters: &mut [f32]) {
        avx512 => {
            let first = filter_gradient_lanes::<Avx512Single>(0, count, transformed, filters);
            filter_gradient_lanes::<[f32; 1]>(first, count, transformed, filters);
        },
        avx2 => {
            let first = filter_gradient_lanes::<Avx2Single>(0, count, transformed, filters);
            filter_gradient_lanes::<[f32; 1]>(first, count, transformed, filters);
        },
        portable => {
            let first = filter_gradient_lanes::<[f32; 8]>(0, count, transformed, filters);
            filter_gradient_lanes::<[f32; 1]>(first, count, transformed, filters);
        },
    }
}

#[inline(always)]
fn add<L: Lanes>(a: L, b: L) -> L {
    a.mul_add(L::splat(1.0), b)
}

#[inline(always)]
fn subtract<L: Lanes>(a: L, b: L) -> L {
    b.mul_add(L::splat(-1.0), a)
}

#[inline(always)]
fn half<L: Lanes>(a: L) -> L {
    a.mul_add(L::splat(0.5), L::splat(0.0))
}

#[inline(always)]
fn pixel<L: Lanes>(map: &[f32], pixel: usize, channel: usize) -> L {
    if pixel == OUTSIDE { L::splat(0.0) } else { L::load(&map[pixel + channel..]) }
}

/// `Bᵀ v`.
#[inline(always)]
fn of_inputs<L: Lanes>(a: L, b: L, c: L, d: L) -> [L; 4] {
    [subtract(a, c), add(b, c), subtract(c, b), subtract(b, d)]
}

/// `Aᵀ v`.
#[inline(always)]
fn of_products<L: Lanes>(a: L, b: L, c: L, d: L) -> [L; 2] {
    [add(add(a, b), c), subtract(subtract(b, c), d)]
}

/// `A v`.
#[inline(always)]
fn of_outputs<L: Lanes>(a: L, b: L) -> [L; 4] {
    [a, add(a, b), subtract(a, b), subtract(L::splat(0.0), b)]
}

/// `Gᵀ v`.
#[inline(always)]
fn of_filter_gradients<L: Lanes>(a: L, b: L, c: L, d: L) -> [L; 3] {
    [add(a, half(add(b, c))), half(subtract(b, c)), add(half(add(b, c)), d)]
}

#[inline(always)]
fn input_lanes<L: Lanes>(
    mut channel: usize,
    channels: usize,
    pixels: &[usize; 16],
    map: &[f32],
    stride: usize,
    transformed: &mut [f32],
) -> usize {
    while channel + L::COUNT <= channels {
        let mut rows = [[L::splat(0.0); 4]; 4];
        for x in 0..4 {
            let (a, b) = (pixel::<L>(map, pixels[x], channel), pixel::<L>(map, pixels[4 + x], channel));
            let (c, d) = (pixel::<L>(map, pixels[8 + x], channel), pixel::<L>(map, pixels[12 + x], channel));
            let column = of_inputs(a, b, c, d);
            for y in 0..4 {
                rows[y][x] = column[y];
            }
        }
        for y in 0..4 {
            let row = of_inputs(rows[y][0], rows[y][1], rows[y][2], rows[y][3]);
            for x in 0..4 {
                row[x].store(&mut transformed[(4 * y + x) * stride + channel..]);
            }
        }
        channel += L::COUNT;
    }
    channel
}

#[inline(always)]
fn output_lanes<L: Lanes>(
    mut channel: usize,
    channels: usize,
    products: &[f32],
    stride: usize,
    (pixels, adds): (&[usize; 4], bool),
    map: &mut [f32],
) -> usize {
    while channel + L::COUNT <= channels {
        let mut rows = [[L::splat(0.0); 4]; 2];
        let load = |position: usize| L::load(&products[position * stride + channel..]);
        for x in 0..4 {
            let column = of_products(load(x), load(4 + x), load(8 + x), load(12 + x));
            rows[0][x] = column[0];
            rows[1][x] = column[1];
        }
        for y in 0..2 {
            let row = of_products(rows[y][0], rows[y][1], rows[y][2], rows[y][3]);
            for x in 0..2 {
                let to = pixels[2 * y + x];
                if to != OUTSIDE {
                    let to = &mut map[to + channel..];
                    let value = if adds { add(L::load(to), row[x]) } else { row[x] };
                    value.store(to);
                }
            }
        }
        channel += L::COUNT;
    }
    channel
}

#[inline(always)]
fn gradient_lanes<L: Lanes>(
    mut channel: usize,
    channels: usize,
    pixels: &[usize; 4],
    map: &[f32],
    stride: usize,
    transformed: &mut [f32],
) -> usize {
    while channel + L::COUNT <= channels {
        let mut rows = [[L::splat(0.0); 2]; 4];
        for x in 0..2 {
            let column = of_outputs(pixel::<L>(map, pixels[x], channel), pixel::<L>(map, pixels[2 + x], channel));
            for y in 0..4 {
                rows[y][x] = column[y];
            }
        }
        for y in 0..4 {
            let row = of_outputs(rows[y][0], rows[y][1]);
            for x in 0..4 {
                row[x].store(&mut transformed[(4 * y + x) * stride + channel..]);
            }
        }
        channel += L::COUNT;
    }
    channel
}

#[inline(always)]
fn filter_lanes<L: Lanes>(mut place: usize, count: usize, y: usize, filters: &[f32], transformed: &mut [f32]) -> usize {
    while place + L::COUNT <= count {
        let load = |tap: usize| L::load(&filters[tap * count + place..]);
        let mut row = [L::splat(0.0); 3];
        for x in 0..3 {
            let (a, b, c) = (load(x), load(3 + x), load(6 + x));
            row[x] = match y {
                0 => a,
                1 => half(add(add(a, b), c)),
                2 => half(add(subtract(a, b), c)),
                _ => c,
            };
        }
        let [a, b, c] = row;
        let values = [a, half(add(add(a, b), c)), half(add(subtract(a, b), c)), c];
        for x in 0..4 {
            values[x].store(&mut transformed[x * count + place..]);
        }
        place += L::COUNT;
    }
    place
}

#[inline(always)]
fn filter_gradient_lanes<L: Lanes>(mut place: usize, count: usize, transformed: &[f32], filters: &mut [f32]) -> usize {
    while place + L::COUNT <= count {
        let load = |position: usize| L::load(&transformed[position * count + place..]);
        let mut rows = [[L::splat(0.0); 4]; 3];
        for x in 0..4 {
            let column = of_filter_gradients(load(x), load(4 + x), load(8 + x), load(12 + x));
            for y in 0..3 {
                rows[y][x] = column[y];
            }
        }
        for y in 0..3 {
            let row = of_filter_gradients(rows[y][0], rows[y][1], rows[y][2], rows[y][3]);
            for x in 0..3 {
                row[x].store(&mut filters[(3 * y + x) * count + place..]);
            }
        }
        place += L::COUNT;
    }
    place
}
