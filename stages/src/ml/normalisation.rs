//! Normalisation of images by the mean and standard deviation of the training pixels.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A mean and standard deviation shared by all pixels and channels, on the scale 0–255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// The mean.
    pub mean: f64,
    /// The population standard deviation.
    pub standard_deviation: f64,
}

impl Normalisation {
    /// Fits to images. Sums are integers, so their order does not matter. If all pixels are equal, the standard
    /// deviation is 1.
    pub fn fit(images: &[&[u8]]) -> Self {
        let sums = |image: &&[u8]| {
            let sum: u64 = image.iter().map(|&byte| u64::from(byte)).sum();
            let squares: u64 = image.iter().map(|&byte| u64::from(byte) * u64::from(byte)).sum();
            (image.len() as u64, sum, squares)
        };
        let (count, sum, squares) =
            images.par_iter().map(sums).reduce(|| (0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
        let (count, sum, squares) = (u128::from(count.max(1)), u128::from(sum), u128::from(squares));
        let deviation = ((count * squares - sum * sum) as f64).sqrt() / count as f64;
        Self { mean: sum as f64 / count as f64, standard_deviation: if deviation > 0.0 { deviation } else { 1.0 } }
    }

    /// The normalised value of each byte.
    pub fn table(&self) -> [f32; 256] {
        std::array::from_fn(|byte| ((byte as f64 - self.mean) / self.standard_deviation) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np; x = np.array([0, 255, 7, 9, 100, 101]); print(x.mean(), x.std())
    #[test]
    fn mean_and_standard_deviation_match_numpy() {
        let normalisation = Normalisation::fit(&[&[0, 255, 7], &[9, 100, 101]]);
        assert!((normalisation.mean - 78.66666666666667).abs() < 1e-12);
        assert!((normalisation.standard_deviation - 89.65241522432932).abs() < 1e-12);
        assert_eq!(Normalisation::fit(&[&[4, 4]]).table()[5], 1.0);
    }
}
