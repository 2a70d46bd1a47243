//! A network on the device with all its memory, and the orders for a step: forward, backward, clipping, Adam.

use super::CudaError;
use super::buffer::{Buffer, Number, bytes_of, f32_bytes, f32_values};
use super::cursor::Cursor;
use super::epoch_buffer::EpochBuffer;
use super::kernel::{BLOCK, Kernel};
use super::plan::{DropoutPlan, LayerPlan, Plan};
use super::queue::{
    Argument::{self, F32, F64, Nothing, U32, U64},
    Convolution, ConvolutionPass, Matrix, Product, Queue,
};
use crate::ml::loss::Loss;
use crate::ml::network::Network;
use crate::ml::normalisation::Normalisation;
use crate::ml::optimiser::Adam;
use crate::ml::precision::Precision;
use crate::ml::shape::MapShape;

/// Blocks of threads that share a sum: enough for every device, few enough to be summed by one block.
const MOST_PARTIALS: usize = 1024;

/// What a session is made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What products are made of.
    pub precision: Precision,
    /// Images of the largest step.
    pub images: usize,
    /// How the loss is computed while training.
    pub loss: Loss,
    /// The largest norm of the gradients of a step; 0 for any.
    pub clip_norm: f64,
    /// Whether images are moved.
    pub moves: bool,
    /// Whether their colours change.
    pub colours: bool,
    /// Whether they are mixed.
    pub mixes: bool,
    /// Where dropout's random numbers come from.
    pub seed: u64,
    /// What bytes become.
    pub normalisation: Normalisation,
}

/// What steps read: images on the device, and an epoch's plan for them.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Bytes of height × width × channels each.
    pub images: Buffer,
    /// What was drawn.
    pub epoch: EpochBuffer,
    /// Where the steps are.
    pub cursor: Buffer,
}

/// A network on the device.
pub struct Session<Q> {
    /// Where orders go.
    pub queue: Q,
    plan: Plan,
    settings: Settings,
    /// Weights, gradients and moments, in the device's order.
    weights: Buffer,
    gradient: Buffer,
    first: Buffer,
    second: Buffer,
    /// The weights in bf16, where products take that.
    narrow: Option<Buffer>,
    /// A convolution's gradient in bf16 on its way to `gradient`.
    narrow_gradient: Option<Buffer>,
    values: Buffer,
    pixels: Buffer,
    /// The first layer's input, and what comes out of each layer.
    outputs: Vec<Buffer>,
    /// Two that take turns on the way back.
    gradients: [Buffer; 2],
    /// A product of a dense layer, before its bias.
    sums: Buffer,
    logits: Buffer,
    slopes: Buffer,
    partials: Buffer,
    keys: Buffer,
    dropout_layers: Buffer,
}

fn blocks(count: usize) -> usize {
    count.div_ceil(BLOCK)
}

fn count(value: usize) -> Argument {
    U32(value as u32)
}

impl<Q: Queue> Session<Q> {
    /// Takes all the memory that steps of a network need.
    pub fn new(mut queue: Q, network: &Network, settings: Settings) -> Result<Self, CudaError> {
        let plan = Plan::new(network, settings.precision, settings.images)?;
        let images = settings.images;
        let weights = plan.placement.len();
        let area = plan.input.height * plan.input.width;
        let is_narrow = plan.number == Number::Bf16;
        let mut outputs = vec![queue.allocate(plan.number, images * area * plan.stride)?];
        for layer in &plan.layers {
            outputs.push(queue.allocate(plan.number, images * layer.output_len())?);
        }
        let dense_units = plan.layers.iter().filter(|layer| matches!(layer, LayerPlan::Dense { .. }));
        let units = dense_units.map(LayerPlan::output_len).max().unwrap_or(0);
        let channels = |layer: &LayerPlan| match layer {
            LayerPlan::Conv { filters, .. } => *filters,
            LayerPlan::Dense { units, .. } => *units,
            _ => 0,
        };
        let channels = plan.layers.iter().map(channels).max().unwrap_or(0);
        let filters = plan.convolutions(1).iter().map(Convolution::filter_len).max().unwrap_or(0);
        let most = images * plan.most_values();
        let mut floats = |length| queue.allocate(Number::F32, length);
        let mut session = Self {
            weights: floats(weights)?,
            gradient: floats(weights)?,
            first: floats(weights)?,
            second: floats(weights)?,
            values: floats(256)?,
            pixels: floats(images * plan.input.len())?,
            sums: floats(images * units)?,
            logits: floats(images * plan.classes)?,
            slopes: floats(images * plan.classes)?,
            // Half as many sums of squares in double precision fit, too.
            partials: floats(MOST_PARTIALS * channels.max(2))?,
            narrow: is_narrow.then(|| queue.allocate(Number::Bf16, weights)).transpose()?,
            narrow_gradient: is_narrow.then(|| queue.allocate(Number::Bf16, filters)).transpose()?,
            gradients: [queue.allocate(plan.number, most)?, queue.allocate(plan.number, most)?],
            keys: queue.allocate(Number::U64, plan.dropout_layers.len() * images)?,
            dropout_layers: queue.allocate(Number::U32, plan.dropout_layers.len())?,
            outputs,
            queue,
            plan,
            settings,
        };
        let layers = bytes_of(&session.plan.dropout_layers, u32::to_le_bytes);
        session.queue.upload(session.dropout_layers, &layers)?;
        session.queue.upload(session.values, &f32_bytes(&settings.normalisation.table()))?;
        Ok(session)
    }

