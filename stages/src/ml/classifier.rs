//! A trained model at work: images in, probabilities out.

use hamflow_stage_api::{Input, StageError};
use rayon::prelude::*;

use crate::imaging::Preparation;
use crate::ml::card::{self, Card};
pub use crate::ml::examples::Class;
use crate::ml::loss::softmax;
use crate::ml::network::{GradCam, HeatMap, Network};
use crate::ml::trainer::{INFERENCE_BATCH, predict};
use crate::ml::weights::Weights;
use crate::shard::ShardReader;

/// A model with its weights, classes and normalisation.
pub struct Classifier {
    card: Card,
    network: Network,
    weights: Weights,
}

impl Classifier {
    /// Reads the model of a `train` stage.
    pub fn load(model: &Input) -> Result<Self, StageError> {
        let (card, network, weights) = card::load(model)?;
        Ok(Self { card, network, weights })
    }

    /// The classes in the order of their indices.
    pub fn classes(&self) -> &[Class] {
        &self.card.classes
    }

    /// Height, width and channels of the images that it takes.
    pub fn shape(&self) -> [usize; 3] {
        [self.card.input.height, self.card.input.width, self.card.input.channels]
    }

    /// How an image must be prepared for the model.
    pub fn preparation(&self) -> Result<Preparation, StageError> {
        serde_json::from_value(self.card.preprocess.clone()).map_err(|error| {
            StageError::input(format!("the model's card does not say how its images were prepared: {error}"))
                .hint("train the model again with this version")
        })
    }

    /// Fails where images have another size than those that the model was trained on, or were prepared with other parameters, as far
    /// as both are known.
    pub fn require_its_images(&self, shards: &ShardReader) -> Result<(), StageError> {
        let hint = "use the shards that the model was trained on, or ones of the same parameters";
        if shards.shape() != self.shape() {
            let (of_shards, of_model) = (shards.shape(), self.shape());
            let message = format!("the shards hold images of {of_shards:?}, the model takes {of_model:?}");
            return Err(StageError::input(message).hint(hint));
        }
        let (Some(of_model), Some(of_shards)) = (self.card.preprocess.as_object(), shards.preprocess().as_object())
        else {
            return Ok(());
        };
        let differing = of_shards.iter().find(|(name, value)| of_model.get(*name).is_some_and(|other| other != *value));
        let Some((name, value)) = differing else { return Ok(()) };
        let message = format!(
            "the shards were made with `{name} = {value}`, those that the model was trained on with `{name} = {}`",
            of_model[name]
        );
        Err(StageError::input(message).hint(hint))
    }

    /// What the model says of itself.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// A probability per class for each image (height × width × channels bytes); they sum to 1.
    ///
    /// An image's probabilities depend neither on the other images nor on `threads`.
    pub fn probabilities(&self, images: &[&[u8]], threads: usize) -> Result<Vec<Vec<f64>>, StageError> {
        self.check_sizes(images)?;
        let values = self.card.normalisation.table();
        let work = || {
            let mut probabilities = Vec::with_capacity(images.len());
            for batch in images.chunks(INFERENCE_BATCH) {
                let logits = predict(&self.network, &self.weights, &values, batch)?;
                probabilities.extend(logits.chunks_exact(self.network.classes()).map(softmax));
            }
            Ok(probabilities)
        };
        thread_pool(threads)?
            .install(work)
            .map_err(|error: candle_core::Error| StageError::bug(format!("the forward pass failed: {error}")))
    }

    /// Where the last convolution finds what speaks for a class (Grad-CAM): a heat map for each image and the class beside it.
    ///
    /// A heat map depends neither on the other images nor on `threads`.
    pub fn heat_maps(&self, images: &[(&[u8], usize)], threads: usize) -> Result<Vec<HeatMap>, StageError> {
        self.check_sizes(&images.iter().map(|(image, _)| *image).collect::<Vec<_>>())?;
        let values = self.card.normalisation.table();
        let grad_cam = GradCam::new(&self.network).ok_or_else(|| {
            let message = format!("the model `{}` has no convolution to look at", self.card.model);
            StageError::input(message)
        })?;
        let work = |weights: &[&[f32]]| {
            let heat = |(image, class): &(&[u8], usize)| {
                let pixels: Vec<f32> = image.iter().map(|byte| values[usize::from(*byte)]).collect();
                grad_cam.heat(weights, &pixels, *class)
            };
            images.par_iter().map(heat).collect()
        };
        thread_pool(threads)?
            .install(|| self.weights.with_slices(work))
            .map_err(|error| StageError::bug(format!("the weights cannot be read: {error}")))
    }

    fn check_sizes(&self, images: &[&[u8]]) -> Result<(), StageError> {
        let length = self.card.input.len();
        let Some(image) = images.iter().find(|image| image.len() != length) else { return Ok(()) };
        let [height, width, channels] = self.shape();
        Err(StageError::input(format!(
            "an image has {} bytes, but the model takes {height}×{width}×{channels}",
            image.len()
        )))
    }
}

/// Threads for one job.
pub fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, StageError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| StageError::failed(format!("cannot start {threads} threads: {error}")))
}
