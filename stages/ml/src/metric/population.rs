//! What the rows of a split are like, and how an external test set relates to the training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The shares of classes and attributes of a split, and the colours of its images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// The number of images.
    pub images: usize,
    /// The number of lesions; an image without one counts as one.
    pub lesions: usize,
    /// The share of each class among the images.
    pub classes: BTreeMap<String, f64>,
    /// For each attribute that has any value, the share of each of its values among the images.
    pub attributes: BTreeMap<String, BTreeMap<String, f64>>,
    /// The colours of the prepared images; `None` if they were not read.
    pub colours: Option<ColourSummary>,
}

/// The colours of images, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColourSummary {
    /// The mean over the images of red, green and blue.
    pub mean: [f64; 3],
    /// The mean brightness: 0.299 red, 0.587 green and 0.114 blue (ITU-R BT.601).
    pub brightness: f64,
    /// The standard deviation of the brightness between images.
    pub brightness_deviation: f64,
}

/// The proof that an external test set is independent of the training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Independence {
    /// The number of training and validation images that it was compared with.
    pub compared_images: usize,
    /// The number of their lesions; images without one are not counted.
    pub compared_lesions: usize,
    /// Whether the tensors of the images were compared, so that copies under other names are found.
    pub compared_tensors: bool,
    /// The number of external images whose lesion is not known.
    pub without_lesion: usize,
    /// The number of external images that are also in the internal test split.
    pub in_test: usize,
}
