//! A network on the device with all its memory, and the commands of a step: forward, backward, clipping, Adam.

mod backward;
mod forward;
mod memory;
mod norms;
mod rows;

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
use crate::precision::Precision;
use memory::{MapBuffers, NormBuffers};

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
    /// Whether MixUp is applied.
    pub mixes: bool,
    /// The seed of dropout.
    pub seed: u64,
    /// The mean and the standard deviation of the image bytes.
    pub normalisation: Normalisation,
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

/// A network on the device.
pub struct Session<Q> {
    /// The command queue.
    pub queue: Q,
    plan: Plan,
    settings: Settings,
    /// Weights, gradients and moments, in the device's layout.
    weights: Buffer,
    gradient: Buffer,
    first: Buffer,
    second: Buffer,
    /// The weights in bf16, if products use it.
    narrow: Option<Buffer>,
    /// A convolution's bf16 gradient before it is converted to `gradient`.
    narrow_gradient: Option<Buffer>,
    /// The normalised value of each byte, for each channel.
    values: Buffer,
    /// The mean and the standard deviation of the image bytes, for each channel.
    scales: Buffer,
    pixels: Buffer,
    maps: Vec<MapBuffers>,
    norms: Vec<NormBuffers>,
    /// The running statistics.
    statistics: Buffer,
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

impl<Q: Queue> Session<Q> {
    /// Allocates all memory for the steps of a network.
    pub fn new(mut queue: Q, network: &Network, settings: Settings) -> Result<Self, CudaError> {
        let plan = Plan::new(network, settings.precision, settings.images)?;
        let images = settings.images;
        let weights = plan.placement.len();
        let is_narrow = plan.number == Number::Bf16;
        let maps = memory::maps(&plan, images, &mut queue)?;
        let norms = memory::norms(&plan, &mut queue)?;
        let most_of_rows = plan.rows.iter().map(|row| row.output_len()).chain([plan.maps[plan.flattened].shape.len()]);
        let most_of_rows = images * most_of_rows.max().unwrap_or(0);
        let padded = images * plan.pads().map(|pad| pad.to.len()).max().unwrap_or(0);
        let filters = plan.convolutions(1).iter().map(|convolution| convolution.filter_len()).max().unwrap_or(0);
        let rows = plan.rows.iter().map(|row| queue.allocate(plan.number, images * row.output_len()));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let partials = queue.allocate(Number::U8, memory::partial_bytes(&plan, images))?;
        let narrow = |queue: &mut Q, length| is_narrow.then(|| queue.allocate(Number::Bf16, length)).transpose();
        let mut session = Self {
            narrow: narrow(&mut queue, weights)?,
            narrow_gradient: narrow(&mut queue, filters)?,
            padded: [queue.allocate(plan.number, padded)?, queue.allocate(plan.number, padded)?],
            row_gradients: [queue.allocate(plan.number, most_of_rows)?, queue.allocate(plan.number, most_of_rows)?],
            weights: queue.allocate(Number::F32, weights)?,
            gradient: queue.allocate(Number::F32, weights)?,
            first: queue.allocate(Number::F32, weights)?,
            second: queue.allocate(Number::F32, weights)?,
            values: queue.allocate(Number::F32, 3 * 256)?,
            scales: queue.allocate(Number::F64, 2 * 3)?,
            pixels: queue.allocate(Number::F32, images * plan.input.len())?,
            statistics: queue.allocate(Number::F32, plan.statistics)?,
            sums: queue.allocate(Number::F32, most_of_rows)?,
            logits: queue.allocate(Number::F32, images * plan.classes)?,
            slopes: queue.allocate(Number::F32, images * plan.classes)?,
            keys: queue.allocate(Number::U64, plan.random.len() * images)?,
            random: queue.allocate(Number::U32, plan.random.len())?,
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

    /// Uploads weights and moments, given in the host's layout, and the running statistics.
    pub fn load(&mut self, weights: &[f32], moments: [&[f32]; 2], statistics: &[f32]) -> Result<(), CudaError> {
        let [first, second] = moments;
        self.queue.upload(self.statistics, &f32_bytes(statistics))?;
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

    /// Downloads the weights and moments, in the host's layout, and the running statistics.
    pub fn state(&mut self) -> Result<([Vec<f32>; 3], Vec<f32>), CudaError> {
        let [weights, first, second] = [self.weights, self.first, self.second];
        let statistics = f32_values(&self.queue.download(self.statistics)?);
        Ok(([self.host(weights)?, self.host(first)?, self.host(second)?], statistics))
    }

    /// The gradients of the last step in the host's layout, or those of the step with a non-finite loss.
    pub fn last_gradient(&mut self, diverged: bool) -> Result<Vec<f32>, CudaError> {
        self.host(if diverged { self.second } else { self.gradient })
    }

    fn host(&mut self, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        let device = f32_values(&self.queue.download(buffer)?);
        Ok(self.plan.placement.to_host(&device))
    }

    /// Enqueues a training step on the source's next `images`.
    pub fn train(&mut self, source: &Source, images: usize) -> Result<(), CudaError> {
        let Settings { loss, moves, colours, mixes, .. } = self.settings;
        self.begin(source, images, self.plan.random.len())?;
        self.draw(source, images, moves, colours, mixes)?;
        self.forward(source, images, true)?;
        self.loss(source, images, loss)?;
        self.backward_rows(images)?;
        self.backward_maps(images)?;
        if self.settings.clip_norm > 0.0 {
            self.clip(source)?;
        }
        self.adam(source)
    }

    /// Enqueues a validation step on the source's next `images`.
    pub fn validate(&mut self, source: &Source, images: usize) -> Result<(), CudaError> {
        self.begin(source, images, 0)?;
        self.draw(source, images, false, false, false)?;
        self.forward(source, images, false)?;
        self.loss(source, images, Loss::default())
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

    /// The weights in the precision of products.
    fn factors(&self) -> Buffer {
        self.narrow.unwrap_or(self.weights)
    }

    /// Writes a cursor.
    pub fn set_cursor(&mut self, buffer: Buffer, cursor: Cursor) -> Result<(), CudaError> {
        self.queue.upload(buffer, &cursor.to_bytes())
    }
}
