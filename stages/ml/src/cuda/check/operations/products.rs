//! Convolutions and matrix products.

use super::{Device, IMAGES, SHAPE};
use crate::cuda::CudaError;
use crate::cuda::buffer::Number;
use crate::cuda::check::{Finding, of_products};
use crate::cuda::queue::{Convolution, ConvolutionPass, Matrix, Product, Queue};
use hamflow_kernels::network::{ConvShape, Epilogue, Level, conv3x3, conv3x3_weight_gradient, flip};
use hamflow_kernels::shape::{Layout, MapShape};

/// The results of a convolution and its gradients on the host.
struct Reference {
    output: Vec<f32>,
    input_gradient: Vec<f32>,
    /// In the layout of the device.
    weight_gradient: Vec<f32>,
}

/// Weights that are `[taps, inputs, outputs]`, as on the host, in the layout of the device: `[outputs, taps, inputs]`.
fn on_device(convolution: &Convolution, weights: &[f32]) -> Vec<f32> {
    let Convolution { inputs, outputs, .. } = *convolution;
    let indices = 0..weights.len();
    indices.map(|i| weights[(i / inputs % 9 * inputs + i % inputs) * outputs + i / inputs / 9]).collect()
}

fn reference(convolution: &Convolution, values: &[f32], weights: &[f32], slopes: &[f32]) -> Reference {
    let Convolution { images, height, width, inputs, outputs, .. } = *convolution;
    let level = Level::detect();
    let shape = ConvShape { height, width, inputs, outputs };
    let back = ConvShape { inputs: outputs, outputs: inputs, ..shape };
    let (from, to) = (MapShape { channels: inputs, ..SHAPE }, MapShape { channels: outputs, ..SHAPE });
    let (from, to) = (Layout::bordered(from), Layout::bordered(to));
    let mut flipped = vec![0.0; weights.len()];
    flip(shape, weights, &mut flipped);
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let mut of_weights = vec![0.0f32; weights.len()];
    for image in 0..images {
        let [mut input, mut back_map] = [(); 2].map(|()| vec![0.0; from.len()]);
        let [mut gradient, mut output] = [(); 2].map(|()| vec![0.0; to.len()]);
        from.put(&values[image * from.shape.len()..][..from.shape.len()], &mut input);
        to.put(&slopes[image * to.shape.len()..][..to.shape.len()], &mut gradient);
        conv3x3(level, shape, &input, weights, Epilogue::Plain, &mut output);
        conv3x3(level, back, &gradient, &flipped, Epilogue::Plain, &mut back_map);
        let mut sums = vec![0.0; weights.len()];
        conv3x3_weight_gradient(level, shape, &input, &gradient, &mut sums);
        of_weights.iter_mut().zip(sums).for_each(|(sum, value)| *sum += value);
        let mut plain = vec![0.0; to.shape.len()];
        to.take(&output, &mut plain);
        forward.extend(plain);
        let mut plain = vec![0.0; from.shape.len()];
        from.take(&back_map, &mut plain);
        backward.extend(plain);
    }
    Reference { output: forward, input_gradient: backward, weight_gradient: on_device(convolution, &of_weights) }
}

impl<Q: Queue> Device<'_, Q> {
    pub(super) fn convolving(&mut self) -> Result<Vec<Finding>, CudaError> {
        let mut findings = Vec::new();
        for (inputs, outputs) in [(8, 32), (32, 64)] {
            let MapShape { height, width, .. } = SHAPE;
            let (kernel, stride, padding, groups) = (3, 1, [1, 1], 1);
            let images = IMAGES;
            let convolution = Convolution { images, height, width, inputs, outputs, kernel, stride, padding, groups };
            let values = self.numbers(convolution.input_len());
            let weights = self.numbers(convolution.filter_len());
            let slopes = self.numbers(convolution.output_len());
            let expected = reference(&convolution, &values, &weights, &slopes);

            self.queue.prepare(&[convolution])?;
            let (input, filters, gradient) =
                (self.map(&values)?, self.map(&on_device(&convolution, &weights))?, self.map(&slopes)?);
            let output = self.queue.allocate(self.number, convolution.output_len())?;
            let input_gradient = self.queue.allocate(self.number, convolution.input_len())?;
            let filter_gradient = self.queue.allocate(self.number, convolution.filter_len())?;
            let passes = [
                ("a convolution", ConvolutionPass::Forward { input, filters, output }, output, &expected.output),
                (
                    "the gradient of a convolution's input",
                    ConvolutionPass::InputGradient { filters, gradient, input_gradient, adds: false },
                    input_gradient,
                    &expected.input_gradient,
                ),
                (
                    "the gradient of a convolution's weights",
                    ConvolutionPass::FilterGradient { input, gradient, filter_gradient },
                    filter_gradient,
                    &expected.weight_gradient,
                ),
            ];
            for (what, pass, result, expected) in passes {
                self.queue.convolve(&convolution, pass)?;
                let ours = self.read(result)?;
                let what = self.named(&format!("{what}, {inputs} to {outputs} channels"));
                findings.push(Finding::new(what, &ours, expected, of_products(self.precision)));
            }
        }
        Ok(findings)
    }

    pub(super) fn multiplying(&mut self) -> Result<Vec<Finding>, CudaError> {
        let (rows, inner, columns) = (13, 72, 7);
        let (a, b) = (self.numbers(rows * inner), self.numbers(inner * columns));
        let mut expected = vec![0.0f32; rows * columns];
        for (i, sum) in expected.iter_mut().enumerate() {
            let terms =
                (0..inner).map(|k| f64::from(a[i / columns * inner + k]) * f64::from(b[k * columns + i % columns]));
            *sum = terms.sum::<f64>() as f32;
        }
        let transpose = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
        };
        let (a_transposed, b_transposed) = (transpose(&a, rows, inner), transpose(&b, inner, columns));
        let mut findings = Vec::new();
        for (what, left, right) in [
            ("a product", (&a, false), (&b, false)),
            ("a product with the left turned", (&a_transposed, true), (&b, false)),
            ("a product with the right turned", (&a, false), (&b_transposed, true)),
        ] {
            let left = Matrix { buffer: self.map(left.0)?, is_transposed: left.1 };
            let right = Matrix { buffer: self.map(right.0)?, is_transposed: right.1 };
            let output = self.queue.allocate(Number::F32, rows * columns)?;
            self.queue.multiply(&Product { rows, inner, columns, left, right, output, adds: false })?;
            let ours = self.read(output)?;
            findings.push(Finding::new(self.named(what), &ours, &expected, of_products(self.precision)));
        }
        Ok(findings)
    }
}
