//! A network on the device with all its memory, and the commands of a step: forward, backward, clipping, the optimiser.

mod backward;
mod forward;
mod memory;
mod norms;
mod rows;
mod trainable;

use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number, bytes_of, f32_bytes, f32_values};
use crate::cuda::cursor::Cursor;
use crate::cuda::epoch_buffer::EpochBuffer;
use crate::cuda::kernel::{BLOCK, Kernel};
use crate::cuda::plan::Plan;
use crate::cuda::queue::{
    Argument::{self, U32},
    Queue,
};
use crate::loss::Loss;
use crate::network::Network;
use crate::normalisation::Normalisation;
use crate::optim::{OptimiserConfig, OptimiserKind};
use crate::precision::Precision;
use forward::Drawing;
use memory::{MapBuffers, NormBuffers};
use trainable::Trainable;

/// Maximum number of blocks that contribute to a sum: enough for every device, few enough to be summed by one block.
const MAX_PARTIALS: usize = 1024;

/// The settings of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The precision of products.
    pub precision: Precision,
    /// The maximum number of images in a step.
    pub images: usize,
    /// The training loss.
    pub loss: Loss,
    /// The maximum norm of the gradients of a step; 0 for no limit.
    pub clip_norm: f64,
    /// Whether images are augmented geometrically.
    pub moves: bool,
    /// Whether the colours of images are augmented.
    pub colours: bool,
    /// Whether rectangles are erased.
    pub erases: bool,
    /// Whether MixUp or CutMix is applied.
    pub mixes: bool,
    /// Whether offsets are added to the logits in the loss.
    pub adjusts: bool,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
    /// Whether there is a moving average of the weights.
    pub averages: bool,
    /// The seed of dropout.
    pub seed: u64,
    /// The mean and the standard deviation of the image bytes.
    pub normalisation: Normalisation,
}

impl Settings {
    /// The settings of plain steps: cross-entropy, Adam, and no option.
    pub fn new(precision: Precision, images: usize, normalisation: Normalisation) -> Self {
        Self {
            precision,
            images,
            loss: Loss::default(),
            clip_norm: 0.0,
            moves: false,
            colours: false,
            erases: false,
            mixes: false,
            adjusts: false,
            optimiser: OptimiserConfig { kind: OptimiserKind::Adam, weight_decay: 0.0, momentum: 0.0 },
            averages: false,
            seed: 0,
            normalisation,
        }
    }
}

/// The inputs of the steps: images on the device, and an epoch's random numbers.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The images, each with height × width × channels bytes.
    pub images: Buffer,
    /// The epoch's random numbers.
    pub epoch: EpochBuffer,
    /// The position in the epoch.
    pub cursor: Buffer,
}

/// The values of a model on the device.
#[derive(Debug, Clone, Copy)]
struct Tensors {
    /// The weights, in the device's layout.
    weights: Buffer,
    /// The weights in bf16, if products use it.
    narrow: Option<Buffer>,
    /// The running statistics.
    statistics: Buffer,
}

impl Tensors {
    fn new<Q: Queue>(plan: &Plan, queue: &mut Q) -> Result<Self, CudaError> {
        let count = plan.placement.len();
        let is_narrow = plan.number == Number::Bf16;
        Ok(Self {
            weights: queue.allocate(Number::F32, count)?,
            narrow: is_narrow.then(|| queue.allocate(Number::Bf16, count)).transpose()?,
            statistics: queue.allocate(Number::F32, plan.statistics)?,
        })
    }

    /// The weights in the precision of products.
    fn factors(&self) -> Buffer {
        self.narrow.unwrap_or(self.weights)
    }
}

/// What training needs besides the values of the model.
#[derive(Debug, Clone, Copy)]
struct TrainingBuffers {
    gradient: Buffer,
    /// The vectors of the optimiser; SGD uses the first.
    first: Buffer,
    second: Buffer,
    /// The parameter group of each weight.
    groups: Buffer,
    group_count: usize,
    /// A convolution's bf16 gradient before it is converted to `gradient`.
    narrow_gradient: Option<Buffer>,
    /// What is added to the logits of each class in the loss.
    offsets: Buffer,
}

