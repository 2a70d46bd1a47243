//! The commands of the forward pass: the images, the operations on maps, and the loss.

use super::{Session, Source, blocks, count, pixel_blocks};
use crate::cuda::CudaError;
use crate::cuda::buffer::Buffer;
use crate::cuda::kernel::Kernel;
use crate::cuda::plan::{DropoutPlan, OpPlan, PadPlan, StepPlan};
use crate::cuda::queue::{
    Argument::{self, F32, F64, Nothing, U32, U64},
    Convolution, ConvolutionPass, Matrix, Product, Queue,
};
use crate::loss::Loss;
use hamflow_kernels::shape::MapShape;

/// What is done to images before the network.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drawing {
    pub(super) moves: bool,
    pub(super) colours: bool,
    pub(super) erases: bool,
    pub(super) mixes: bool,
}

impl<Q: Queue> Session<Q> {
    pub(super) fn begin(&mut self, source: &Source, images: usize, layers: usize) -> Result<(), CudaError> {
        let arguments = [
            Argument::Buffer(source.cursor),
            Argument::Buffer(self.keys),
            Argument::Buffer(self.random),
            count(layers),
            count(images),
            U64(self.settings.seed),
        ];
        self.launch(Kernel::BeginStep, 1, &arguments)
    }

    /// Writes the input of the first layer.
    pub(super) fn draw(
        &mut self,
        source: &Source,
        images: usize,
        Drawing { moves, colours, erases, mixes }: Drawing,
    ) -> Result<(), CudaError> {
        let MapShape { height, width, channels } = self.plan.input;
        let (area, stride) = (height * width, self.plan.maps[0].shape.channels);
        // A single kernel, unless the pixels are processed further.
        let is_direct = !colours && !erases && !mixes;
        let (kernel, output, pixel) = match is_direct {
            true => (self.either(Kernel::DrawF32, Kernel::DrawBf16), self.maps[0].stored, stride),
            false => (Kernel::DrawF32, self.pixels, channels),
        };
        let arguments = [
            Argument::Buffer(source.images),
            Argument::Buffer(source.epoch.order),
            if moves { Argument::Buffer(source.epoch.moves) } else { Nothing },
            Argument::Buffer(self.values),
            Argument::Buffer(source.cursor),
            Argument::Buffer(output),
            count(images),
            count(height),
            count(width),
            count(channels),
            count(pixel),
        ];
        self.launch(kernel, blocks(images * area), &arguments)?;
        if is_direct {
            return Ok(());
        }
        if colours && channels == 3 {
            let arguments = [
                Argument::Buffer(self.pixels),
                Argument::Buffer(source.epoch.colours),
                Argument::Buffer(source.cursor),
                count(area),
                Argument::Buffer(self.scales),
            ];
            self.launch(Kernel::ChangeColours, images, &arguments)?;
        }
        let arguments = [
            Argument::Buffer(self.pixels),
            if erases { Argument::Buffer(source.epoch.erased) } else { Nothing },
            if mixes { Argument::Buffer(source.epoch.shares) } else { Nothing },
            Argument::Buffer(source.epoch.pasted),
            Argument::Buffer(source.epoch.partners),
            Argument::Buffer(source.cursor),
            Argument::Buffer(self.maps[0].stored),
            count(images),
            count(height),
            count(width),
            count(channels),
            count(stride),
        ];
        self.launch(self.either(Kernel::MixF32, Kernel::MixBf16), blocks(images * area), &arguments)
    }

    /// The dropout arguments of a kernel: keys, threshold, scale.
    pub(super) fn dropping(&self, dropout: Option<DropoutPlan>, images: usize) -> [Argument; 3] {
        match dropout.filter(|_| self.drops) {
            Some(DropoutPlan { slot, threshold, scale }) => {
                [Argument::Buffer(self.keys.slice(slot * images..(slot + 1) * images)), U32(threshold), F32(scale)]
            }
            None => [Nothing, U32(0), F32(1.0)],
        }
    }

