//! A copy of a map with its normalisation and activation applied, for operations that need stored values.

use super::access::TILE;
use super::{Backward, ImagePass, MapOp, OpWeights, Scratch, Sink, Source};
use hamflow_kernels::shape::{MapShape, spans};

/// `[height, width, channels]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct Materialise {
    shape: MapShape,
}

impl Materialise {
    /// Copies maps of this shape.
    pub fn new(shape: MapShape) -> Self {
        Self { shape }
    }
}

impl MapOp for Materialise {
    fn kind(&self) -> String {
        "copy".to_owned()
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
        _scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        for span in spans(&[inputs[0].layout, output.layout], TILE) {
            inputs[0].write(level, span, output.span(span));
            output.finish(level, span);
        }
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        Backward { inputs, output, input_gradients, .. }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let Some(input_gradient) = &mut input_gradients[0] else { return };
        let level = pass.pass.level;
        for span in spans(&[inputs[0].layout, output.layout], TILE) {
            let gradient = output.span(level, span, &mut scratch.gradient);
            input_gradient.put(span, gradient);
            input_gradient.finish(level, span);
        }
    }
}