/// A network on the device.
pub struct Session<Q> {
    /// The command queue.
    pub queue: Q,
    plan: Plan,
    settings: Settings,
    /// The model that trains.
    model: Tensors,
    /// Its moving average.
    average: Option<Tensors>,
    /// The one that the commands read: one of these.
    used: Tensors,
    training: TrainingBuffers,
    trainable: Trainable,
    /// Whether dropout and stochastic depth are applied.
    drops: bool,
    /// The normalised value of each byte, for each channel.
    values: Buffer,
    /// The mean and the standard deviation of the image bytes, for each channel.
    scales: Buffer,
    pixels: Buffer,
    maps: Vec<MapBuffers>,
    norms: Vec<NormBuffers>,
    /// A padded map, and its gradient.
    padded: [Buffer; 2],
    /// The output of each layer of vectors.
    rows: Vec<Buffer>,
    /// Two buffers that alternate in the backward pass of the vectors.
    row_gradients: [Buffer; 2],
    /// A dense layer's product before the bias is added.
    sums: Buffer,
    logits: Buffer,
    slopes: Buffer,
    partials: Buffer,
    keys: Buffer,
    random: Buffer,
}

fn blocks(count: usize) -> usize {
    count.div_ceil(BLOCK)
}

/// The number of blocks for pixel values, which are processed in groups of four if the number of channels is
/// divisible by four.
fn pixel_blocks(count: usize, channels: usize) -> usize {
    blocks(if channels.is_multiple_of(4) { count / 4 } else { count })
}

/// The rows of each block that sums the products of a depthwise convolution: few blocks, because each has sums for all
/// weights.
fn rows_per_block(rows: usize) -> usize {
    rows.div_ceil(MAX_PARTIALS / 4).max(16)
}

fn count(value: usize) -> Argument {
    U32(value as u32)
}

impl TrainingBuffers {
    fn new<Q: Queue>(plan: &Plan, groups: &[usize], queue: &mut Q) -> Result<Self, CudaError> {
        let weights = plan.placement.len();
        let filters = plan.convolutions(1).iter().map(|convolution| convolution.filter_len()).max().unwrap_or(0);
        let is_narrow = plan.number == Number::Bf16;
        let buffers = Self {
            gradient: queue.allocate(Number::F32, weights)?,
            first: queue.allocate(Number::F32, weights)?,
            second: queue.allocate(Number::F32, weights)?,
            groups: queue.allocate(Number::U8, weights)?,
            group_count: groups.iter().max().map_or(0, |last| last + 1),
            narrow_gradient: is_narrow.then(|| queue.allocate(Number::Bf16, filters)).transpose()?,
            offsets: queue.allocate(Number::F32, plan.classes)?,
        };
        let mut of_weights = vec![0u8; weights];
        for (parameter, group) in groups.iter().enumerate() {
            of_weights[plan.placement.range(parameter)].fill(*group as u8);
        }
        queue.upload(buffers.groups, &of_weights)?;
        Ok(buffers)
    }
}

impl<Q: Queue> Session<Q> {
    /// Allocates all memory for the steps of a network. `groups` has the parameter group of each parameter.
    pub fn new(mut queue: Q, network: &Network, groups: &[usize], settings: Settings) -> Result<Self, CudaError> {
        let plan = Plan::new(network, settings.precision, settings.images)?;
        let images = settings.images;
        let maps = memory::maps(&plan, images, &mut queue)?;
        let norms = memory::norms(&plan, &mut queue)?;
        let most_of_rows = plan.rows.iter().map(|row| row.output_len()).chain([plan.maps[plan.flattened].shape.len()]);
        let most_of_rows = images * most_of_rows.max().unwrap_or(0);
        let padded = images * plan.pads().map(|pad| pad.to.len()).max().unwrap_or(0);
        let rows = plan.rows.iter().map(|row| queue.allocate(plan.number, images * row.output_len()));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let partials = queue.allocate(Number::U8, memory::partial_bytes(&plan, images))?;
        let model = Tensors::new(&plan, &mut queue)?;
        let average = settings.averages.then(|| Tensors::new(&plan, &mut queue)).transpose()?;
        let mut session = Self {
            padded: [queue.allocate(plan.number, padded)?, queue.allocate(plan.number, padded)?],
            row_gradients: [queue.allocate(plan.number, most_of_rows)?, queue.allocate(plan.number, most_of_rows)?],
            training: TrainingBuffers::new(&plan, groups, &mut queue)?,
            trainable: Trainable::new(&plan, &[]),
            drops: false,
            values: queue.allocate(Number::F32, 3 * 256)?,
            scales: queue.allocate(Number::F64, 2 * 3)?,
            pixels: queue.allocate(Number::F32, images * plan.input.len())?,
            sums: queue.allocate(Number::F32, most_of_rows)?,
            logits: queue.allocate(Number::F32, images * plan.classes)?,
            slopes: queue.allocate(Number::F32, images * plan.classes)?,
            keys: queue.allocate(Number::U64, plan.random.len() * images)?,
            random: queue.allocate(Number::U32, plan.random.len())?,
            used: model,
            model,
            average,
            partials,
            maps,
            norms,
            rows,
            queue,
            plan,
            settings,
        };
        let random = bytes_of(&session.plan.random, u32::to_le_bytes);
        session.queue.upload(session.random, &random)?;
        let Normalisation { mean, standard_deviation } = settings.normalisation;
        session.queue.upload(session.values, &f32_bytes(&settings.normalisation.table().concat()))?;
        let scales: Vec<f64> = [mean, standard_deviation].iter().flat_map(|of| (0..3).map(|c| of.of(c))).collect();
        session.queue.upload(session.scales, &bytes_of(&scales, f64::to_le_bytes))?;
        Ok(session)
    }

