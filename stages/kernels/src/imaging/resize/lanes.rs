//! SIMD on sixteen bytes at a time: weighted sums, and transposition.
//!
//! Sums use integers of at most 32 bits, so the results do not depend on the order of operations.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm_packus_epi16, _mm_setzero_si128, _mm_storeu_si128, _mm_unpackhi_epi8,
    _mm_unpacklo_epi8, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepu8_epi16, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_packs_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_storeu_si256,
};

use super::CHANNELS;
use super::axis::{LOW_DIGITS, PRECISION, Weights};

/// The number of pixels that are processed together.
pub(super) const LANES: usize = 16;

/// One byte of each of those pixels.
pub(super) type Lanes = [u8; LANES];

/// The bytes of each channel of those pixels, interleaved with those of their neighbours along the axis.
pub(super) type Pairs = [[[i16; 2]; LANES]; CHANNELS];

/// Zeroed pairs.
pub(super) const NO_PAIRS: Pairs = [[[0; 2]; LANES]; CHANNELS];

const HALF: i32 = 1 << (PRECISION - 1);

/// The instruction set to use; it does not affect the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// The baseline of the architecture.
    Baseline,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Instructions {
    /// The best instruction set of this processor.
    pub(super) fn of_this_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Baseline
    }
}

/// Arithmetic on pixels with one instruction set.
pub(super) trait Kernel {
    /// Interleaves pixels with their neighbours.
    fn beside(pixels: [&Lanes; CHANNELS], neighbours: [&Lanes; CHANNELS]) -> Pairs;

    /// The weighted sum of the first of `pairs`, the one `stride` further, and so on, one per weight.
    fn weigh(pairs: &[Pairs], stride: usize, weights: &[Weights]) -> [Lanes; CHANNELS];
}

/// The portable implementation.
pub(super) struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn beside(pixels: [&Lanes; CHANNELS], neighbours: [&Lanes; CHANNELS]) -> Pairs {
        let mut pairs = NO_PAIRS;
        for channel in 0..CHANNELS {
            for lane in 0..LANES {
                pairs[channel][lane] = [pixels[channel][lane], neighbours[channel][lane]].map(i16::from);
            }
        }
        pairs
    }

    #[inline(always)]
    fn weigh(pairs: &[Pairs], stride: usize, weights: &[Weights]) -> [Lanes; CHANNELS] {
        let mut sums = [[HALF; LANES]; CHANNELS];
        for (pairs, Weights { upper, lower }) in pairs.iter().step_by(stride).zip(weights) {
            let weight = |i: usize| (i32::from(upper[i]) << LOW_DIGITS) + i32::from(lower[i]);
            let weights = [weight(0), weight(1)];
            for (sums, pairs) in sums.iter_mut().zip(pairs) {
                for (sum, [pixel, neighbour]) in sums.iter_mut().zip(pairs) {
                    *sum += i32::from(*pixel) * weights[0] + i32::from(*neighbour) * weights[1];
                }
            }
        }
        sums.map(|sums| sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8))
    }
}

/// The AVX2 implementation. May only be used in functions compiled for AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) struct WithAvx2;

#[cfg(target_arch = "x86_64")]
impl Kernel for WithAvx2 {
    #[inline(always)]
    fn beside(pixels: [&Lanes; CHANNELS], neighbours: [&Lanes; CHANNELS]) -> Pairs {
        // SAFETY: users of this type guarantee that the instructions are supported.
        unsafe { beside(pixels, neighbours) }
    }

