//! A 3×3 convolution with "same" padding, bias and ReLU.

use super::{ImageLayer, ImageSeen, Initial, ParameterConfig, Pass};
use crate::ml::kernels::{ConvShape, Epilogue, conv3x3, conv3x3_weight_gradient, flip, relu_gradient};
use crate::ml::shape::MapShape;

/// `[height, width, inputs]` → `[height, width, filters]`; weights `[3, 3, inputs, filters]`, bias `[filters]`.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    shape: ConvShape,
}

impl Conv {
    /// A convolution of `input` with `filters` output channels.
    pub fn new(input: MapShape, filters: usize) -> Self {
        let MapShape { height, width, channels } = input;
        Self { shape: ConvShape { height, width, inputs: channels, outputs: filters } }
    }
}

impl ImageLayer for Conv {
    fn output(&self) -> MapShape {
        MapShape { height: self.shape.height, width: self.shape.width, channels: self.shape.outputs }
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        let ConvShape { inputs, outputs, .. } = self.shape;
        let initial = Initial::GlorotUniform { fan_in: 9 * inputs, fan_out: 9 * outputs };
        vec![
            ParameterConfig { name: "weight", shape: vec![3, 3, inputs, outputs], initial },
            ParameterConfig { name: "bias", shape: vec![outputs], initial: Initial::Zeros },
        ]
    }

    fn prepare(&self, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        prepared.resize(self.shape.weights(), 0.0);
        flip(self.shape, weights[0], prepared);
    }

    fn forward(&self, pass: &Pass, weights: &[&[f32]], _image: usize, input: &[f32], output: &mut [f32]) {
        conv3x3(pass.level, self.shape, input, weights[0], Epilogue::BiasRelu(weights[1]), output);
    }

    fn backward(
        &self,
        pass: &Pass,
        seen: ImageSeen<'_>,
        gradient: &mut [f32],
        weight_gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
    ) {
        let (weights, bias) = weight_gradient.split_at_mut(self.shape.weights());
        relu_gradient(pass.level, self.output(), seen.output, gradient, bias);
        conv3x3_weight_gradient(pass.level, self.shape, seen.input, gradient, weights);
        if let Some(input_gradient) = input_gradient {
            let ConvShape { height, width, inputs, outputs } = self.shape;
            let turned = ConvShape { height, width, inputs: outputs, outputs: inputs };
            conv3x3(pass.level, turned, gradient, seen.prepared, Epilogue::Plain, input_gradient);
        }
    }
}
