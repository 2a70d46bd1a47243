//! A network on the device with all its memory, and the orders for a step: forward, backward, clipping, Adam.

mod backward;
mod forward;

use crate::ml::cuda::CudaError;
use crate::ml::cuda::buffer::{Buffer, Number, bytes_of, f32_bytes, f32_values};
use crate::ml::cuda::cursor::Cursor;
use crate::ml::cuda::epoch_buffer::EpochBuffer;
use crate::ml::cuda::kernel::{BLOCK, Kernel};
use crate::ml::cuda::plan::{LayerPlan, Plan};
use crate::ml::cuda::queue::{
    Argument::{self, U32},
    Convolution, Queue,
};
use crate::ml::loss::Loss;
use crate::ml::network::Network;
use crate::ml::normalisation::Normalisation;
use crate::ml::precision::Precision;

/// Blocks of threads that share a sum: enough for every device, few enough to be summed by one block.
const MAX_PARTIALS: usize = 1024;

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

/// Blocks for values of pixels, which are taken four at a time where that divides the channels.
fn pixel_blocks(count: usize, channels: usize) -> usize {
    blocks(if channels.is_multiple_of(4) { count / 4 } else { count })
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

    /// The weights that products take.
    fn factors(&self) -> Buffer {
        self.narrow.unwrap_or(self.weights)
    }

    /// Sets a cursor.
    pub fn set_cursor(&mut self, buffer: Buffer, cursor: Cursor) -> Result<(), CudaError> {
        self.queue.upload(buffer, &cursor.to_bytes())
    }
}
