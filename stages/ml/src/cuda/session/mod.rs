//! A network on the device with all its memory, and the commands of a step: forward, backward, clipping, Adam.

mod backward;
mod forward;

use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number, bytes_of, f32_bytes, f32_values};
use crate::cuda::cursor::Cursor;
use crate::cuda::epoch_buffer::EpochBuffer;
use crate::cuda::kernel::{BLOCK, Kernel};
use crate::cuda::plan::{LayerPlan, Plan};
use crate::cuda::queue::{
    Argument::{self, U32},
    Convolution, Queue,
};
use crate::loss::Loss;
use crate::network::Network;
use crate::normalisation::Normalisation;
use crate::precision::Precision;

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
    pub normalisation: [f64; 2],
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
    values: Buffer,
    pixels: Buffer,
    /// The first layer's input, and the output of each layer.
    outputs: Vec<Buffer>,
    /// Two buffers that alternate in the backward pass.
    gradients: [Buffer; 2],
    /// A dense layer's product before the bias is added.
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

/// The number of blocks for pixel values, which are processed in groups of four if the number of channels is
/// divisible by four.
fn pixel_blocks(count: usize, channels: usize) -> usize {
    blocks(if channels.is_multiple_of(4) { count / 4 } else { count })
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
            // Also fits half as many sums of squares in double precision.
            partials: floats(MAX_PARTIALS * channels.max(2))?,
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
        session.queue.upload(
            session.values,
            &f32_bytes(&Normalisation::shared(settings.normalisation[0], settings.normalisation[1]).table()[0]),
        )?;
        Ok(session)
    }

    /// The execution plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Uploads weights and moments, given in the host's layout.
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

    /// Downloads the weights and moments, in the host's layout.
    pub fn state(&mut self) -> Result<[Vec<f32>; 3], CudaError> {
        let [weights, first, second] = [self.weights, self.first, self.second];
        Ok([self.host(weights)?, self.host(first)?, self.host(second)?])
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

    /// Enqueues a validation step on the source's next `images`.
    pub fn validate(&mut self, source: &Source, images: usize) -> Result<(), CudaError> {
        self.begin(source, images, 0)?;
        self.draw(source, images, false, false, false)?;
        self.forward(images, false)?;
        self.loss(source, images, Loss::default())
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
