//! The plan of an epoch: the order of the images, the learning rates, and the random numbers.

use hamflow_stage_api::Random;

use super::{Data, Samples};
use crate::augment::Draw;
use crate::loss::Target;
use crate::mixup::Mix;
use crate::recipe::Recipe;
use hamflow_kernels::shape::MapShape;

/// An epoch, independent of the engine.
#[derive(Debug, Clone)]
pub struct Epoch<'e> {
    /// The number of the epoch, 1-based.
    pub number: usize,
    /// The indices of the training images, in order.
    pub order: Vec<usize>,
    /// The learning rate of each step.
    pub rates: Vec<f64>,
    /// The training configuration.
    pub recipe: &'e Recipe,
    /// The data.
    pub data: &'e Data<'e>,
    /// The weight of each class in the loss.
    pub class_weights: &'e [f64],
    /// What is added to the logit of each class in the loss; empty for nothing.
    pub logit_offsets: &'e [f32],
}

/// One step of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<'e> {
    /// The position of its first image in the epoch's order.
    pub position: usize,
    /// The indices of its training images.
    pub images: &'e [usize],
    /// Its learning rate.
    pub learning_rate: f64,
}

impl Epoch<'_> {
    /// The steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let (size, last) = (self.recipe.batch_size, self.rates.len().saturating_sub(1));
        self.rates.iter().enumerate().map(move |(number, &learning_rate)| {
            let position = number * size;
            let end = if number == last { self.order.len() } else { position + size };
            Step { position, images: &self.order[position..end], learning_rate }
        })
    }

    /// The augmentation of the image at a position, if any.
    pub fn draw(&self, position: usize) -> Option<Draw> {
        let augment = self.recipe.augment.0?;
        let purpose = format!("augment {} {position}", self.number);
        Some(augment.draw(&mut Random::new(self.recipe.seed, &purpose)))
    }

    /// The targets of a step's images, before MixUp.
    pub fn targets(&self, step: Step<'_>) -> Vec<Target> {
        let target = |&image: &usize| {
            let Samples { classes, weights, .. } = &self.data.training;
            let class = classes[image];
            Target::new(class, self.class_weights[class] * weights.get(image).copied().unwrap_or(1.0))
        };
        step.images.iter().map(target).collect()
    }

    /// The MixUp or CutMix of a step, if enabled.
    pub fn mix(&self, step: Step<'_>, shape: MapShape) -> Option<Mix> {
        let Recipe { mixup, cutmix, seed, .. } = *self.recipe;
        let random = |purpose: &str| Random::new(seed, &format!("{purpose} {} {}", self.number, step.position));
        let count = step.images.len();
        let blends = mixup > 0.0 && (cutmix == 0.0 || random("mixup or cutmix").unit() < 0.5);
        match (blends, cutmix > 0.0) {
            (true, _) => Some(Mix::draw(&mut random("mixup"), mixup, count)),
            (false, true) => Some(Mix::cut(&mut random("cutmix"), cutmix, count, shape)),
            (false, false) => None,
        }
    }
}
