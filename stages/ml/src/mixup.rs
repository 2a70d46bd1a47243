//! MixUp (Zhang, Cissé, Dauphin, Lopez-Paz, ICLR 2018) blends pairs of training images and their targets; CutMix (Yun et
//! al., ICCV 2019) pastes a rectangle of one into the other.

use std::ops::Range;

use hamflow_stage_api::Random;
use rayon::prelude::*;

use crate::loss::Target;
use hamflow_kernels::shape::MapShape;

/// The mixing of a batch: image i becomes `share` of itself plus the rest of image `partners[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    share: f64,
    partners: Vec<usize>,
    /// The rows and columns that come from the partner, with CutMix.
    pasted: Option<[Range<usize>; 2]>,
}

impl Mix {
    /// Draws the share from Beta(α, α), and the partners as a permutation of the batch, as the paper's code does.
    pub fn draw(random: &mut Random, alpha: f64, count: usize) -> Self {
        let share = beta(random, alpha);
        let mut partners: Vec<usize> = (0..count).collect();
        random.shuffle(&mut partners);
        Self { share, partners, pasted: None }
    }

    /// Draws the area from Beta(α, α) and the centre of the rectangle uniformly, as the paper's code does. The share
    /// follows from the part of the rectangle that is inside the image.
    pub fn cut(random: &mut Random, alpha: f64, count: usize, shape: MapShape) -> Self {
        let part = (1.0 - beta(random, alpha)).sqrt();
        let range = |length: usize, random: &mut Random| {
            let (half, centre) = ((part * length as f64) as usize / 2, random.below(length as u64) as usize);
            centre.saturating_sub(half)..(centre + half).min(length)
        };
        let (rows, columns) = (range(shape.height, random), range(shape.width, random));
        let mut partners: Vec<usize> = (0..count).collect();
        random.shuffle(&mut partners);
        let share = 1.0 - (rows.len() * columns.len()) as f64 / shape.pixels() as f64;
        Self { share, partners, pasted: Some([rows, columns]) }
    }

    /// Mixes a batch of images, stored consecutively in `images`, and their targets.
    pub fn apply(&self, shape: MapShape, images: &mut Vec<f32>, targets: &mut [Target]) {
        let length = shape.len();
        let share = self.share as f32;
        let mut mixed = vec![0.0; images.len()];
        mixed.par_chunks_mut(length).zip(&self.partners).enumerate().for_each(|(number, (mixed, &partner))| {
            let own = &images[number * length..][..length];
            let other = &images[partner * length..][..length];
            if let Some([rows, columns]) = &self.pasted {
                mixed.copy_from_slice(own);
                for row in rows.clone() {
                    let start = (row * shape.width + columns.start) * shape.channels;
                    let range = start..start + columns.len() * shape.channels;
                    mixed[range.clone()].copy_from_slice(&other[range]);
                }
                return;
            }
            for (mixed, (own, other)) in mixed.iter_mut().zip(own.iter().zip(other)) {
                *mixed = share.mul_add(own - other, *other);
            }
        });
        *images = mixed;
        self.apply_to_targets(targets);
    }

    /// The share of the original image.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// The rows and columns that come from the partner, with CutMix.
    pub fn pasted(&self) -> Option<&[Range<usize>; 2]> {
        self.pasted.as_ref()
    }

    /// The index in the batch of each image's partner.
    pub fn partners(&self) -> &[usize] {
        &self.partners
    }

    /// Mixes the targets of a batch.
    pub fn apply_to_targets(&self, targets: &mut [Target]) {
        let others = targets.to_vec();
        for (target, &partner) in targets.iter_mut().zip(&self.partners) {
            let other = others[partner];
            target.mixed = Some((other.class, (1.0 - self.share) * other.weight));
            target.weight *= self.share;
        }
    }
}

/// The minimum α; smaller values only give shares of 0 or 1.
pub const MIN_ALPHA: f64 = 1e-3;

