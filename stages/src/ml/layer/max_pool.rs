//! Max pooling over 2×2 windows.

use super::{ImageLayer, ImageSeen, Pass};
use crate::ml::kernels::{max_pool, max_pool_gradient};
use crate::ml::shape::MapShape;

/// `[height, width, channels]` → `[⌊height / 2⌋, ⌊width / 2⌋, channels]`; no weights.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool {
    input: MapShape,
}

impl MaxPool {
    /// Pools maps of shape `input`.
    pub fn new(input: MapShape) -> Self {
        Self { input }
    }
}

impl ImageLayer for MaxPool {
    fn output(&self) -> MapShape {
        self.input.halved()
    }

    fn forward(&self, pass: &Pass, _weights: &[&[f32]], _image: usize, input: &[f32], output: &mut [f32]) {
        max_pool(pass.level, self.input, input, output);
    }

    fn backward(
        &self,
        pass: &Pass,
        seen: ImageSeen<'_>,
        gradient: &mut [f32],
        _weight_gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
    ) {
        if let Some(input_gradient) = input_gradient {
            max_pool_gradient(pass.level, self.input, seen.input, gradient, input_gradient);
        }
    }
}
