//! What is asked of a model outside any pipeline: classes for images of one's own.

use std::path::PathBuf;

use crate::{Input, StageError};

/// Image files, and the model that is to classify them.
#[derive(Debug, Clone, Copy)]
pub struct Classify<'a> {
    /// An artifact of the type `model`.
    pub model: &'a Input,
    /// The files.
    pub images: &'a [PathBuf],
    /// Whether a picture of where the model looks is wanted of each.
    pub overlays: bool,
    /// How many threads may work on it.
    pub threads: usize,
}

/// What a model says of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// The file.
    pub path: PathBuf,
    /// The answer, or what is wrong with the file: the end of a sentence that begins with its name.
    pub answer: Result<Answer, String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The index of the most probable class, the first of equals.
    pub class: usize,
    /// A probability for each class; they sum to 1.
    pub probabilities: Vec<f64>,
    /// A PNG file of the image with the heat for its most probable class, where that was asked for.
    pub overlay: Option<Vec<u8>>,
}

/// Who hears the answers in the order of the images, with the labels of the classes.
pub type Listener<'a> = dyn FnMut(&[String], Classified) -> Result<(), StageError> + 'a;
