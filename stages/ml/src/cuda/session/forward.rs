//! The commands of the forward pass: the images, the layers, and the loss.

use super::{Session, Source, blocks, count, pixel_blocks};
use crate::cuda::CudaError;
use crate::cuda::buffer::Buffer;
use crate::cuda::kernel::Kernel;
use crate::cuda::plan::{DropoutPlan, LayerPlan};
use crate::cuda::queue::{
    Argument::{self, F32, F64, Nothing, U32, U64},
    Convolution, ConvolutionPass, Matrix, Product, Queue,
};
use crate::loss::Loss;
use hamflow_kernels::shape::MapShape;

impl<Q: Queue> Session<Q> {
    pub(super) fn begin(&mut self, source: &Source, images: usize, layers: usize) -> Result<(), CudaError> {
        let arguments = [
            Argument::Buffer(source.cursor),
            Argument::Buffer(source.epoch.alphas),
            Argument::Buffer(self.keys),
            Argument::Buffer(self.dropout_layers),
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
        moves: bool,
        colours: bool,
        mixes: bool,
    ) -> Result<(), CudaError> {
        let MapShape { height, width, channels } = self.plan.input;
        let area = height * width;
        // A single kernel, unless the pixels are processed further.
        let is_direct = !colours && !mixes;
        let (kernel, output, stride) = match is_direct {
            true => (self.either(Kernel::DrawF32, Kernel::DrawBf16), self.outputs[0], self.plan.stride),
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
            count(stride),
        ];
        self.launch(kernel, blocks(images * area), &arguments)?;
        if is_direct {
            return Ok(());
        }
        if colours && channels == 3 {
            let [mean, standard_deviation] = self.settings.normalisation;
            let arguments = [
                Argument::Buffer(self.pixels),
                Argument::Buffer(source.epoch.colours),
                Argument::Buffer(source.cursor),
                count(area),
                F64(mean),
                F64(standard_deviation),
            ];
            self.launch(Kernel::ChangeColours, images, &arguments)?;
        }
        let arguments = [
            Argument::Buffer(self.pixels),
            if mixes { Argument::Buffer(source.epoch.shares) } else { Nothing },
            Argument::Buffer(source.epoch.partners),
            Argument::Buffer(source.cursor),
            Argument::Buffer(self.outputs[0]),
            count(images),
            count(area),
            count(channels),
            count(self.plan.stride),
        ];
        self.launch(self.either(Kernel::MixF32, Kernel::MixBf16), blocks(images * area), &arguments)
    }

    /// The dropout arguments of a kernel: keys, threshold, scale.
    pub(super) fn dropping(&self, dropout: Option<DropoutPlan>, images: usize) -> [Argument; 3] {
        match dropout {
            Some(DropoutPlan { slot, threshold, scale }) => {
                [Argument::Buffer(self.keys.slice(slot * images..(slot + 1) * images)), U32(threshold), F32(scale)]
            }
            None => [Nothing, U32(0), F32(1.0)],
        }
    }

    /// Computes the logits from the first layer's input.
    pub(super) fn forward(&mut self, images: usize, is_training: bool) -> Result<(), CudaError> {
        let last = self.plan.layers.len() - 1;
        for number in 0..=last {
            let layer = self.plan.layers[number].clone();
            let (input, output) = (self.outputs[number], self.outputs[number + 1]);
            let values = images * layer.output_len();
            match layer {
                LayerPlan::Conv { input: MapShape { height, width, channels }, filters, weights, bias } => {
                    let convolution = Convolution { images, height, width, inputs: channels, outputs: filters };
                    let pass = ConvolutionPass::Forward { input, filters: self.factors().slice(weights), output };
                    self.queue.convolve(&convolution, pass)?;
                    let kernel = self.either(Kernel::BiasF32, Kernel::BiasBf16);
                    self.bias(kernel, [output, self.weights.slice(bias), output], values, filters, true)?;
                }
                LayerPlan::Pool { input: map, dropout } => {
                    let arguments = [input, output].map(Argument::Buffer);
                    let dropping = self.dropping(dropout.filter(|_| is_training), images);
                    let sizes = [count(images), count(map.height), count(map.width), count(map.channels)];
                    let kernel = self.either(Kernel::PoolF32, Kernel::PoolBf16);
                    self.launch(
                        kernel,
                        pixel_blocks(values, map.channels),
                        &[&arguments[..], &dropping, &sizes].concat(),
                    )?;
                }
                LayerPlan::Dropout { length, dropout, is_per_image } => {
                    let dropout = Some(dropout).filter(|_| is_training);
                    self.dropout([input, output], dropout, images, length, is_per_image)?;
                }
                LayerPlan::Dense { inputs, units, relu, weights, bias } => {
                    self.queue.multiply(&Product {
                        rows: images,
                        inner: inputs,
                        columns: units,
                        left: Matrix::plain(input),
                        right: Matrix::plain(self.factors().slice(weights)),
                        output: self.sums.first(images * units),
                    })?;
                    let (kernel, output) = match number == last {
                        true => (Kernel::BiasF32, self.logits),
                        false => (self.either(Kernel::BiasF32, Kernel::BiasNarrow), output),
                    };
                    self.bias(kernel, [self.sums, self.weights.slice(bias), output], values, units, relu)?;
                }
            }
        }
        Ok(())
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
    pub(super) fn loss(&mut self, source: &Source, images: usize, loss: Loss) -> Result<(), CudaError> {
        let arguments = [
            Argument::Buffer(self.logits),
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
}
