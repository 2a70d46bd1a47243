//! The commands of the backward pass: the gradients of all weights, clipping, and the optimiser.

use std::ops::Range;

use super::{MAX_PARTIALS, Session, Source, Tensors, TrainingBuffers, blocks, count, pixel_blocks, rows_per_block};
use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number};
use crate::cuda::kernel::Kernel;
use crate::cuda::plan::{OpPlan, PadPlan, StepPlan};
use crate::cuda::queue::{
    Argument::{self, F32, F64, Nothing, U32},
    Convolution, ConvolutionPass, Matrix, Product, Queue, Window,
};
use crate::optim::{Adam, OptimiserConfig, OptimiserKind};
use hamflow_kernels::shape::MapShape;

/// The number of values from which one thread sums all blocks' partial sums of a value, instead of a block.
const MANY_VALUES: usize = 1024;

impl<Q: Queue> Session<Q> {
    /// Propagates the gradient of the flattened map to all weights.
    pub(super) fn backward_maps(&mut self, images: usize) -> Result<(), CudaError> {
        self.backward_steps(0, images)
    }

    /// Propagates the gradient of the flattened map to another one.
    pub(super) fn backward_after(&mut self, map: usize, images: usize) -> Result<(), CudaError> {
        let made = self.plan.steps.iter().position(|step| step.output == map);
        self.backward_steps(made.map_or(0, |index| index + 1), images)
    }

    fn backward_steps(&mut self, first: usize, images: usize) -> Result<(), CudaError> {
        for index in (first..self.plan.steps.len()).rev() {
            let step = self.plan.steps[index].clone();
            if !self.trainable.wanted[step.output] {
                continue;
            }
            self.resolve(step.output, images)?;
            self.backward_step(index, &step, images)?;
        }
        Ok(())
    }

    /// Where the gradient of an input of a step goes, and whether it is added: the last step that reads a map writes.
    fn input_gradient(&self, index: usize, map: usize) -> Option<(Buffer, bool)> {
        let adds = self.plan.steps[index + 1..]
            .iter()
            .any(|step| step.inputs.contains(&map) && self.trainable.wanted[step.output]);
        self.trainable.wanted[map].then(|| (self.maps[map].gradient, adds))
    }

    fn backward_step(&mut self, index: usize, step: &StepPlan, images: usize) -> Result<(), CudaError> {
        match &step.op {
            OpPlan::Conv { .. } => self.backward_conv(index, step, images),
            OpPlan::Product { sizes, weights } => self.backward_product(index, step, (*sizes, weights), images),
            OpPlan::Depthwise { window, weights } => self.backward_depthwise(index, step, (*window, weights), images),
            OpPlan::Add => {
                let (gradient, length) = (self.maps[step.output].gradient, self.plan.maps[step.output].shape.len());
                for map in step.inputs.clone() {
                    let Some((to, adds)) = self.input_gradient(index, map) else { continue };
                    self.keep([gradient, to], None, images, length, adds)?;
                }
                Ok(())
            }
            _ => match self.input_gradient(index, step.inputs[0]) {
                None => Ok(()),
                Some(to) => self.backward_weightless(step, to, images),
            },
        }
    }

    /// The gradient of the input of an operation without weights.
    fn backward_weightless(
        &mut self,
        step: &StepPlan,
        (to, adds): (Buffer, bool),
        images: usize,
    ) -> Result<(), CudaError> {
        let (input, gradient) = (self.maps[step.inputs[0]].values, self.maps[step.output].gradient);
        let length = self.plan.maps[step.inputs[0]].shape.len();
        match &step.op {
            OpPlan::Pool { input: MapShape { height, width, channels }, dropout } => {
                let windows = height.div_ceil(2) * width.div_ceil(2) * channels;
                let arguments = [input, gradient, to].map(Argument::Buffer);
                let dropping = self.dropping(*dropout, images);
                let sizes = [count(images), count(*height), count(*width), count(*channels), U32(adds.into())];
                let kernel = self.either(Kernel::PoolGradientF32, Kernel::PoolGradientBf16);
                let arguments = [&arguments[..], &dropping, &sizes].concat();
                self.launch(kernel, pixel_blocks(images * windows, *channels), &arguments)
            }
            OpPlan::Windows(window) => {
                let buffers = [input, gradient, to].map(Argument::Buffer);
                let numbers = [count(images), Argument::Window(*window), U32(adds.into())];
                let kernel = self.either(Kernel::WindowsGradientF32, Kernel::WindowsGradientBf16);
                self.launch(kernel, blocks(images * length), &[&buffers[..], &numbers].concat())
            }
            OpPlan::Mean(pixels) => {
                let sizes = [count(images), count(*pixels), count(length / pixels), U32(adds.into())];
                let kernel = self.either(Kernel::MeanGradientF32, Kernel::MeanGradientBf16);
                let arguments = [&[gradient, to].map(Argument::Buffer)[..], &sizes].concat();
                self.launch(kernel, blocks(images * length), &arguments)
            }
            OpPlan::Dropout(_) if adds => {
                Err(CudaError::Unsupported { what: "dropout of a map that is also read later".to_owned() })
            }
            OpPlan::Dropout(dropout) => self.dropout([gradient, to], Some(*dropout), images, length, true),
            OpPlan::Keep(depth) => self.keep([gradient, to], *depth, images, length, adds),
            OpPlan::Conv { .. } | OpPlan::Product { .. } | OpPlan::Depthwise { .. } | OpPlan::Add => Ok(()),
        }
    }