    /// Runs the operations on maps.
    pub(super) fn forward_maps(&mut self, source: &Source, images: usize, is_training: bool) -> Result<(), CudaError> {
        for index in 0..self.plan.steps.len() {
            let step = self.plan.steps[index].clone();
            self.forward_step(&step, images, is_training)?;
            self.view(source, step.output, images, is_training)?;
        }
        Ok(())
    }

    fn forward_step(&mut self, step: &StepPlan, images: usize, is_training: bool) -> Result<(), CudaError> {
        let (input, output) = (self.maps[step.inputs[0]].values, self.maps[step.output].stored);
        let values = images * self.plan.maps[step.output].shape.len();
        let [from, to] = [input, output].map(Argument::Buffer);
        match &step.op {
            OpPlan::Conv { .. } | OpPlan::Product { .. } => self.forward_product(&step.op, [input, output], images),
            OpPlan::Depthwise { window, weights } => {
                let weights = Argument::Buffer(self.used.factors().slice(weights.clone()));
                let arguments = [from, weights, to, count(images), Argument::Window(*window)];
                self.launch(self.either(Kernel::DepthwiseF32, Kernel::DepthwiseBf16), blocks(values), &arguments)
            }
            OpPlan::Pool { input: map, dropout } => {
                let dropping = self.dropping(dropout.filter(|_| is_training), images);
                let sizes = [count(images), count(map.height), count(map.width), count(map.channels)];
                let arguments = [&[from, to][..], &dropping, &sizes].concat();
                let blocks = pixel_blocks(values, map.channels);
                self.launch(self.either(Kernel::PoolF32, Kernel::PoolBf16), blocks, &arguments)
            }
            OpPlan::Windows(window) => {
                let arguments = [from, to, count(images), Argument::Window(*window)];
                self.launch(self.either(Kernel::WindowsF32, Kernel::WindowsBf16), blocks(values), &arguments)
            }
            OpPlan::Mean(pixels) => {
                let arguments = [from, to, count(images), count(*pixels), count(values / images)];
                self.launch(self.either(Kernel::MeanF32, Kernel::MeanBf16), blocks(values), &arguments)
            }
            OpPlan::Add => {
                let other = Argument::Buffer(self.maps[step.inputs[1]].values);
                let arguments = [from, other, to, count(values)];
                self.launch(self.either(Kernel::AddF32, Kernel::AddBf16), blocks(values), &arguments)
            }
            OpPlan::Dropout(dropout) => self.dropout([input, output], Some(*dropout), images, values / images, true),
            OpPlan::Keep(depth) => self.keep([input, output], *depth, images, values / images, false),
        }
    }

    fn forward_product(&mut self, op: &OpPlan, [input, output]: [Buffer; 2], images: usize) -> Result<(), CudaError> {
        match op {
            OpPlan::Conv { convolution, pad, weights, bias, relu } => {
                let convolution = Convolution { images, ..*convolution };
                let input = self.pad(*pad, input, images)?;
                let filters = self.used.factors().slice(weights.clone());
                self.queue.convolve(&convolution, ConvolutionPass::Forward { input, filters, output })?;
                let Some(bias) = bias else { return Ok(()) };
                let (values, bias) = (convolution.output_len(), self.used.weights.slice(bias.clone()));
                let kernel = self.either(Kernel::BiasF32, Kernel::BiasBf16);
                self.bias(kernel, [output, bias, output], values, convolution.outputs, *relu)
            }
            OpPlan::Product { sizes: [pixels, inner, columns], weights } => {
                let (rows, inner, columns) = (images * pixels, *inner, *columns);
                self.queue.multiply(&Product {
                    rows,
                    inner,
                    columns,
                    left: Matrix::plain(input),
                    right: Matrix::plain(self.used.factors().slice(weights.clone())),
                    output: output.first(rows * columns),
                    adds: false,
                })
            }
            _ => Ok(()),
        }
    }

