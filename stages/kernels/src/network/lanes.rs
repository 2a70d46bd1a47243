//! SIMD registers, and the two inner loops that all products share, on register-sized blocks of sums.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

use super::view::Function;

/// The most lanes.
pub const WIDEST: usize = 32;

/// A group of adjacent values. No operation mixes lanes.
pub trait Lanes: Copy {
    /// The number of lanes.
    const COUNT: usize;

    /// Broadcasts a value to all lanes.
    fn splat(value: f32) -> Self;

    /// Loads from the start of a slice, which must be long enough.
    fn load(values: &[f32]) -> Self;

    /// Stores to the start of a slice, which must be long enough.
    fn store(self, values: &mut [f32]);

    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// The activation of each value.
    #[inline(always)]
    fn activated<A: Function>(self) -> Self {
        let mut values = [0.0; WIDEST];
        self.store(&mut values);
        values[..Self::COUNT].iter_mut().for_each(|value| *value = A::value(*value));
        Self::load(&values)
    }
}

impl<const N: usize> Lanes for [f32; N] {
    const COUNT: usize = N;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; N]
    }

    #[inline(always)]
    fn load(values: &[f32]) -> Self {
        *values.first_chunk().expect("a block is within its row")
    }

    #[inline(always)]
    fn store(self, values: &mut [f32]) {
        *values.first_chunk_mut().expect("a block is within its row") = self;
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        std::array::from_fn(|l| self[l].mul_add(factor[l], addend[l]))
    }
}

/// Two registers of sixteen lanes. May only be used in functions compiled with AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512(__m512, __m512);

/// Two registers of eight lanes. May only be used in functions compiled with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2(__m256, __m256);

// The compiler would use such registers for `[f32; 32]`, but it splits them unevenly in some blocks, at half the speed.
macro_rules! lanes_of_two_registers {
    ($name:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $mul_add:ident) => {
        #[cfg(target_arch = "x86_64")]
        impl Lanes for $name {
            const COUNT: usize = 2 * $lanes;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: functions that use this type are compiled for, and run on, a processor with the instruction.
                let register = unsafe { $splat(value) };
                Self(register, register)
            }

            #[inline(always)]
            fn load(values: &[f32]) -> Self {
                let values: &[f32; 2 * $lanes] = values.first_chunk().expect("a block is within its row");
                // SAFETY: as above; both loads are within the array and may be unaligned.
                unsafe { Self($load(values.as_ptr()), $load(values.as_ptr().add($lanes))) }
            }

            #[inline(always)]
            fn store(self, values: &mut [f32]) {
                let values: &mut [f32; 2 * $lanes] = values.first_chunk_mut().expect("a block is within its row");
                // SAFETY: as above.
                unsafe {
                    $store(values.as_mut_ptr(), self.0);
                    $store(values.as_mut_ptr().add($lanes), self.1);
                }
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($mul_add(self.0, factor.0, addend.0), $mul_add(self.1, factor.1, addend.1)) }
            }
        }
    };
}

/// One register of sixteen lanes. May only be used in functions compiled with AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512Single(__m512);

/// One register of eight lanes. May only be used in functions compiled with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2Single(__m256);

macro_rules! lanes_of_one_register {
    ($name:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $mul_add:ident) => {
        #[cfg(target_arch = "x86_64")]
        impl Lanes for $name {
            const COUNT: usize = $lanes;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: functions that use this type are compiled for, and run on, a processor with the instruction.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            fn load(values: &[f32]) -> Self {
                let values: &[f32; $lanes] = values.first_chunk().expect("a block is within its row");
                // SAFETY: as above; the load is within the array and may be unaligned.
                unsafe { Self($load(values.as_ptr())) }
            }

            #[inline(always)]
            fn store(self, values: &mut [f32]) {
                let values: &mut [f32; $lanes] = values.first_chunk_mut().expect("a block is within its row");
                // SAFETY: as above.
                unsafe { $store(values.as_mut_ptr(), self.0) };
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $mul_add(self.0, factor.0, addend.0) })
            }
        }
    };
}

lanes_of_one_register!(Avx512Single, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
lanes_of_one_register!(Avx2Single, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
lanes_of_two_registers!(Avx512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
lanes_of_two_registers!(Avx2, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);

/// Adds the products `rows[r][k] * weights[k]` to `block[r]`, with k in order.
///
/// Every row must be at least as long as `weights`.
#[inline(always)]
pub fn accumulate<L: Lanes, const R: usize>(
    block: &mut [L; R],
    rows: [&[f32]; R],
    weights: impl ExactSizeIterator<Item = L>,
) {
    let length = weights.len();
    for row in &rows {
        assert!(row.len() >= length, "a row is shorter than its weights");
    }
    let rows = rows.map(<[f32]>::as_ptr);
    for (k, weights) in (0..length).zip(weights) {
        for r in 0..R {
            // SAFETY: every row has at least `length` values. With checks here, the lengths of all rows would take the
            // registers of their addresses.
            let value = unsafe { *rows[r].add(k) };
            block[r] = L::splat(value).mul_add(weights, block[r]);
        }
    }
}

/// Adds the products `left[i * left_stride + j] * right[i * right_stride ..]` to `block[j]` for `count` values of i,
/// in order.
#[inline(always)]
pub fn accumulate_outer<L: Lanes, const J: usize>(
    block: &mut [L; J],
    left: (&[f32], usize),
    right: (&[f32], usize),
    count: usize,
) {
    for i in 0..count {
        let left: &[f32; J] = left.0[i * left.1..].first_chunk().expect("a block is within its row");
        let right = L::load(&right.0[i * right.1..]);
        for j in 0..J {
            block[j] = L::splat(left[j]).mul_add(right, block[j]);
        }
    }
}
