//! Normalisation of images by the mean and standard deviation of pixels.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A number for all channels, or one for each, on the scale 0–255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Channels {
    /// The same for all channels.
    All(f64),
    /// One for each channel.
    Each([f64; 3]),
}

impl Channels {
    /// The number of a channel.
    pub fn of(self, channel: usize) -> f64 {
        match self {
            Self::All(value) => value,
            Self::Each(values) => values[channel],
        }
    }

    /// The number, if it is the same for all channels.
    pub fn shared(self) -> Option<f64> {
        match self {
            Self::All(value) => Some(value),
            Self::Each(_) => None,
        }
    }
}

/// The mean and standard deviation of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// The mean.
    pub mean: Channels,
    /// The population standard deviation.
    pub standard_deviation: Channels,
}

/// The normalised value of each byte, for each channel.
pub type Table = [[f32; 256]; 3];

impl Normalisation {
    /// The normalisation of ImageNet in torchvision.
    pub const IMAGENET: Self = Self {
        mean: Channels::Each([123.675, 116.28, 103.53]),
        standard_deviation: Channels::Each([58.395, 57.12, 57.375]),
    };

    /// With numbers that all channels share.
    pub const fn shared(mean: f64, standard_deviation: f64) -> Self {
        Self { mean: Channels::All(mean), standard_deviation: Channels::All(standard_deviation) }
    }

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
        Self::shared(sum as f64 / count as f64, if deviation > 0.0 { deviation } else { 1.0 })
    }

    /// The normalised value of each byte.
    pub fn table(&self) -> Table {
        std::array::from_fn(|channel| {
            let (mean, deviation) = (self.mean.of(channel), self.standard_deviation.of(channel));
            std::array::from_fn(|byte| ((byte as f64 - mean) / deviation) as f32)
        })
    }

    /// Whether all numbers are finite, and the deviations positive.
    pub fn is_valid(&self) -> bool {
        let numbers = |channels: Channels| (0..3).map(move |channel| channels.of(channel));
        numbers(self.mean).all(f64::is_finite)
            && numbers(self.standard_deviation).all(|deviation| deviation.is_finite() && deviation > 0.0)
    }
}

/// Writes the normalised values of an image of `channels` channels.
pub fn normalise(image: &[u8], channels: usize, table: &Table, output: &mut [f32]) {
    for (output, image) in output.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
        for (channel, (output, &byte)) in output.iter_mut().zip(image).enumerate() {
            *output = table[channel][usize::from(byte)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // import numpy as np; x = np.array([0, 255, 7, 9, 100, 101]); print(x.mean(), x.std())
    #[test]
    fn mean_and_standard_deviation_match_numpy() {
        let Normalisation { mean, standard_deviation } = Normalisation::fit(&[&[0, 255, 7], &[9, 100, 101]]);
        assert!((mean.shared().unwrap() - 78.66666666666667).abs() < 1e-12);
        assert!((standard_deviation.shared().unwrap() - 89.65241522432932).abs() < 1e-12);
        assert_eq!(Normalisation::fit(&[&[4, 4]]).table()[0][5], 1.0);
    }

    // from torchvision.transforms.v2.functional import normalize; import torch
    // normalize(torch.tensor([0, 128, 255]).reshape(3, 1, 1) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    #[test]
    fn channels_are_normalised_as_in_torchvision() {
        let mut output = [0.0; 3];
        normalise(&[0, 128, 255], 3, &Normalisation::IMAGENET.table(), &mut output);
        for (ours, theirs) in output.iter().zip([-2.117903930131004, 0.2051820728291317, 2.64]) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn numbers_that_channels_share_are_written_once() {
        let text = |normalisation| serde_json::to_string(&normalisation).unwrap();
        assert_eq!(text(Normalisation::shared(127.0, 128.5)), r#"{"mean":127.0,"standard_deviation":128.5}"#);
        let imagenet = text(Normalisation::IMAGENET);
        assert_eq!(serde_json::from_str::<Normalisation>(&imagenet).unwrap(), Normalisation::IMAGENET);
        assert!(Normalisation::IMAGENET.is_valid() && !Normalisation::shared(1.0, 0.0).is_valid());
    }
}