    /// The input of a convolution: the padded one, if it is padded.
    pub(super) fn pad(&mut self, pad: Option<PadPlan>, input: Buffer, images: usize) -> Result<Buffer, CudaError> {
        let Some(PadPlan { from, to, before: [top, left] }) = pad else { return Ok(input) };
        let padded = self.padded[0].first(images * to.len());
        let sizes = [images, from.height, from.width, from.channels, to.height, to.width, top, left].map(count);
        let arguments = [&[input, padded].map(Argument::Buffer)[..], &sizes].concat();
        self.launch(self.either(Kernel::PadF32, Kernel::PadBf16), blocks(padded.length), &arguments)?;
        Ok(padded)
    }

    /// Stochastic depth or its gradient, or a copy.
    pub(super) fn keep(
        &mut self,
        buffers: [Buffer; 2],
        depth: Option<(DropoutPlan, f64)>,
        images: usize,
        length: usize,
        adds: bool,
    ) -> Result<(), CudaError> {
        let depth = depth.filter(|_| self.drops);
        let keys = self.dropping(depth.map(|(plan, _)| plan), images)[0];
        let (rate, scale) = depth.map_or((0.0, 1.0), |(plan, rate)| (rate, plan.scale));
        let numbers = [keys, F64(rate), F32(scale), count(images * length), count(length), U32(adds.into())];
        let arguments = [&buffers.map(Argument::Buffer)[..], &numbers].concat();
        self.launch(self.either(Kernel::KeepImagesF32, Kernel::KeepImagesBf16), blocks(images * length), &arguments)
    }

    pub(super) fn bias(
        &mut self,
        kernel: Kernel,
        buffers: [Buffer; 3],
        values: usize,
        channels: usize,
        relu: bool,
    ) -> Result<(), CudaError> {
        let sizes = [count(values), count(channels), U32(relu.into())];
        self.launch(kernel, pixel_blocks(values, channels), &[&buffers.map(Argument::Buffer)[..], &sizes].concat())
    }

    pub(super) fn dropout(
        &mut self,
        buffers: [Buffer; 2],
        dropout: Option<DropoutPlan>,
        images: usize,
        length: usize,
        is_per_image: bool,
    ) -> Result<(), CudaError> {
        let values = images * length;
        let dropping = self.dropping(dropout, images);
        let sizes = [count(values), count(if is_per_image { length } else { values })];
        let kernel = self.either(Kernel::DropoutF32, Kernel::DropoutBf16);
        self.launch(kernel, blocks(values), &[&buffers.map(Argument::Buffer)[..], &dropping, &sizes].concat())
    }

    /// Adds the loss to the cursor and writes its gradient.
    pub(super) fn loss(&mut self, source: &Source, images: usize, loss: Loss, adjusts: bool) -> Result<(), CudaError> {
        let arguments = [
            Argument::Buffer(self.logits),
            if adjusts { Argument::Buffer(self.training.offsets) } else { Nothing },
            Argument::Buffer(source.epoch.targets),
            Argument::Buffer(source.cursor),
            Argument::Buffer(self.slopes),
            count(images),
            count(self.plan.classes),
            F64(loss.label_smoothing),
            F64(loss.focal_gamma),
        ];
        self.launch(Kernel::LossGradient, 1, &arguments)
    }

    /// Copies the logits of a step to those of all images.
    pub(super) fn keep_logits(&mut self, source: &Source, images: usize, to: Buffer) -> Result<(), CudaError> {
        let values = images * self.plan.classes;
        let buffers = [self.logits, to, source.cursor].map(Argument::Buffer);
        let arguments = [&buffers[..], &[count(values), count(self.plan.classes)]].concat();
        self.launch(Kernel::KeepLogits, blocks(values), &arguments)
    }
}