    fn backward_conv(&mut self, index: usize, step: &StepPlan, images: usize) -> Result<(), CudaError> {
        let OpPlan::Conv { convolution, pad, weights, bias, relu } = &step.op else { return Ok(()) };
        let (input, gradient) = (self.maps[step.inputs[0]].values, self.maps[step.output].gradient);
        let convolution = Convolution { images, ..*convolution };
        // Also without training: the bias gradient comes with ReLU's.
        if let Some(bias) = bias {
            let kernel = self.either(Kernel::BiasGradientF32, Kernel::BiasGradientBf16);
            let rows = convolution.output_len() / convolution.outputs;
            let buffers = [self.maps[step.output].stored, gradient, gradient];
            self.bias_gradient(kernel, buffers, bias.clone(), (rows, convolution.outputs), *relu)?;
        }
        if self.trainable.steps[index] {
            let input = self.pad(*pad, input, images)?;
            self.filter_gradient(&convolution, input, gradient, self.training.gradient.slice(weights.clone()))?;
        }
        match self.input_gradient(index, step.inputs[0]) {
            // The gradient of the pixels is not needed.
            None => Ok(()),
            Some(to) => self.convolution_gradient(&convolution, *pad, (weights, gradient), to),
        }
    }

    fn backward_product(
        &mut self,
        index: usize,
        step: &StepPlan,
        ([pixels, inputs, outputs], weights): ([usize; 3], &Range<usize>),
        images: usize,
    ) -> Result<(), CudaError> {
        let rows = images * pixels;
        let gradient = self.maps[step.output].gradient.first(rows * outputs);
        if self.trainable.steps[index] {
            self.queue.multiply(&Product {
                rows: inputs,
                inner: rows,
                columns: outputs,
                left: Matrix::transposed(self.maps[step.inputs[0]].values.first(rows * inputs)),
                right: Matrix::plain(gradient),
                output: self.training.gradient.slice(weights.clone()),
                adds: false,
            })?;
        }
        let Some((to, adds)) = self.input_gradient(index, step.inputs[0]) else { return Ok(()) };
        self.queue.multiply(&Product {
            rows,
            inner: outputs,
            columns: inputs,
            left: Matrix::plain(gradient),
            right: Matrix::transposed(self.used.factors().slice(weights.clone())),
            output: to.first(rows * inputs),
            adds,
        })
    }

    fn backward_depthwise(
        &mut self,
        index: usize,
        step: &StepPlan,
        (window, weights): (Window, &Range<usize>),
        images: usize,
    ) -> Result<(), CudaError> {
        let map = step.inputs[0];
        let gradient = self.maps[step.output].gradient;
        if self.trainable.steps[index] {
            self.depthwise_weights(window, [self.maps[map].values, gradient], weights.clone(), images)?;
        }
        let Some((to, adds)) = self.input_gradient(index, map) else { return Ok(()) };
        let buffers = [self.used.factors().slice(weights.clone()), gradient, to].map(Argument::Buffer);
        let numbers = [count(images), Argument::Window(window), U32(adds.into())];
        let kernel = self.either(Kernel::DepthwiseGradientF32, Kernel::DepthwiseGradientBf16);
        let values = images * self.plan.maps[map].shape.len();
        self.launch(kernel, blocks(values), &[&buffers[..], &numbers].concat())
    }

    fn convolution_gradient(
        &mut self,
        convolution: &Convolution,
        pad: Option<PadPlan>,
        (weights, gradient): (&Range<usize>, Buffer),
        (to, adds): (Buffer, bool),
    ) -> Result<(), CudaError> {
        let filters = self.used.factors().slice(weights.clone());
        let Some(PadPlan { from, to: larger, before: [top, left] }) = pad else {
            let pass = ConvolutionPass::InputGradient { filters, gradient, input_gradient: to, adds };
            return self.queue.convolve(convolution, pass);
        };
        let images = convolution.images;
        let padded = self.padded[1].first(images * larger.len());
        let pass = ConvolutionPass::InputGradient { filters, gradient, input_gradient: padded, adds: false };
        self.queue.convolve(convolution, pass)?;
        let sizes = [images, from.height, from.width, from.channels, larger.height, larger.width, top, left].map(count);
        let arguments = [&[padded, to].map(Argument::Buffer)[..], &sizes, &[U32(adds.into())]].concat();
        self.launch(self.either(Kernel::CropF32, Kernel::CropBf16), blocks(images * from.len()), &arguments)
    }

