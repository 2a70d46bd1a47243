//! The sum of two maps, as in residual connections (He et al. 2016).

use super::access::TILE;
use super::{Backward, ImagePass, MapOp, OpWeights, Scratch, Sink, Source};
use hamflow_kernels::network::add;
use hamflow_kernels::shape::{MapShape, spans};

/// Two maps `[height, width, channels]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct Add {
    shape: MapShape,
}

impl Add {
    /// The sum of two maps; the error is the end of a sentence.
    pub fn new(inputs: [MapShape; 2]) -> Result<Self, String> {
        match inputs[0] == inputs[1] {
            true => Ok(Self { shape: inputs[0] }),
            false => Err(format!("maps of {:?} and {:?} cannot be added", inputs[0], inputs[1])),
        }
    }
}

impl MapOp for Add {
    fn kind(&self) -> String {
        "add".to_owned()
    }

    fn output(&self) -> MapShape {
        self.shape
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
        for span in spans(&[inputs[0].layout, inputs[1].layout, output.layout], TILE) {
            inputs[0].write(level, span, output.span(span));
            let values = inputs[1].span(level, span, &mut scratch.input);
            add(level, values, output.span(span));
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
        let level = pass.pass.level;
        for span in spans(&[inputs[0].layout, inputs[1].layout, output.layout], TILE) {
            let gradient = output.span(level, span, &mut scratch.gradient);
            for input_gradient in input_gradients.iter_mut().flatten() {
                input_gradient.put(span, gradient);
                input_gradient.finish(level, span);
            }
        }
    }
}
