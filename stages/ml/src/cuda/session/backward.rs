//! The commands of the backward pass: the gradients of all weights, clipping, and Adam.

use std::ops::Range;

use super::{MAX_PARTIALS, Session, Source, blocks, count, pixel_blocks};
use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number};
use crate::cuda::kernel::Kernel;
use crate::cuda::plan::LayerPlan;
use crate::cuda::queue::{
    Argument::{self, F32, F64, Nothing, U32},
    Convolution, ConvolutionPass, Matrix, Product, Queue,
};
use crate::optim::Adam;
use hamflow_kernels::shape::MapShape;

impl<Q: Queue> Session<Q> {
    /// Propagates the gradient of the loss to all weights.
    pub(super) fn backward(&mut self, images: usize) -> Result<(), CudaError> {
        let last = self.plan.layers.len() - 1;
        // One of the two buffers holds the gradient of the output, the other receives that of the input.
        let [mut here, mut there] = self.gradients;
        for number in (0..=last).rev() {
            let layer = self.plan.layers[number].clone();
            let (input, output) = (self.outputs[number], self.outputs[number + 1]);
            match layer {
                LayerPlan::Dense { inputs, units, relu, weights, bias } => {
                    let (kernel, from) = match number == last {
                        true => (self.either(Kernel::BiasGradientF32, Kernel::BiasGradientNarrow), self.slopes),
                        false => (self.either(Kernel::BiasGradientF32, Kernel::BiasGradientBf16), here),
                    };
                    self.bias_gradient(kernel, [output, from, here], bias, (images, units), relu)?;
                    let gradient = here.first(images * units);
                    self.queue.multiply(&Product {
                        rows: inputs,
                        inner: images,
                        columns: units,
                        left: Matrix::transposed(input.first(images * inputs)),
                        right: Matrix::plain(gradient),
                        output: self.gradient.slice(weights.clone()),
                    })?;
                    if number == 0 {
                        break;
                    }
                    self.queue.multiply(&Product {
                        rows: images,
                        inner: units,
                        columns: inputs,
                        left: Matrix::plain(gradient),
                        right: Matrix::transposed(self.factors().slice(weights)),
                        output: there.first(images * inputs),
                    })?;
                }
                LayerPlan::Dropout { length, dropout, is_per_image } => {
                    self.dropout([here, there], Some(dropout), images, length, is_per_image)?;
                }
                LayerPlan::Pool { input: map, dropout } => {
                    let windows = map.height.div_ceil(2) * map.width.div_ceil(2) * map.channels;
                    let arguments = [input, here, there].map(Argument::Buffer);
                    let dropping = self.dropping(dropout, images);
                    let sizes = [count(images), count(map.height), count(map.width), count(map.channels)];
                    let kernel = self.either(Kernel::PoolGradientF32, Kernel::PoolGradientBf16);
                    self.launch(
                        kernel,
                        pixel_blocks(images * windows, map.channels),
                        &[&arguments[..], &dropping, &sizes].concat(),
                    )?;
                }
                LayerPlan::Conv { input: map, filters, weights, bias } => {
                    let MapShape { height, width, channels } = map;
                    let kernel = self.either(Kernel::BiasGradientF32, Kernel::BiasGradientBf16);
                    self.bias_gradient(kernel, [output, here, here], bias, (images * height * width, filters), true)?;
                    let convolution = Convolution { images, height, width, inputs: channels, outputs: filters };
                    self.filter_gradient(&convolution, input, here, self.gradient.slice(weights.clone()))?;
                    // The gradient of the pixels is not needed.
                    if number == 0 {
                        break;
                    }
                    let filters = self.factors().slice(weights);
                    let pass = ConvolutionPass::InputGradient { filters, gradient: here, input_gradient: there };
                    self.queue.convolve(&convolution, pass)?;
                }
            }
            (here, there) = (there, here);
        }
        Ok(())
    }

    /// Masks the gradient by ReLU and sums it to the bias gradient: output, gradient, masked gradient.
    pub(super) fn bias_gradient(
        &mut self,
        kernel: Kernel,
        buffers: [Buffer; 3],
        bias: Range<usize>,
        (rows, channels): (usize, usize),
        relu: bool,
    ) -> Result<(), CudaError> {
        let per_block = rows.div_ceil(MAX_PARTIALS).max(16);
        let partials = rows.div_ceil(per_block);
        let mut arguments = buffers.map(Argument::Buffer).to_vec();
        arguments.extend([
            Argument::Buffer(self.partials),
            count(rows),
            count(channels),
            count(per_block),
            U32(relu.into()),
        ]);
        self.launch(kernel, partials, &arguments)?;
        let sums = Argument::Buffer(self.gradient.slice(bias));
        let arguments = [Argument::Buffer(self.partials), sums, count(partials), count(channels)];
        self.launch(Kernel::SumPartials, channels, &arguments)
    }

    pub(super) fn filter_gradient(
        &mut self,
        convolution: &Convolution,
        input: Buffer,
        gradient: Buffer,
        sums: Buffer,
    ) -> Result<(), CudaError> {
        let filter_gradient = self.narrow_gradient.map_or(sums, |narrow| narrow.first(sums.length));
        self.queue.convolve(convolution, ConvolutionPass::FilterGradient { input, gradient, filter_gradient })?;
        if filter_gradient == sums {
            return Ok(());
        }
        let arguments = [Argument::Buffer(filter_gradient), Argument::Buffer(sums), count(sums.length)];
        self.launch(Kernel::Widen, blocks(sums.length), &arguments)
    }

    pub(super) fn clip(&mut self, source: &Source) -> Result<(), CudaError> {
        let partials = blocks(self.gradient.length).min(MAX_PARTIALS);
        let sums = Argument::Buffer(self.partials.cast(Number::F64));
        self.launch(
            Kernel::SquareSums,
            partials,
            &[Argument::Buffer(self.gradient), sums, count(self.gradient.length)],
        )?;
        let arguments = [sums, count(partials), F64(self.settings.clip_norm), Argument::Buffer(source.cursor)];
        self.launch(Kernel::ClipFactor, 1, &arguments)
    }

    pub(super) fn adam(&mut self, source: &Source) -> Result<(), CudaError> {
        let numbers = Adam::coefficients(0.0, 1);
        let length = self.weights.length;
        let arguments = [
            Argument::Buffer(self.gradient),
            Argument::Buffer(self.first),
            Argument::Buffer(self.second),
            Argument::Buffer(self.weights),
            self.narrow.map_or(Nothing, Argument::Buffer),
            Argument::Buffer(source.cursor),
            count(length),
            F32(numbers.rate1),
            F32(numbers.rate2),
            F32(numbers.epsilon),
        ];
        self.launch(Kernel::Adam, blocks(length), &arguments)
    }
}
