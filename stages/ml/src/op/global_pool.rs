//! Global average pooling: the mean of each channel.

use super::access::TILE;
use super::{Backward, ImagePass, MapOp, OpWeights, Scratch, Sink, Source};
use hamflow_kernels::shape::{MapShape, Span, spans};

/// `[height, width, channels]` → `[1, 1, channels]`; no weights.
#[derive(Debug, Clone, Copy)]
pub struct GlobalPool {
    input: MapShape,
}

impl GlobalPool {
    /// Averages maps of shape `input`.
    pub fn new(input: MapShape) -> Self {
        Self { input }
    }
}

/// The only pixel of the output.
const PIXEL: Span = Span { first: 0, count: 1 };

impl MapOp for GlobalPool {
    fn kind(&self) -> String {
        "global average pool".to_owned()
    }

    fn output(&self) -> MapShape {
        MapShape::vector(self.input.channels)
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
        let means = output.span(PIXEL);
        means.fill(0.0);
        for span in spans(&[inputs[0].layout], TILE) {
            let values = inputs[0].span(level, span, &mut scratch.input);
            for pixel in values.chunks_exact(self.input.channels) {
                means.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
        }
        let count = self.input.pixels() as f32;
        means.iter_mut().for_each(|sum| *sum /= count);
        output.finish(level, PIXEL);
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        Backward { inputs, output, input_gradients, .. }: Backward<'_>,
        _scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        let gradient = output.resolve(level, PIXEL);
        let Some(input_gradient) = &mut input_gradients[0] else { return };
        let (adds, count) = (input_gradient.adds, self.input.pixels() as f32);
        for span in spans(&[inputs[0].layout], TILE) {
            for pixel in input_gradient.span(span).chunks_exact_mut(self.input.channels) {
                for (value, gradient) in pixel.iter_mut().zip(gradient) {
                    *value = if adds { *value + gradient / count } else { gradient / count };
                }
            }
            input_gradient.finish(level, span);
        }
    }
}