    /// The execution plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Uploads the values of the model: the weights in the host's layout, then the running statistics.
    pub fn load(&mut self, values: &[f32]) -> Result<(), CudaError> {
        self.load_to(self.model, values)
    }

    /// Uploads the moving average of the model's values, if there is one.
    pub fn load_average(&mut self, values: &[f32]) -> Result<(), CudaError> {
        self.average.map_or(Ok(()), |average| self.load_to(average, values))
    }

    fn load_to(&mut self, tensors: Tensors, values: &[f32]) -> Result<(), CudaError> {
        let (weights, statistics) = values.split_at(values.len() - self.plan.statistics);
        self.queue.upload(tensors.statistics, &f32_bytes(statistics))?;
        self.queue.upload(tensors.weights, &f32_bytes(&self.plan.placement.to_device(weights)))?;
        self.narrow(tensors)
    }

    /// Converts the weights to the precision of products.
    fn narrow(&mut self, tensors: Tensors) -> Result<(), CudaError> {
        let Some(narrow) = tensors.narrow else { return Ok(()) };
        let length = tensors.weights.length;
        let arguments = [Argument::Buffer(tensors.weights), Argument::Buffer(narrow), count(length)];
        self.queue.launch(Kernel::Narrow, blocks(length), &arguments)
    }

    /// Uploads the vectors of the optimiser, in the host's layout.
    pub fn load_moments(&mut self, moments: &[Vec<f32>]) -> Result<(), CudaError> {
        for (to, values) in [self.training.first, self.training.second].into_iter().zip(moments) {
            self.queue.upload(to, &f32_bytes(&self.plan.placement.to_device(values)))?;
        }
        Ok(())
    }

    /// Uploads what is added to the logits of each class in the loss.
    pub fn load_offsets(&mut self, offsets: &[f32]) -> Result<(), CudaError> {
        self.queue.upload(self.training.offsets, &f32_bytes(offsets))
    }

    /// Sets which parameters are frozen. Returns whether recorded steps no longer fit.
    pub fn freeze(&mut self, frozen: &[bool]) -> bool {
        let trainable = Trainable::new(&self.plan, frozen);
        let has_changed = trainable != self.trainable;
        self.trainable = trainable;
        has_changed
    }

    /// The values of the model, as [`load`](Self::load) takes them.
    pub fn values(&mut self) -> Result<Vec<f32>, CudaError> {
        self.values_of(self.model)
    }

    /// The moving average of the model's values.
    pub fn average(&mut self) -> Result<Option<Vec<f32>>, CudaError> {
        self.average.map(|average| self.values_of(average)).transpose()
    }

    fn values_of(&mut self, tensors: Tensors) -> Result<Vec<f32>, CudaError> {
        let mut values = self.host(tensors.weights)?;
        values.extend(f32_values(&self.queue.download(tensors.statistics)?));
        Ok(values)
    }

    /// A number of vectors of the optimiser, in the host's layout.
    pub fn moments(&mut self, count: usize) -> Result<Vec<Vec<f32>>, CudaError> {
        let buffers = [self.training.first, self.training.second];
        buffers.into_iter().take(count).map(|buffer| self.host(buffer)).collect()
    }

