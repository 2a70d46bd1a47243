//! Inference with a trained model.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hamflow_stage_api::{Input, StageError};
use rayon::prelude::*;

use crate::augment::Draw;
use crate::backend::{self, Choice, DeviceModel};
use crate::card::{self, Card, Member};
use crate::dataset::Class;
use crate::loss::softmax;
use crate::network::{GradCam, HeatMap};
use crate::normalisation::normalise;
use crate::shard::ShardReader;
use crate::trainer::{INFERENCE_BATCH, predict_view};
use crate::tta::views;
use hamflow_kernels::imaging::Preparation;

/// A trained model, or an ensemble of them, with its classes and normalisation.
pub struct Classifier {
    card: Card,
    members: Vec<Member>,
    /// The members on another device than the CPU, if all are there.
    on_device: Vec<Mutex<DeviceModel>>,
}

impl Classifier {
    /// Loads the model of a `train` or `ensemble` stage.
    pub fn load(model: &Input) -> Result<Self, StageError> {
        let (card, members) = card::load(model)?;
        Ok(Self { card, members, on_device: Vec::new() })
    }

    /// Computes on the chosen device from now on. `note` and `fell_back` are as for [`backend::engine`].
    pub fn compute_on(
        &mut self,
        choice: Choice,
        mut note: impl FnMut(String),
        mut fell_back: impl FnMut(String),
    ) -> Result<(), StageError> {
        let mut models = Vec::new();
        for Member { card, network, weights } in &self.members {
            match backend::inference(choice, network, weights, card.normalisation, &mut note, &mut fell_back)? {
                Some(model) => models.push(Mutex::new(model)),
                None => return Ok(()),
            }
        }
        self.on_device = models;
        Ok(())
    }

    /// The classes in index order.
    pub fn classes(&self) -> &[Class] {
        &self.card.classes
    }

    /// The height, width and channels of input images.
    pub fn shape(&self) -> [usize; 3] {
        [self.card.input.height, self.card.input.width, self.card.input.channels]
    }

    /// The preprocessing that input images need.
    pub fn preparation(&self) -> Result<Preparation, StageError> {
        self.card.preparation().map_err(|error| {
            StageError::input(format!("the model card has no valid preprocessing parameters: {error}"))
                .hint("retrain the model with this version")
        })
    }

    /// Fails if images have a different size or preprocessing than the training images, as far as both are known.
    pub fn require_its_images(&self, shards: &ShardReader) -> Result<(), StageError> {
        let hint = "use the shards that the model was trained on, or ones with the same parameters";
        if shards.shape() != self.shape() {
            let (of_shards, of_model) = (shards.shape(), self.shape());
            let message =
                format!("the shards contain images of shape {of_shards:?}, but the model requires {of_model:?}");
            return Err(StageError::input(message).hint(hint));
        }
        let (Some(of_model), Some(of_shards)) = (self.card.preprocess.as_object(), shards.preprocess().as_object())
        else {
            return Ok(());
        };
        let differing = of_shards.iter().find(|(name, value)| of_model.get(*name).is_some_and(|other| other != *value));
        let Some((name, value)) = differing else { return Ok(()) };
        let message = format!(
            "the shards have `{name} = {value}`, but the model was trained on shards with `{name} = {}`",
            of_model[name]
        );
        Err(StageError::input(message).hint(hint))
    }

