//! Dropout: during training, sets random values to 0 and scales the others to preserve the mean (Srivastava et al. 2014).

use super::access::row;
use super::{Backward, ImagePass, MapOp, OpWeights, Pass, RowOp, RowsSeen, Scratch, Sink, Source};
use crate::op::access::part;
use hamflow_kernels::network::{DropoutMask, dropout};
use hamflow_kernels::shape::MapShape;

/// Mixes `word` into `state` (SplitMix64).
pub fn mix(state: u64, word: u64) -> u64 {
    let mut z = state.wrapping_add(word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of a random operation in a pass; `None` if nothing is dropped.
pub(super) fn key_of(pass: &Pass, rate: f64, number: u64) -> Option<u64> {
    pass.dropout.filter(|_| rate > 0.0).map(|key| mix(key, number))
}

/// The mask of one image, or of the whole batch as image 0; `None` if nothing is dropped.
fn mask(pass: &Pass, rate: f64, number: u64, image: usize) -> Option<DropoutMask> {
    key_of(pass, rate, number).map(|key| DropoutMask::new(rate, mix(key, image as u64)))
}

/// `[height, width, channels]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct ImageDropout {
    shape: MapShape,
    rate: f64,
    number: u64,
}

impl ImageDropout {
    /// Drops the fraction `rate`. Each random operation of a network must have a unique `number`.
    pub fn new(shape: MapShape, rate: f64, number: u64) -> Self {
        Self { shape, rate, number }
    }

    /// The fraction that is dropped.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The number among the random operations.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn first(&self, y: usize) -> u32 {
        (y * self.shape.width * self.shape.channels) as u32
    }
}

impl MapOp for ImageDropout {
    fn kind(&self) -> String {
        format!("dropout {}", self.rate)
    }

    fn output(&self) -> MapShape {
        self.shape
    }

    fn is_identity_in_inference(&self) -> bool {
        true
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        let mask = mask(pass.pass, self.rate, self.number, pass.image);
        for y in 0..self.shape.height {
            let span = row(output.layout, y);
            match mask {
                Some(mask) => {
                    let values = inputs[0].span(level, span, &mut scratch.input);
                    dropout(level, mask, self.first(y), values, output.span(span));
                }
                None => inputs[0].write(level, span, output.span(span)),
            }
            output.finish(level, span);
        }
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        Backward { output, input_gradients, .. }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let Some(input_gradient) = &mut input_gradients[0] else { return };
        let level = pass.pass.level;
        let mask = mask(pass.pass, self.rate, self.number, pass.image);
        for y in 0..self.shape.height {
            let span = row(output.layout, y);
            let gradient = output.span(level, span, &mut scratch.gradient);
            match mask {
                None => input_gradient.put(span, gradient),
                Some(mask) if !input_gradient.adds => {
                    dropout(level, mask, self.first(y), gradient, input_gradient.span(span));
                }
                Some(mask) => {
                    let masked = part(&mut scratch.result, gradient.len());
                    dropout(level, mask, self.first(y), gradient, masked);
                    input_gradient.put(span, masked);
                }
            }
            input_gradient.finish(level, span);
        }
    }
}

/// `[rows, width]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct RowDropout {
    width: usize,
    rate: f64,
    number: u64,
}

impl RowDropout {
    /// Drops the fraction `rate`. Each random operation of a network must have a unique `number`.
    pub fn new(width: usize, rate: f64, number: u64) -> Self {
        Self { width, rate, number }
    }

    /// The fraction that is dropped.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The number among the random operations.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn apply(&self, pass: &Pass, values: &[f32], output: &mut [f32]) {
        match mask(pass, self.rate, self.number, 0) {
            Some(mask) => dropout(pass.level, mask, 0, values, output),
            None => output.copy_from_slice(values),
        }
    }
}

impl RowOp for RowDropout {
    fn kind(&self) -> String {
        format!("dropout {}", self.rate)
    }

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
