//! The resampling weights along one axis, as computed by Pillow.

use super::{Filter, Span};

/// The number of fractional bits of a weight: 32 minus 8 for the pixel and 2 for overshoot.
pub(super) const PRECISION: u32 = 22;

/// The number of bits in the lower half of a weight, which is non-negative and fits in an i16.
pub(super) const LOW_DIGITS: u32 = 15;

/// The source pixels of each output pixel along an axis, with their weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Axis {
    /// The arguments of the current table: filter, span, source size and target size.
    of: Option<(Filter, Span, usize, usize)>,
    /// For each output pixel: its first pair of source pixels and the range of its weights.
    windows: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<Weights>,
}

/// The weights of two adjacent pixels, the first of which has an even index; each weight is
/// upper half · 2^[`LOW_DIGITS`] + lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    pub(super) upper: [i16; 2],
    pub(super) lower: [i16; 2],
}

impl Weights {
    fn of(pair: [i32; 2]) -> Self {
        // Weights are not much larger than 1.0, so their upper halves have 10 bits.
        let upper = |weight: i32| (weight >> LOW_DIGITS) as i16;
        let lower = |weight: i32| (weight & ((1 << LOW_DIGITS) - 1)) as i16;
        Self { upper: pair.map(upper), lower: pair.map(lower) }
    }
}

impl Axis {
    /// Computes the table for resizing a span of `from` pixels to `to`, unless it is already current.
    ///
    /// Follows `precompute_coeffs` in Pillow's `Resample.c` operation by operation.
    pub(super) fn prepare(&mut self, filter: Filter, span: Span, from: usize, to: usize) {
        if self.of == Some((filter, span, from, to)) {
            return;
        }
        self.of = Some((filter, span, from, to));
        self.windows.clear();
        self.weights.clear();
        let scale = f64::from(span.length()) / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let step = 1.0 / filter_scale;
        let mut window = Vec::new();
        for i in 0..to {
            let center = f64::from(span.start) + (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            window.clear();
            window.extend((first..end).map(|x| filter.weight((x as f64 - center + 0.5) * step)));
            let mut total = 0.0;
            for weight in &window {
                total += weight;
            }
            let weight = |x: usize| match x.checked_sub(first).and_then(|place| window.get(place)) {
                Some(weight) => fixed_point(if total == 0.0 { *weight } else { weight / total }),
                None => 0,
            };
            let start = self.weights.len();
            let pairs = first / 2..end.div_ceil(2).max(first / 2);
            self.weights.extend(pairs.map(|pair| Weights::of([weight(2 * pair), weight(2 * pair + 1)])));
            self.windows.push((first / 2, start..self.weights.len()));
        }
    }

    /// For each output pixel: the index of its first pair of source pixels, and the weights of that and the following
    /// pairs.
    pub(super) fn windows(&self) -> impl ExactSizeIterator<Item = (usize, &[Weights])> {
        self.windows.iter().map(|(first, weights)| (*first, &self.weights[weights.clone()]))
    }

    /// The number of output pixels along the axis.
    pub(super) fn resized(&self) -> usize {
        self.windows.len()
    }
}

/// A weight in fixed point, rounded half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recombined_weights_sum_to_one() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let mut axis = Axis::default();
            for (from, to) in [(600, 100), (300, 224), (7, 100), (4000, 3), (5, 5)] {
                axis.prepare(filter, Span { start: 0.5, end: from as f32 }, from, to);
                assert_eq!(axis.resized(), to);
                for (first, weights) in axis.windows() {
                    assert!((first + weights.len()) * 2 <= from + 1, "no pair begins beyond the end");
                    let mut sum = 0;
                    for Weights { upper, lower } in weights {
                        assert!(lower.iter().all(|half| *half >= 0));
                        let whole = |i: usize| (i32::from(upper[i]) << LOW_DIGITS) + i32::from(lower[i]);
                        sum += whole(0) + whole(1);
                    }
                    let off = (sum - (1 << PRECISION)).abs();
                    assert!(off <= 2 * weights.len() as i32, "{filter:?} {from} to {to}: {off}");
                }
            }
        }
    }
}
