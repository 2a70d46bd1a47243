//! A 3×3 convolution with stride 1 and "same" padding, optionally with bias and ReLU: no patches are copied.

use std::ops::Range;

use super::access::part;
use super::{
    Backward, ConvConfig, ImagePass, Initial, MapOp, OpWeights, ParameterConfig, Requires, Scratch, Sink, Source,
    WeightLayout,
};
use hamflow_kernels::network::{
    ConvShape, Epilogue, Level, ProductShape, conv3x3, conv3x3_weight_gradient, flip, outer_product, relu_gradient,
};
use hamflow_kernels::shape::{Layout, MapShape, spans};

/// `[height, width, inputs]` → `[height, width, filters]`; weights `[3, 3, inputs, filters]`, bias `[filters]`.
#[derive(Debug, Clone, Copy)]
pub struct DirectConv {
    shape: ConvShape,
    initial: Initial,
    bias_relu: bool,
}

impl DirectConv {
    /// A convolution of `input` for which [`ConvConfig::is_direct`] holds, followed by bias and ReLU if `bias_relu`.
    pub fn new(input: MapShape, config: ConvConfig, bias_relu: bool) -> Self {
        let MapShape { height, width, channels } = input;
        let shape = ConvShape { height, width, inputs: channels, outputs: config.filters };
        Self { shape, initial: config.initial(channels), bias_relu }
    }

    /// The number of output channels.
    pub fn filters(&self) -> usize {
        self.shape.outputs
    }

    /// Whether bias and ReLU follow.
    pub fn has_bias_and_relu(&self) -> bool {
        self.bias_relu
    }

    fn weights(&self) -> usize {
        self.shape.weights()
    }
}

impl MapOp for DirectConv {
    fn kind(&self) -> String {
        if self.bias_relu { "conv 3×3, ReLU" } else { "conv 3×3" }.to_owned()
    }

    fn output(&self) -> MapShape {
        MapShape { height: self.shape.height, width: self.shape.width, channels: self.shape.outputs }
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        let ConvShape { inputs, outputs, .. } = self.shape;
        let (shape, initial) = (vec![3, 3, inputs, outputs], self.initial);
        let mut configs = vec![ParameterConfig { name: "weight", shape, initial, layout: WeightLayout::Conv }];
        if self.bias_relu {
            configs.push(ParameterConfig::vector("bias", outputs, Initial::Zeros));
        }
        configs
    }

    fn requires(&self) -> Requires {
        Requires::Border
    }

    fn prepare_backward(&self, _level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        flip(self.shape, weights[0], part(prepared, self.weights()));
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        _scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        let epilogue = if self.bias_relu { Epilogue::BiasRelu(weights.tensors[1]) } else { Epilogue::Plain };
        conv3x3(level, self.shape, inputs[0].stored, weights.tensors[0], epilogue, output.values);
        spans(&[output.layout], usize::MAX).for_each(|span| output.finish(level, span));
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        Backward { inputs, output, weight_gradient, input_gradients }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        let (layout, stored) = (output.layout, output.stored);
        spans(&[layout], usize::MAX).for_each(|span| {
            output.resolve(level, span);
        });
        match weight_gradient {
            None if self.bias_relu => {
                let ignored = part(&mut scratch.gradient, self.shape.outputs);
                relu_gradient(level, layout, stored, output.gradient, ignored);
            }
            None => {}
            Some(weight_gradient) => {
                let (of_weights, bias) = weight_gradient.split_at_mut(self.weights());
                if self.bias_relu {
                    relu_gradient(level, layout, stored, output.gradient, bias);
                }
                conv3x3_weight_gradient(level, self.shape, inputs[0].stored, output.gradient, of_weights);
            }
        }
        if let Some(input_gradient) = &mut input_gradients[0] {
            let ConvShape { height, width, inputs, outputs } = self.shape;
            let turned = ConvShape { height, width, inputs: outputs, outputs: inputs };
            if !input_gradient.adds {
                conv3x3(level, turned, output.gradient, weights.backward, Epilogue::Plain, input_gradient.gradient);
                return;
            }
            let layout = input_gradient.source.layout;
            let result = part(&mut scratch.result, layout.len());
            conv3x3(level, turned, output.gradient, weights.backward, Epilogue::Plain, result);
            spans(&[layout], usize::MAX).for_each(|span| input_gradient.put(span, &result[layout.range(span)]));
        }
    }

    fn weight_row_len(&self) -> Option<usize> {
        (!self.bias_relu).then_some(self.shape.outputs)
    }

    fn weight_rows(
        &self,
        level: Level,
        rows: Range<usize>,
        input: &Source<'_>,
        (layout, gradient): (Layout, &[f32]),
        weight_gradient: &mut [f32],
        _scratch: &mut Scratch,
    ) {
        let ConvShape { height, width, inputs: channels, outputs } = self.shape;
        let mut first = rows.start;
        while first < rows.end {
            let (tap, channel) = (first / channels, first % channels);
            let count = (channels - channel).min(rows.end - first);
            let weights = &mut weight_gradient[(first - rows.start) * outputs..][..count * outputs];
            first += count;
            let (row, column) = (tap / 3, tap % 3);
            // The outputs whose input column is inside the map.
            let (start, end) = (1_usize.saturating_sub(column), (width + 1 - column).min(width));
            if start >= end {
                continue;
            }
            let (input_stride, output_stride) = (channels, outputs);
            let shape = ProductShape { rows: end - start, inputs: count, outputs, input_stride, output_stride };
            for y in 0..height {
                let Some(from) = (y + row).checked_sub(1).filter(|from| *from < height) else { continue };
                let values = &input.stored[input.layout.at(from, start + column - 1) + channel..];
                outer_product(level, shape, values, &gradient[layout.at(y, start)..], true, weights);
            }
        }
    }
}
