//! Classifies individual images with a model, after the same preprocessing and normalisation as its training images.

use std::path::{Path, PathBuf};

use hamflow_stage_api::{CommandError, Input, StageError, Symlinks, read_regular};
use rayon::prelude::*;

use crate::gradcam::pictures::{enlarged, paint};
use crate::ml::backend::Choice;
use crate::ml::classifier::{Classifier, thread_pool};
use crate::ml::metric::most_probable;
use hamflow_kernels::imaging::{Preparation, Preparer, encode_png};

/// The number of images per batch.
const BATCH: usize = 256;

/// An image as model input, or the problem with the file.
type Prepared = Result<Vec<u8>, String>;

/// A request to classify image files with a model.
#[derive(Debug, Clone, Copy)]
pub struct Classify<'a> {
    /// An artifact of type `model`.
    pub model: &'a Input,
    /// The image files.
    pub images: &'a [PathBuf],
    /// The number of views of each image whose probabilities are averaged.
    pub views: usize,
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
pub type Listener<'a> = dyn FnMut(&[String], Classified) -> Result<(), CommandError> + 'a;

/// Classifies image files. A file that cannot be decoded is reported as its answer and does not stop the others.
pub fn classify(asked: &Classify<'_>, tell: &mut Listener<'_>) -> Result<(), CommandError> {
    let mut classifier = Classifier::load(asked.model)?;
    // On the device if there is one; the answers say nothing about it.
    classifier.compute_on(Choice::default(), |_| (), |_| ())?;
    let preparation = classifier.preparation()?;
    let labels: Vec<String> = classifier.classes().iter().map(|class| class.label.clone()).collect();
    let pool = thread_pool(asked.threads)?;
    for paths in asked.images.chunks(BATCH) {
        let prepared: Vec<Prepared> = pool.install(|| {
            paths
                .par_iter()
                .map_init(|| Preparer::new(preparation), |preparer, path| prepare(preparer, preparation, path))
                .collect()
        });
        let images: Vec<&[u8]> = prepared.iter().flatten().map(Vec::as_slice).collect();
        let probabilities = classifier.probabilities(&images, asked.views, asked.threads)?;
        let overlays = if asked.overlays {
            let shown = paths.iter().zip(&prepared).filter(|(_, prepared)| prepared.is_ok()).map(|(path, _)| &**path);
            let explained = images.iter().zip(&probabilities).map(|(image, row)| (*image, most_probable(row)));
            overlays(&classifier, &explained.collect::<Vec<_>>(), &shown.collect::<Vec<_>>(), asked.threads)?
        } else {
            vec![None; images.len()]
        };
        let mut answers = probabilities.into_iter().zip(overlays);
        for (path, prepared) in paths.iter().zip(prepared) {
            let answer = match prepared {
                Err(problem) => Err(problem),
                Ok(_) => {
                    let (probabilities, overlay) =
                        answers.next().ok_or_else(|| StageError::bug("an image has no answer"))?;
                    match probabilities.iter().all(|probability| probability.is_finite()) {
                        true => Ok(Answer { class: most_probable(&probabilities), probabilities, overlay }),
                        false => Err("is an image for which the model's answer is no number".to_owned()),
                    }
                }
            };
            tell(&labels, Classified { path: path.clone(), answer })?;
        }
    }
    Ok(())
}

fn prepare(preparer: &mut Preparer, preparation: Preparation, path: &Path) -> Prepared {
    let bytes = read_regular(path, Symlinks::Follow).map_err(|error| format!("cannot be read: {error}"))?;
    let mut tensor = vec![0; preparation.height * preparation.width * 3];
    preparer.prepare(&bytes, &mut tensor).map_err(|bad| bad.to_string())?;
    Ok(tensor)
}

/// For each image and class, a PNG overlay of the heat map, drawn over the file at the same place in `paths`.
fn overlays(
    classifier: &Classifier,
    images: &[(&[u8], usize)],
    paths: &[&Path],
    threads: usize,
) -> Result<Vec<Option<Vec<u8>>>, StageError> {
    let large = enlarged(classifier.preparation()?);
    let heat = classifier.heat_maps(images, threads)?;
    let draw = |preparer: &mut Preparer, (path, heat): (&&Path, &crate::ml::network::HeatMap)| {
        // The file was read a moment ago; if it has been deleted since, it gets no overlay.
        let image = prepare(preparer, large, path).ok()?;
        let (_, overlay) = paint(&image, &heat.resized(large.height, large.width));
        encode_png(&overlay, large.width, large.height).ok()
    };
    let pool = thread_pool(threads)?;
    Ok(pool.install(|| paths.par_iter().zip(&heat).map_init(|| Preparer::new(large), draw).collect()))
}
