//! Classification of images outside a pipeline.

use std::path::PathBuf;

use crate::{Input, StageError};

/// A request to classify image files with a model.
#[derive(Debug, Clone, Copy)]
pub struct Classify<'a> {
    /// An artifact of type `model`.
    pub model: &'a Input,
    /// The image files.
    pub images: &'a [PathBuf],
    /// Whether to draw a heat map overlay for each image.
    pub overlays: bool,
    /// The maximum number of threads.
    pub threads: usize,
}

/// The result for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// The image file.
    pub path: PathBuf,
    /// The answer, or the problem with the file as the end of a sentence that begins with its name.
    pub answer: Result<Answer, String>,
}

/// The classification of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The index of the most probable class; the first one in a tie.
    pub class: usize,
    /// One probability per class; they sum to 1.
    pub probabilities: Vec<f64>,
    /// The image with a heat map of its most probable class, as PNG, if requested.
    pub overlay: Option<Vec<u8>>,
}

/// Receives the class labels and the results, in the order of the images.
pub type Listener<'a> = dyn FnMut(&[String], Classified) -> Result<(), StageError> + 'a;
