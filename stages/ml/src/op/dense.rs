//! A dense layer with bias, optionally followed by ReLU.

use rayon::prelude::*;

use super::{Initial, ParameterConfig, Pass, RowOp, RowsSeen, WeightLayout};
use hamflow_kernels::network::{DenseShape, add, dense, dense_input_gradient, dense_weight_gradient};

/// Inputs per task. Sums over the inputs add the sums over these ranges in order.
const RANGE: usize = 1024;

/// `[rows, inputs]` → `[rows, units]`; weights `[inputs, units]`, bias `[units]`.
#[derive(Debug, Clone, Copy)]
pub struct Dense {
    inputs: usize,
    units: usize,
    relu: bool,
}

impl Dense {
    /// A dense layer from `inputs` to `units` values.
    pub fn new(inputs: usize, units: usize, relu: bool) -> Self {
        Self { inputs, units, relu }
    }

    /// Whether ReLU follows.
    pub fn has_relu(&self) -> bool {
        self.relu
    }

    fn shape(&self, rows: usize, range: usize) -> DenseShape {
        let inputs = RANGE.min(self.inputs - range * RANGE);
        DenseShape { rows, stride: self.inputs, inputs, outputs: self.units }
    }
}

impl RowOp for Dense {
    fn kind(&self) -> String {
        if self.relu { "dense, ReLU" } else { "dense" }.to_owned()
    }

    fn output(&self) -> usize {
        self.units
    }

    fn parameters(&self) -> Vec<ParameterConfig> {
        let initial = Initial::GlorotUniform { fan_in: self.inputs, fan_out: self.units };
        vec![
            ParameterConfig {
                name: "weight",
                shape: vec![self.inputs, self.units],
                initial,
                layout: WeightLayout::Dense,
            },
            ParameterConfig::vector("bias", self.units, Initial::Zeros),
        ]
    }

    fn forward(&self, pass: &Pass, weights: &[&[f32]], rows: usize, input: &[f32], output: &mut [f32]) {
        let mut partial = vec![0.0; self.inputs.div_ceil(RANGE) * rows * self.units];
        let ranges = weights[0].par_chunks(RANGE * self.units);
        partial.par_chunks_mut(rows * self.units).zip(ranges).enumerate().for_each(|(range, (partial, weights))| {
            dense(pass.level, self.shape(rows, range), &input[range * RANGE..], weights, partial);
        });
        for (range, partial) in partial.chunks_exact(rows * self.units).enumerate() {
            if range == 0 { output.copy_from_slice(partial) } else { add(pass.level, partial, output) }
        }
        for row in output.chunks_exact_mut(self.units) {
            for (value, bias) in row.iter_mut().zip(weights[1]) {
                *value += bias;
                if self.relu && *value < 0.0 {
                    *value = 0.0;
                }
            }
        }
    }

    fn backward(
        &self,
        pass: &Pass,
        seen: RowsSeen<'_>,
        gradient: &mut [f32],
        weight_gradient: &mut [f32],
        input_gradient: &mut [f32],
    ) {
        let rows = seen.rows;
        let (weights, bias) = weight_gradient.split_at_mut(self.inputs * self.units);
        if self.relu {
            for (gradient, output) in gradient.iter_mut().zip(seen.output) {
                if *output <= 0.0 {
                    *gradient = 0.0;
                }
            }
        }
        bias.fill(0.0);
        for row in gradient.chunks_exact(self.units) {
            add(pass.level, row, bias);
        }
        let gradient = &*gradient;
        let ranges = weights.par_chunks_mut(RANGE * self.units).zip(seen.weights[0].par_chunks(RANGE * self.units));
        let columns: Vec<Vec<f32>> = ranges
            .enumerate()
            .map(|(range, (weight_gradient, weights))| {
                let shape = self.shape(rows, range);
                dense_weight_gradient(pass.level, shape, &seen.input[range * RANGE..], gradient, weight_gradient);
                let mut columns = vec![0.0; rows * shape.inputs];
                dense_input_gradient(pass.level, shape, gradient, weights, &mut columns);
                columns
            })
            .collect();
        for (range, columns) in columns.iter().enumerate() {
            let width = self.shape(rows, range).inputs;
            for (row, values) in columns.chunks_exact(width).enumerate() {
                input_gradient[row * self.inputs + range * RANGE..][..width].copy_from_slice(values);
            }
        }
    }
}