    /// The networks with their weights.
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }

    /// The model's card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The class probabilities of each image (height × width × channels bytes), averaged over a number of
    /// [`views`] and over the members of an ensemble; they sum to 1.
    ///
    /// The result for an image depends neither on the other images nor on `threads`.
    pub fn probabilities(
        &self,
        images: &[&[u8]],
        view_count: usize,
        threads: usize,
    ) -> Result<Vec<Vec<f64>>, StageError> {
        self.probabilities_in(&thread_pool(threads)?, images, view_count)
    }

    /// Like [`Classifier::probabilities`], on the threads of a pool.
    pub fn probabilities_in(
        &self,
        pool: &rayon::ThreadPool,
        images: &[&[u8]],
        view_count: usize,
    ) -> Result<Vec<Vec<f64>>, StageError> {
        self.check_sizes(images)?;
        let classes = self.card.classes.len();
        let mut sums = vec![vec![0.0; classes]; images.len()];
        let failed = |error: candle_core::Error| StageError::bug(format!("the forward pass failed: {error}"));
        for model in &self.on_device {
            let mut model = lock(model);
            add_probabilities(images, view_count, &mut sums, |batch, view| model.logits(batch, view))?;
        }
        if self.on_device.is_empty() {
            pool.install(|| {
                self.members.iter().try_for_each(|member| {
                    let values = member.card.normalisation.table();
                    let predictor = member.network.predictor(&member.weights).map_err(failed)?;
                    add_probabilities(images, view_count, &mut sums, |batch, view| {
                        predict_view(&predictor, &values, batch, view).map_err(failed)
                    })
                })
            })?;
        }
        let count = (view_count * self.members.len()) as f64;
        sums.iter_mut().flatten().for_each(|sum| *sum /= count);
        Ok(sums)
    }

    /// A Grad-CAM heat map of the last feature map for each image and class. That of an ensemble is the mean of its members'
    /// maps, each divided by its peak, in the largest size.
    ///
    /// The result for an image depends neither on the other images nor on `threads`.
    pub fn heat_maps(&self, images: &[(&[u8], usize)], threads: usize) -> Result<Vec<HeatMap>, StageError> {
        self.check_sizes(&images.iter().map(|(image, _)| *image).collect::<Vec<_>>())?;
        let mut of_members = match self.on_device.is_empty() {
            true => {
                let pool = thread_pool(threads)?;
                let of_members = self.members.iter().map(|member| pool.install(|| member.heat_maps(images)));
                of_members.collect::<Result<Vec<_>, _>>()?
            }
            false => {
                let of_members = self.members.iter().zip(&self.on_device);
                of_members.map(|(member, model)| heat_maps(member, model, images)).collect::<Result<Vec<_>, _>>()?
            }
        };
        match &mut of_members[..] {
            [only] => Ok(std::mem::take(only)),
            all => Ok((0..images.len())
                .map(|image| HeatMap::mean(&all.iter().map(|maps| &maps[image]).collect::<Vec<_>>()))
                .collect()),
        }
    }

    fn check_sizes(&self, images: &[&[u8]]) -> Result<(), StageError> {
        let length = self.card.input.len();
        let Some(image) = images.iter().find(|image| image.len() != length) else { return Ok(()) };
        let [height, width, channels] = self.shape();
        Err(StageError::input(format!(
            "an image has {} bytes, but the model requires {height}×{width}×{channels}",
            image.len()
        )))
    }
}

/// Adds the probabilities of each view of the images.
fn add_probabilities(
    images: &[&[u8]],
    view_count: usize,
    sums: &mut [Vec<f64>],
    mut logits: impl FnMut(&[&[u8]], &Draw) -> Result<Vec<f32>, StageError>,
) -> Result<(), StageError> {
    for (batch, sums) in images.chunks(INFERENCE_BATCH).zip(sums.chunks_mut(INFERENCE_BATCH)) {
        for view in views(view_count) {
            let logits = logits(batch, &view)?;
            for (sums, logits) in sums.iter_mut().zip(logits.chunks_exact(logits.len() / batch.len())) {
                sums.iter_mut().zip(softmax(logits)).for_each(|(sum, value)| *sum += value);
            }
        }
    }
    Ok(())
}

/// The heat maps of a member on the device.
fn heat_maps(
    member: &Member,
    model: &Mutex<DeviceModel>,
    images: &[(&[u8], usize)],
) -> Result<Vec<HeatMap>, StageError> {
    let mut maps = Vec::with_capacity(images.len());
    for batch in images.chunks(INFERENCE_BATCH) {
        maps.extend(lock(model).heat_maps(batch)?.ok_or_else(|| member.has_no_features())?);
    }
    Ok(maps)
}

fn lock(model: &Mutex<DeviceModel>) -> MutexGuard<'_, DeviceModel> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    fn has_no_features(&self) -> StageError {
        StageError::input(format!("model `{}` has no feature map, which Grad-CAM requires", self.card.model))
    }

    fn heat_maps(&self, images: &[(&[u8], usize)]) -> Result<Vec<HeatMap>, StageError> {
        let values = self.card.normalisation.table();
        let grad_cam = GradCam::new(&self.network).ok_or_else(|| self.has_no_features())?;
        let work = |weights: &[&[f32]]| {
            let heat = |(image, class): &(&[u8], usize)| {
                let mut pixels = vec![0.0; image.len()];
                normalise(image, self.card.input.channels, &values, &mut pixels);
                grad_cam.heat(weights, &pixels, *class)
            };
            images.par_iter().map(heat).collect()
        };
        let maps = self.weights.with_slices(work);
        maps.map_err(|error| StageError::bug(format!("cannot read the weights: {error}")))
    }
}

/// A thread pool for one job.
pub fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, StageError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| StageError::failed(format!("cannot start {threads} threads: {error}")))
}
