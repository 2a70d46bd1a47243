//! Dropout: during training, sets random values to 0 and scales the others to preserve the mean.

use super::{ImageLayer, ImageSeen, Pass, RowLayer, RowsSeen};
use crate::ml::kernels::{DropoutMask, dropout};
use crate::ml::shape::MapShape;

/// Mixes `word` into `state` (SplitMix64).
pub fn mix(state: u64, word: u64) -> u64 {
    let mut z = state.wrapping_add(word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The mask of one image, or of the whole batch as image 0; `None` if nothing is dropped.
fn mask(pass: &Pass, rate: f64, layer: u64, image: usize) -> Option<DropoutMask> {
    let key = pass.dropout.filter(|_| rate > 0.0)?;
    Some(DropoutMask::new(rate, mix(mix(key, layer), image as u64)))
}

/// `[height, width, channels]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct ImageDropout {
    shape: MapShape,
    rate: f64,
    layer: u64,
}

impl ImageDropout {
    /// Drops the fraction `rate`. Each layer of a network must have a unique number `layer`.
    pub fn new(shape: MapShape, rate: f64, layer: u64) -> Self {
        Self { shape, rate, layer }
    }

    fn apply(&self, pass: &Pass, image: usize, values: &[f32], output: &mut [f32]) {
        let mask = mask(pass, self.rate, self.layer, image);
        let row_length = self.shape.width * self.shape.channels;
        for y in 0..self.shape.height {
            let (values, output) = (self.shape.row(values, y), self.shape.row_mut(output, y));
            match mask {
                Some(mask) => dropout(pass.level, mask, (y * row_length) as u32, values, output),
                None => output.copy_from_slice(values),
            }
        }
    }
}

impl ImageLayer for ImageDropout {
    fn output(&self) -> MapShape {
        self.shape
    }

    fn forward(&self, pass: &Pass, _weights: &[&[f32]], image: usize, input: &[f32], output: &mut [f32]) {
        self.apply(pass, image, input, output);
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
            self.apply(pass, seen.image, gradient, input_gradient);
        }
    }
}

/// `[rows, width]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct RowDropout {
    width: usize,
    rate: f64,
    layer: u64,
}

impl RowDropout {
    /// Drops the fraction `rate`. Each layer of a network must have a unique number `layer`.
    pub fn new(width: usize, rate: f64, layer: u64) -> Self {
        Self { width, rate, layer }
    }

    fn apply(&self, pass: &Pass, values: &[f32], output: &mut [f32]) {
        match mask(pass, self.rate, self.layer, 0) {
            Some(mask) => dropout(pass.level, mask, 0, values, output),
            None => output.copy_from_slice(values),
        }
    }
}

impl RowLayer for RowDropout {
    fn output(&self) -> usize {
        self.width
    }

    fn forward(&self, pass: &Pass, _weights: &[&[f32]], _rows: usize, input: &[f32], output: &mut [f32]) {
        self.apply(pass, input, output);
    }

    fn backward(
        &self,
        pass: &Pass,
        _seen: RowsSeen<'_>,
        gradient: &mut [f32],
        _weight_gradient: &mut [f32],
        input_gradient: &mut [f32],
    ) {
        self.apply(pass, gradient, input_gradient);
    }
}
