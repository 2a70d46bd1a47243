//! A 1×1 convolution: a product of every pixel with the same matrix.

use std::ops::Range;

use super::access::{TILE, part};
use super::{Backward, ImagePass, Initial, MapOp, OpWeights, ParameterConfig, Scratch, Sink, Source, WeightLayout};
use hamflow_kernels::network::{Level, Matrix, ProductShape, outer_product, pack, packed_len, product, view_columns};
use hamflow_kernels::shape::{Layout, MapShape, spans};

/// `[height, width, inputs]` → `[height, width, filters]`; weights `[1, 1, inputs, filters]`, no bias.
#[derive(Debug, Clone, Copy)]
pub struct Pointwise {
    input: MapShape,
    filters: usize,
}

impl Pointwise {
    /// A convolution of `input` with `filters` output channels.
    pub fn new(input: MapShape, filters: usize) -> Self {
        Self { input, filters }
    }

    fn inputs(&self) -> usize {
        self.input.channels
    }

    fn shape(&self, rows: usize) -> ProductShape {
        let (inputs, outputs) = (self.inputs(), self.filters);
        ProductShape { rows, inputs, outputs, input_stride: inputs, output_stride: outputs }
    }
}

impl MapOp for Pointwise {
    fn kind(&self) -> String {
        "conv 1×1".to_owned()
    }

    fn output(&self) -> MapShape {
        MapShape { channels: self.filters, ..self.input }
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        vec![ParameterConfig {
            name: "weight",
            shape: vec![1, 1, self.inputs(), self.filters],
            initial: Initial::HeNormal { fan_out: self.filters },
            layout: WeightLayout::Conv,
        }]
    }

    fn prepare_forward(&self, level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        let (inputs, outputs) = (self.inputs(), self.filters);
        let matrix = Matrix { values: weights[0], inputs, outputs, strides: [outputs, 1] };
        pack(level, matrix, part(prepared, packed_len(inputs, outputs)));
    }

    fn prepare_backward(&self, level: Level, weights: &[&[f32]], prepared: &mut Vec<f32>) {
        let (inputs, outputs) = (self.filters, self.inputs());
        let matrix = Matrix { values: weights[0], inputs, outputs, strides: [1, inputs] };
        pack(level, matrix, part(prepared, packed_len(inputs, outputs)));
    }

    fn forward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        for span in spans(&[inputs[0].layout, output.layout], TILE) {
            let values = inputs[0].span(level, span, &mut scratch.input);
            product(level, self.shape(span.count), values, weights.forward, false, output.span(span));
            output.finish(level, span);
        }
    }

    fn backward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        Backward { inputs, output, mut weight_gradient, input_gradients }: Backward<'_>,
        scratch: &mut Scratch,
    ) {
        let level = pass.pass.level;
        if let Some(weight_gradient) = &mut weight_gradient {
            weight_gradient.fill(0.0);
        }
        for span in spans(&[inputs[0].layout, output.layout], TILE) {
            let gradient = match &mut weight_gradient {
                None => output.resolve(level, span),
                Some(weight_gradient) => {
                    let gradient = output.span(level, span, &mut scratch.gradient);
                    let values = inputs[0].span(level, span, &mut scratch.input);
                    outer_product(level, self.shape(span.count), values, gradient, true, weight_gradient);
                    gradient
                }
            };
            if let Some(input_gradient) = &mut input_gradients[0] {
                let (inputs, outputs) = (self.filters, self.inputs());
                let shape =
                    ProductShape { rows: span.count, inputs, outputs, input_stride: inputs, output_stride: outputs };
                let adds = input_gradient.adds;
                product(level, shape, gradient, weights.backward, adds, input_gradient.span(span));
                input_gradient.finish(level, span);
            }
        }
    }

    fn weight_row_len(&self) -> Option<usize> {
        Some(self.filters)
    }

    fn weight_rows(
        &self,
        level: Level,
        rows: Range<usize>,
        input: &Source<'_>,
        (layout, gradient): (Layout, &[f32]),
        weight_gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        for span in spans(&[input.layout, layout], TILE) {
            let stored = &input.stored[input.layout.range(span)];
            let shape = ProductShape { inputs: rows.len(), ..self.shape(span.count) };
            let gradient = &gradient[layout.range(span)];
            if input.view.is_identity() {
                outer_product(level, shape, &stored[rows.start..], gradient, true, weight_gradient);
                continue;
            }
            let values = part(&mut scratch.input, span.count * rows.len());
            view_columns(level, input.view, rows.clone(), stored, values);
            outer_product(
                level,
                ProductShape { input_stride: rows.len(), ..shape },
                values,
                gradient,
                true,
                weight_gradient,
            );
        }
    }
}