    /// The network as the device runs it.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Copies weights and moments, in the host's order, to the device.
    pub fn load(&mut self, weights: &[f32], first: &[f32], second: &[f32]) -> Result<(), CudaError> {
        let placement = &self.plan.placement;
        for (to, values) in [(self.weights, weights), (self.first, first), (self.second, second)] {
            self.queue.upload(to, &f32_bytes(&placement.to_device(values)))?;
        }
        if let Some(narrow) = self.narrow {
            let length = self.weights.length;
            let arguments = [Argument::Buffer(self.weights), Argument::Buffer(narrow), count(length)];
            self.queue.launch(Kernel::Narrow, blocks(length), &arguments)?;
        }
        Ok(())
    }

    /// The weights and the moments, in the host's order.
    pub fn state(&mut self) -> Result<[Vec<f32>; 3], CudaError> {
        let [weights, first, second] = [self.weights, self.first, self.second];
        Ok([self.host(weights)?, self.host(first)?, self.host(second)?])
    }

    /// The gradients of the last step, in the host's order; of the step that went wrong, if one did.
    pub fn last_gradient(&mut self, went_wrong: bool) -> Result<Vec<f32>, CudaError> {
        self.host(if went_wrong { self.second } else { self.gradient })
    }

    fn host(&mut self, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        let device = f32_values(&self.queue.download(buffer)?);
        Ok(self.plan.placement.to_host(&device))
    }

    /// Orders a step of training on the source's next `images`.
    pub fn train(&mut self, source: &Source, images: usize) -> Result<(), CudaError> {
        let Settings { loss, moves, colours, mixes, .. } = self.settings;
        self.begin(source, images, self.plan.dropout_layers.len())?;
        self.draw(source, images, moves, colours, mixes)?;
        self.forward(images, true)?;
        self.loss(source, images, loss)?;
        self.backward(images)?;
        if self.settings.clip_norm > 0.0 {
            self.clip(source)?;
        }
        self.adam(source)
    }

    /// Orders a look at the source's next `images`.
    pub fn validate(&mut self, source: &Source, images: usize) -> Result<(), CudaError> {
        self.begin(source, images, 0)?;
        self.draw(source, images, false, false, false)?;
        self.forward(images, false)?;
        self.loss(source, images, Loss::default())
    }

    fn launch(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        self.queue.launch(kernel, blocks, arguments)
    }

    /// The kernel for the maps' kind of number.
    fn either(&self, f32: Kernel, bf16: Kernel) -> Kernel {
        if self.plan.number == Number::Bf16 { bf16 } else { f32 }
    }