    /// The gradient of the weights of a depthwise convolution, from input and gradient.
    fn depthwise_weights(
        &mut self,
        window: Window,
        buffers: [Buffer; 2],
        weights: Range<usize>,
        images: usize,
    ) -> Result<(), CudaError> {
        let rows = images * (window.out_height * window.out_width) as usize;
        let per_block = rows_per_block(rows);
        let partials = rows.div_ceil(per_block);
        let partial = Argument::Buffer(self.partials.cast(Number::F32));
        let [input, gradient] = buffers.map(Argument::Buffer);
        let arguments = [input, gradient, partial, count(images), Argument::Window(window), count(per_block)];
        self.launch(self.either(Kernel::DepthwiseWeightsF32, Kernel::DepthwiseWeightsBf16), partials, &arguments)?;
        self.sum_partials(weights, partials)
    }

    /// Sums the partial sums of blocks to the gradient of weights.
    fn sum_partials(&mut self, weights: Range<usize>, partials: usize) -> Result<(), CudaError> {
        let values = weights.len();
        let buffers = [self.partials.cast(Number::F32), self.training.gradient.slice(weights)].map(Argument::Buffer);
        let arguments = [&buffers[..], &[count(partials), count(values)]].concat();
        match values >= MANY_VALUES {
            true => self.launch(Kernel::SumColumns, blocks(values), &arguments),
            false => self.launch(Kernel::SumPartials, values, &arguments),
        }
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
            Argument::Buffer(self.partials.cast(Number::F32)),
            count(rows),
            count(channels),
            count(per_block),
            U32(relu.into()),
        ]);
        self.launch(kernel, partials, &arguments)?;
        self.sum_partials(bias, partials)
    }

    pub(super) fn filter_gradient(
        &mut self,
        convolution: &Convolution,
        input: Buffer,
        gradient: Buffer,
        sums: Buffer,
    ) -> Result<(), CudaError> {
        let filter_gradient = self.training.narrow_gradient.map_or(sums, |narrow| narrow.first(sums.length));
        self.queue.convolve(convolution, ConvolutionPass::FilterGradient { input, gradient, filter_gradient })?;
        if filter_gradient == sums {
            return Ok(());
        }
        let arguments = [Argument::Buffer(filter_gradient), Argument::Buffer(sums), count(sums.length)];
        self.launch(Kernel::Widen, blocks(sums.length), &arguments)
    }

    /// The rates of the parameter groups, and the group of each weight.
    fn rates(&self, source: &Source) -> [Argument; 3] {
        let TrainingBuffers { groups, group_count, .. } = self.training;
        [Argument::Buffer(source.epoch.rates), Argument::Buffer(groups), count(group_count)]
    }

    pub(super) fn clip(&mut self, source: &Source) -> Result<(), CudaError> {
        let (gradient, cursor) = (self.training.gradient, Argument::Buffer(source.cursor));
        let partials = blocks(gradient.length).min(MAX_PARTIALS);
        let sums = Argument::Buffer(self.partials.cast(Number::F64));
        let arguments =
            [&[Argument::Buffer(gradient)], &self.rates(source)[..], &[cursor, sums, count(gradient.length)]].concat();
        self.launch(Kernel::SquareSums, partials, &arguments)?;
        let arguments = [sums, count(partials), F64(self.settings.clip_norm), cursor];
        self.launch(Kernel::ClipFactor, 1, &arguments)
    }

    /// Updates the weights.
    pub(super) fn optimise(&mut self, source: &Source) -> Result<(), CudaError> {
        let TrainingBuffers { gradient, first, second, .. } = self.training;
        let Tensors { weights, narrow, .. } = self.model;
        let OptimiserConfig { kind, momentum, .. } = self.settings.optimiser;
        let (kernel, vectors, numbers) = match kind {
            OptimiserKind::Adam | OptimiserKind::AdamW => {
                let numbers = Adam::coefficients(0.0, 1);
                (Kernel::Adam, vec![first, second], vec![F32(numbers.rate1), F32(numbers.rate2)])
            }
            OptimiserKind::Sgd => (Kernel::Momentum, vec![first], vec![F32(momentum as f32)]),
        };
        let mut arguments = vec![Argument::Buffer(gradient)];
        arguments.extend(vectors.into_iter().chain([weights]).map(Argument::Buffer));
        arguments.push(narrow.map_or(Nothing, Argument::Buffer));
        arguments.extend(self.rates(source));
        arguments.extend([Argument::Buffer(source.cursor), count(weights.length)]);
        arguments.extend(numbers);
        self.launch(kernel, blocks(weights.length), &arguments)
    }

    /// Moves the average towards the model.
    pub(super) fn blend(&mut self, source: &Source) -> Result<(), CudaError> {
        let (Some(average), model) = (self.average, self.model) else { return Ok(()) };
        for (from, to) in [(model.weights, average.weights), (model.statistics, average.statistics)] {
            if from.length == 0 {
                continue;
            }
            let buffers = [from, to, source.epoch.averaged, source.cursor].map(Argument::Buffer);
            self.launch(Kernel::Blend, blocks(from.length), &[&buffers[..], &[count(from.length)]].concat())?;
        }
        Ok(())
    }
}
