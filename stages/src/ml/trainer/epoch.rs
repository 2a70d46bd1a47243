//! What one epoch does: which images in which order at which rates, and what is drawn for each of them.

use hamflow_stage_api::Random;

use super::{Data, Recipe};
use crate::ml::augment::Draw;
use crate::ml::loss::Target;
use crate::ml::mixup::Mix;

/// One epoch, the same for every engine.
#[derive(Debug, Clone)]
pub struct Epoch<'e> {
    /// Counted from 1.
    pub number: usize,
    /// The training images in the order in which they are seen.
    pub order: Vec<usize>,
    /// The learning rate of each step.
    pub rates: Vec<f64>,
    /// How the network is trained.
    pub recipe: &'e Recipe,
    /// What is learned from.
    pub data: &'e Data<'e>,
    /// What an image of each class counts.
    pub class_weights: &'e [f64],
}

/// One step of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<'e> {
    /// The place of its first image in the epoch's order.
    pub position: usize,
    /// Its training images.
    pub images: &'e [usize],
    /// Its learning rate.
    pub learning_rate: f64,
}

impl Epoch<'_> {
    /// The steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let size = self.recipe.batch_size;
        self.order.chunks(size).zip(&self.rates).enumerate().map(move |(number, (images, &learning_rate))| Step {
            position: number * size,
            images,
            learning_rate,
        })
    }

    /// How the image at a place of the order is moved and recoloured, if it is.
    pub fn draw(&self, position: usize) -> Option<Draw> {
        let augment = self.recipe.augment?;
        let purpose = format!("augment {} {position}", self.number);
        Some(augment.draw(&mut Random::new(self.recipe.seed, &purpose)))
    }

    /// The classes of a step's images, before they are mixed.
    pub fn targets(&self, step: Step<'_>) -> Vec<Target> {
        let target = |&image: &usize| {
            let class = self.data.training.classes[image];
            Target::new(class, self.class_weights[class])
        };
        step.images.iter().map(target).collect()
    }

    /// How the images of a step are mixed, if they are.
    pub fn mix(&self, step: Step<'_>) -> Option<Mix> {
        let alpha = self.recipe.mixup;
        (alpha > 0.0).then(|| {
            let purpose = format!("mixup {} {}", self.number, step.position);
            Mix::draw(&mut Random::new(self.recipe.seed, &purpose), alpha, step.images.len())
        })
    }
}
