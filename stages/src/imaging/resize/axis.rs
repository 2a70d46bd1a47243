//! The weights of one direction, as Pillow computes them.

use super::{Filter, Span};

/// The number of binary digits behind the point of a weight: 32 less 8 for the pixel and 2 for what overshoots.
pub(super) const PRECISION: u32 = 22;

/// How many of a weight's digits are in its lower half, which is never negative and fits in 16 bits with a sign.
pub(super) const LOW_DIGITS: u32 = 15;

/// Which pixels of a row (or column) each resized pixel is made from, and their weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Axis {
    /// What the table was made for: the filter, the span, the source's pixels and the target's.
    of: Option<(Filter, Span, usize, usize)>,
    /// Per resized pixel: its first pair of source pixels and where its weights are.
    windows: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<Weights>,
}

/// The weights of two neighbouring pixels, the first of which has an even number; each weight is
/// upper half · 2^[`LOW_DIGITS`] + lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    pub(super) upper: [i16; 2],
    pub(super) lower: [i16; 2],
}

impl Weights {
    fn of(pair: [i32; 2]) -> Self {
        // Weights are at most a few times 1.0, so their upper halves have 10 digits.
        let upper = |weight: i32| (weight >> LOW_DIGITS) as i16;
        let lower = |weight: i32| (weight & ((1 << LOW_DIGITS) - 1)) as i16;
        Self { upper: pair.map(upper), lower: pair.map(lower) }
    }
}

impl Axis {
    /// Makes the table for resizing a span of `from` pixels to `to`, unless it is there already.
    ///
    /// Follows `precompute_coeffs` of Pillow's `Resample.c` operation by operation.
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

    /// For each resized pixel the number of its first pair of source pixels, and the weights of that and the following pairs.
    pub(super) fn windows(&self) -> impl ExactSizeIterator<Item = (usize, &[Weights])> {
        self.windows.iter().map(|(first, weights)| (*first, &self.weights[weights.clone()]))
    }

    /// How many pixels a row (or column) has after resizing.
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
    fn the_halves_of_weights_make_weights_that_sum_up_to_one() {
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