    #[inline(always)]
    fn weigh(pairs: &[Pairs], stride: usize, weights: &[Weights]) -> [Lanes; CHANNELS] {
        // SAFETY: users of this type guarantee that the instructions are supported.
        unsafe { weigh(pairs, stride, weights) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn beside(pixels: [&Lanes; CHANNELS], neighbours: [&Lanes; CHANNELS]) -> Pairs {
    let mut pairs = NO_PAIRS;
    for channel in 0..CHANNELS {
        let target: *mut __m256i = pairs[channel].as_mut_ptr().cast();
        // SAFETY: sixteen bytes fit one register, and their pairs fit two.
        unsafe {
            let a = _mm_loadu_si128(pixels[channel].as_ptr().cast());
            let b = _mm_loadu_si128(neighbours[channel].as_ptr().cast());
            _mm256_storeu_si256(target, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)));
            _mm256_storeu_si256(target.add(1), _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b)));
        }
    }
    pairs
}

/// The two 16-bit products of a pixel and its neighbour and their sum are one instruction, so the halves of the weights are
/// accumulated separately.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn weigh(pairs: &[Pairs], stride: usize, weights: &[Weights]) -> [Lanes; CHANNELS] {
    let mut upper = [[_mm256_setzero_si256(); 2]; CHANNELS];
    let mut lower = [[_mm256_set1_epi32(HALF); 2]; CHANNELS];
    for (pairs, weights) in pairs.iter().step_by(stride).zip(weights) {
        let Weights { upper: [a, b], lower: [c, d] } = *weights;
        let upper_weights = _mm256_set1_epi32(i32::from(a) & 0xffff | i32::from(b) << 16);
        let lower_weights = _mm256_set1_epi32(i32::from(c) & 0xffff | i32::from(d) << 16);
        for channel in 0..CHANNELS {
            for half in 0..2 {
                // SAFETY: a channel's pairs fit two registers.
                let pairs = unsafe { _mm256_loadu_si256(pairs[channel].as_ptr().cast::<__m256i>().add(half)) };
                let (uppers, lowers) = (&mut upper[channel][half], &mut lower[channel][half]);
                *uppers = _mm256_add_epi32(*uppers, _mm256_madd_epi16(pairs, upper_weights));
                *lowers = _mm256_add_epi32(*lowers, _mm256_madd_epi16(pairs, lower_weights));
            }
        }
    }
    let mut made = [[0; LANES]; CHANNELS];
    for channel in 0..CHANNELS {
        let mut sums = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            let upper = _mm256_slli_epi32::<{ LOW_DIGITS as i32 }>(upper[channel][half]);
            let sum = _mm256_add_epi32(upper, lower[channel][half]);
            sums[half] = _mm256_srai_epi32::<{ PRECISION as i32 }>(sum);
        }
        // First narrow from 32 to 16 bits signed, then to bytes unsigned, both saturating. Registers are packed per
        // 128-bit lane, and the permutation restores the order.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(sums[0], sums[1]));
        let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        // SAFETY: sixteen bytes fit one register.
        unsafe { _mm_storeu_si128(made[channel].as_mut_ptr().cast(), bytes) };
    }
    made
}

/// Transposes: byte j of row i becomes byte i of row j.
#[inline(always)]
pub(super) fn transposed(rows: [Lanes; LANES]) -> [Lanes; LANES] {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor supports SSE2; sixteen bytes fit one register.
    unsafe {
        let mut registers = [_mm_setzero_si128(); LANES];
        for (register, row) in registers.iter_mut().zip(&rows) {
            *register = _mm_loadu_si128(row.as_ptr().cast());
        }
        // Interleaving each row with the one 8 rows below, four times, is a transposition.
        for _ in 0..4 {
            let before = registers;
            for i in 0..LANES / 2 {
                registers[2 * i] = _mm_unpacklo_epi8(before[i], before[i + LANES / 2]);
                registers[2 * i + 1] = _mm_unpackhi_epi8(before[i], before[i + LANES / 2]);
            }
        }
        let mut columns = [[0; LANES]; LANES];
        for (column, register) in columns.iter_mut().zip(registers) {
            _mm_storeu_si128(column.as_mut_ptr().cast(), register);
        }
        columns
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|j| rows.map(|row| row[j]))
}
