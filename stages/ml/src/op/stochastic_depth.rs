//! Stochastic depth: during training, drops a residual branch for random images and scales it for the others (Huang et
//! al. 2016).

use super::access::TILE;
use super::dropout::key_of;
use super::{Backward, ImagePass, MapOp, OpWeights, Scratch, Sink, Source, mix};
use hamflow_kernels::shape::{MapShape, spans};

/// `[height, width, channels]` → same shape; no weights.
#[derive(Debug, Clone, Copy)]
pub struct StochasticDepth {
    shape: MapShape,
    rate: f64,
    number: u64,
}

impl StochasticDepth {
    /// Drops the fraction `rate` of the images. Each random operation of a network must have a unique `number`.
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

    /// The factor of an image: 0, or 1 / (1 − rate) to preserve the mean.
    fn factor(&self, pass: &ImagePass<'_>) -> f32 {
        let Some(key) = key_of(pass.pass, self.rate, self.number) else { return 1.0 };
        // 53 bits, as a fraction of 1.
        let unit = (mix(key, pass.image as u64) >> 11) as f64 / (1u64 << 53) as f64;
        if unit < self.rate { 0.0 } else { (1.0 / (1.0 - self.rate)) as f32 }
    }
}

impl MapOp for StochasticDepth {
    fn kind(&self) -> String {
        format!("stochastic depth {}", self.rate)
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
        let (level, factor) = (pass.pass.level, self.factor(pass));
        for span in spans(&[inputs[0].layout, output.layout], TILE) {
            inputs[0].write(level, span, output.span(span));
            if factor != 1.0 {
                output.span(span).iter_mut().for_each(|value| *value *= factor);
            }
            output.finish(level, span);
        }
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        _weights: OpWeights<'_>,
        Backward { inputs, output, input_gradients, .. }: Backward<'_>,
        _scratch: &mut Scratch,
    ) {
        let Some(input_gradient) = &mut input_gradients[0] else { return };
        let (level, factor) = (pass.pass.level, self.factor(pass));
        for span in spans(&[inputs[0].layout, output.layout], TILE) {
            output.resolve(level, span);
            let gradient = &mut output.gradient[output.layout.range(span)];
            if factor != 1.0 {
                gradient.iter_mut().for_each(|value| *value *= factor);
            }
            input_gradient.put(span, gradient);
            input_gradient.finish(level, span);
        }
    }
}