    fn begin(&mut self, source: &Source, images: usize, layers: usize) -> Result<(), CudaError> {
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

    /// Writes the first layer's input.
    fn draw(
        &mut self,
        source: &Source,
        images: usize,
        moves: bool,
        colours: bool,
        mixes: bool,
    ) -> Result<(), CudaError> {
        let MapShape { height, width, channels } = self.plan.input;
        let area = height * width;
        // In one go, unless something happens to the pixels on the way.
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
            let Normalisation { mean, standard_deviation } = self.settings.normalisation;
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

    /// The arguments that say what is dropped: keys, threshold, scale.
    fn dropping(&self, dropout: Option<DropoutPlan>, images: usize) -> [Argument; 3] {
        match dropout {
            Some(DropoutPlan { slot, threshold, scale }) => {
                [Argument::Buffer(self.keys.slice(slot * images..(slot + 1) * images)), U32(threshold), F32(scale)]
            }
            None => [Nothing, U32(0), F32(1.0)],
        }
    }

    /// The weights that products take.
    fn factors(&self) -> Buffer {
        self.narrow.unwrap_or(self.weights)
    }

    /// From the first layer's input to the logits.
    fn forward(&mut self, images: usize, is_training: bool) -> Result<(), CudaError> {
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
                    self.launch(kernel, blocks(values), &[&arguments[..], &dropping, &sizes].concat())?;
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

    fn bias(
        &mut self,
        kernel: Kernel,
        buffers: [Buffer; 3],
        values: usize,
        channels: usize,
        relu: bool,
    ) -> Result<(), CudaError> {
        let sizes = [count(values), count(channels), U32(relu.into())];
        self.launch(kernel, blocks(values), &[&buffers.map(Argument::Buffer)[..], &sizes].concat())
    }

    fn dropout(
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

    /// Adds the loss to the cursor, and writes its gradient.
    fn loss(&mut self, source: &Source, images: usize, loss: Loss) -> Result<(), CudaError> {
        let arguments = [
            Argument::Buffer(self.logits),
            Argument::Buffer(source.epoch.targets),
            Argument::Buffer(source.cursor),
            Argument::Buffer(self.slopes),
            count(images),
            count(self.plan.classes),
            F64(loss.label_smoothing),
            F64(loss.focal),
        ];
        self.launch(Kernel::LossGradient, 1, &arguments)
    }

    /// From the loss's gradient to those of all weights.
    fn backward(&mut self, images: usize) -> Result<(), CudaError> {
        let last = self.plan.layers.len() - 1;
        // The gradient of what came out lies in one of the two, that of what went in goes to the other.
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
                        left: Matrix::turned(input.first(images * inputs)),
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
                        right: Matrix::turned(self.factors().slice(weights)),
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
                    self.launch(kernel, blocks(images * windows), &[&arguments[..], &dropping, &sizes].concat())?;
                }
                LayerPlan::Conv { input: map, filters, weights, bias } => {
                    let MapShape { height, width, channels } = map;
                    let kernel = self.either(Kernel::BiasGradientF32, Kernel::BiasGradientBf16);
                    self.bias_gradient(kernel, [output, here, here], bias, (images * height * width, filters), true)?;
                    let convolution = Convolution { images, height, width, inputs: channels, outputs: filters };
                    self.filter_gradient(&convolution, input, here, self.gradient.slice(weights.clone()))?;
                    // Nobody asks for the gradient of the pixels.
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

    /// Masks the gradient by ReLU and sums it to the bias' gradient: output, gradient, masked gradient.
    fn bias_gradient(
        &mut self,
        kernel: Kernel,
        buffers: [Buffer; 3],
        bias: std::ops::Range<usize>,
        (rows, channels): (usize, usize),
        relu: bool,
    ) -> Result<(), CudaError> {
        let per_block = rows.div_ceil(MOST_PARTIALS).max(16);
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

    fn filter_gradient(
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

    fn clip(&mut self, source: &Source) -> Result<(), CudaError> {
        let partials = blocks(self.gradient.length).min(MOST_PARTIALS);
        let sums = Argument::Buffer(self.partials.cast(Number::F64));
        self.launch(
            Kernel::SquareSums,
            partials,
            &[Argument::Buffer(self.gradient), sums, count(self.gradient.length)],
        )?;
        let arguments = [sums, count(partials), F64(self.settings.clip_norm), Argument::Buffer(source.cursor)];
        self.launch(Kernel::ClipFactor, 1, &arguments)
    }

    fn adam(&mut self, source: &Source) -> Result<(), CudaError> {
        let numbers = Adam::numbers(0.0, 1);
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

    /// Sets a cursor.
    pub fn set_cursor(&mut self, buffer: Buffer, cursor: Cursor) -> Result<(), CudaError> {
        self.queue.upload(buffer, &cursor.to_bytes())
    }
}