/// Draws from Beta(α, α) by Jöhnk's method (1964), which needs few draws for α ≤ 2.
fn beta(random: &mut Random, alpha: f64) -> f64 {
    loop {
        let units = [random.unit(), random.unit()];
        let [x, y] = units.map(|unit| libm::pow(unit, 1.0 / alpha));
        if x + y > 1.0 {
            continue;
        }
        if x + y > 0.0 {
            return x / (x + y);
        }
        // Both underflow, but their ratio does not.
        let [x, y] = units.map(|unit| libm::log(unit) / alpha);
        let share = 1.0 / (1.0 + libm::exp(y - x));
        if share.is_finite() {
            return share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // scipy.stats.beta(a, a): mean 0.5, variance 1 / (4 (2 a + 1)); kstest against 10,000 draws stays under 0.02.
    #[test]
    fn shares_are_beta_distributed() {
        for (alpha, median_of_lower_half) in [(0.2, 0.023_815), (1.0, 0.25)] {
            let mut random = Random::new(1, "beta");
            let mut drawn: Vec<f64> = (0..20_000).map(|_| beta(&mut random, alpha)).collect();
            let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
            let variance = drawn.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
            assert!((mean - 0.5).abs() < 0.01, "{mean}");
            assert!((variance - 0.25 / (2.0 * alpha + 1.0)).abs() < 0.005, "{variance}");
            drawn.sort_unstable_by(f64::total_cmp);
            // scipy.stats.beta.ppf(0.25, a, a)
            assert!((drawn[5_000] - median_of_lower_half).abs() < 0.01, "{alpha}: {}", drawn[5_000]);
        }
    }

    #[test]
    fn the_minimum_alpha_gives_shares_of_0_or_1() {
        let mut random = Random::new(1, "beta");
        let shares: Vec<f64> = (0..1000).map(|_| beta(&mut random, MIN_ALPHA)).collect();
        let extreme = shares.iter().filter(|share| !(1e-3..=1.0 - 1e-3).contains(*share)).count();
        let high = shares.iter().filter(|&&share| share > 0.5).count();
        assert!(extreme > 980 && (400..600).contains(&high), "{extreme} {high}");
    }

    #[test]
    fn images_and_targets_are_mixed_equally() {
        let mix = Mix { share: 0.75, partners: vec![1, 0], pasted: None };
        let mut images = vec![1.0, 2.0, 5.0, 6.0];
        let mut targets = [Target::new(0, 1.0), Target::new(2, 2.0)];
        mix.apply(MapShape { height: 1, width: 2, channels: 1 }, &mut images, &mut targets);
        assert_eq!(images, [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(targets[0], Target { class: 0, weight: 0.75, mixed: Some((2, 0.5)) });
        assert_eq!(targets[1], Target { class: 2, weight: 1.5, mixed: Some((0, 0.25)) });
    }

    #[test]
    fn a_rectangle_is_pasted_and_its_area_is_the_partners_share() {
        let shape = MapShape { height: 20, width: 30, channels: 1 };
        let mut areas = Vec::new();
        for seed in 0..300 {
            let mix = Mix::cut(&mut Random::new(seed, "cut"), 1.0, 2, shape);
            let mut images = [vec![1.0; 600], vec![2.0; 600]].concat();
            let mut targets = [Target::new(0, 1.0), Target::new(1, 1.0)];
            mix.apply(shape, &mut images, &mut targets);
            let pasted = images[..600].iter().filter(|value| **value == 2.0).count() as f64 / 600.0;
            let expected = if mix.partners[0] == 1 { 1.0 - mix.share } else { 0.0 };
            assert!((pasted - expected).abs() < 1e-12, "{pasted} {expected}");
            assert!((targets[0].weight + targets[0].mixed.unwrap().1 - 1.0).abs() < 1e-12);
            areas.push(1.0 - mix.share);
        }
        assert!(areas.iter().any(|area| *area > 0.5) && areas.iter().any(|area| *area < 0.05));
    }
}