    /// The gradients of the last step in the host's layout, or those of the step with a non-finite loss.
    pub fn last_gradient(&mut self, diverged: bool) -> Result<Vec<f32>, CudaError> {
        self.host(if diverged { self.training.first } else { self.training.gradient })
    }

    fn host(&mut self, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        let device = f32_values(&self.queue.download(buffer)?);
        Ok(self.plan.placement.to_host(&device))
    }

    /// Enqueues a training step on the source's next `images`.
    pub fn train(&mut self, source: &Source, images: usize) -> Result<(), CudaError> {
        let Settings { loss, moves, colours, erases, mixes, .. } = self.settings;
        (self.used, self.drops) = (self.model, true);
        self.begin(source, images, self.plan.random.len())?;
        self.draw(source, images, Drawing { moves, colours, erases, mixes })?;
        self.forward(source, images, true)?;
        self.loss(source, images, loss, self.settings.adjusts)?;
        self.backward_rows(images)?;
        self.backward_maps(images)?;
        if self.settings.clip_norm > 0.0 {
            self.clip(source)?;
        }
        self.optimise(source)?;
        self.blend(source)
    }

    /// Enqueues a validation step on the source's next `images`, with the moving average if there is one; its logits go to
    /// `logits`. [`begin_validation`](Self::begin_validation) comes first.
    pub fn validate(&mut self, source: &Source, images: usize, logits: Buffer) -> Result<(), CudaError> {
        (self.used, self.drops) = (self.average.unwrap_or(self.model), false);
        self.begin(source, images, 0)?;
        self.draw(source, images, Drawing::default())?;
        self.forward(source, images, false)?;
        self.loss(source, images, Loss::default(), false)?;
        self.keep_logits(source, images, logits)
    }

    /// Enqueues the prediction of the source's next `images`, moved by its matrices or not; the logits go to `logits`.
    pub fn predict(&mut self, source: &Source, images: usize, moves: bool, logits: Buffer) -> Result<(), CudaError> {
        (self.used, self.drops) = (self.model, false);
        self.begin(source, images, 0)?;
        self.draw(source, images, Drawing { moves, ..Drawing::default() })?;
        self.forward(source, images, false)?;
        self.keep_logits(source, images, logits)
    }

    /// Enqueues, after a prediction of these `images`, the gradient of a map by the logits with the given factors. Returns
    /// the map's values and gradient.
    pub fn explain(&mut self, map: usize, factors: &[f32], images: usize) -> Result<[Vec<f32>; 2], CudaError> {
        self.queue.upload(self.slopes, &f32_bytes(factors))?;
        self.trainable = Trainable::after(&self.plan, map);
        self.backward_rows(images)?;
        self.backward_after(map, images)?;
        let length = images * self.plan.maps[map].shape.len();
        let MapBuffers { values, gradient, .. } = self.maps[map];
        Ok([self.wide(values.first(length))?, self.wide(gradient.first(length))?])
    }

    /// The values of a map as f32.
    fn wide(&mut self, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        let bytes = self.queue.download(buffer)?;
        Ok(match buffer.number {
            Number::Bf16 => bytes
                .chunks_exact(2)
                .map(|pair| f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16))
                .collect(),
            _ => f32_values(&bytes),
        })
    }

    /// Prepares the moving average for validation.
    pub fn begin_validation(&mut self) -> Result<(), CudaError> {
        self.average.map_or(Ok(()), |average| self.narrow(average))
    }

    /// Computes the logits from the pixels.
    fn forward(&mut self, source: &Source, images: usize, is_training: bool) -> Result<(), CudaError> {
        self.forward_maps(source, images, is_training)?;
        self.forward_rows(images, is_training)
    }

    fn launch(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        self.queue.launch(kernel, blocks, arguments)
    }

    /// Selects the kernel for the element type of the feature maps.
    fn either(&self, f32: Kernel, bf16: Kernel) -> Kernel {
        if self.plan.number == Number::Bf16 { bf16 } else { f32 }
    }

    /// Writes a cursor.
    pub fn set_cursor(&mut self, buffer: Buffer, cursor: Cursor) -> Result<(), CudaError> {
        self.queue.upload(buffer, &cursor.to_bytes())
    }
}
