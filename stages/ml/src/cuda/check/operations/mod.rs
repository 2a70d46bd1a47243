//! Every operation in isolation, with odd sizes.

mod drawing;
mod layers;
mod optimising;
mod products;

use hamflow_stage_api::Random;

use super::{Finding, of_values};
use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number, bytes_of, f32_bytes, f32_values};
use crate::cuda::cursor::Cursor;
use crate::cuda::epoch_buffer::{EpochBuffer, EpochValues};
use crate::cuda::kernel::{BLOCK, Kernel};
use crate::cuda::queue::{
    Argument::{self, F32, F64, U32, U64},
    Queue,
};
use crate::loss::{Loss, Target};
use crate::op::{Pass, mix};
use crate::precision::Precision;
use hamflow_kernels::shape::MapShape;

const SEED: u64 = 11;
const IMAGES: usize = 5;
const SHAPE: MapShape = MapShape { height: 13, width: 19, channels: 3 };
/// The index of the dropout layer.
const LAYER: u32 = 6;
const RATE: f64 = 0.4;

/// A queue with the buffers that the checks share.
struct Device<'q, Q> {
    queue: &'q mut Q,
    precision: Precision,
    number: Number,
    random: Random,
}

pub(super) fn check<Q: Queue>(
    queue: &mut Q,
    precision: Precision,
    findings: &mut Vec<Finding>,
) -> Result<(), CudaError> {
    let number = if precision == Precision::Bf16 { Number::Bf16 } else { Number::F32 };
    let mut device = Device { queue, precision, number, random: Random::new(SEED, "check") };
    let mut found = device.drawing()?;
    // Vectorised by four, and scalar.
    found.extend(device.pooling(36)?);
    found.extend(device.pooling(7)?);
    found.extend(device.bias()?);
    found.extend(device.dropping()?);
    found.extend(device.losses()?);
    found.extend(device.optimising()?);
    found.extend(device.convolving()?);
    found.extend(device.multiplying()?);
    findings.extend(found);
    Ok(())
}

impl<Q: Queue> Device<'_, Q> {
    fn named(&self, what: &str) -> String {
        format!("{what}, {:?}", self.precision).to_lowercase()
    }

    /// A comparison of values that are stored in the precision, or result from products in it.
    fn finding(&self, what: &str, ours: &[f32], theirs: &[f32]) -> Finding {
        Finding::new(self.named(what), ours, theirs, of_values(self.precision))
    }

    /// Random values that are exactly representable in every precision.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.random.below(256) as f32 - 127.5) / 64.0).collect()
    }

    fn floats(&mut self, values: &[f32]) -> Result<Buffer, CudaError> {
        let buffer = self.queue.allocate(Number::F32, values.len())?;
        self.queue.upload(buffer, &f32_bytes(values))?;
        Ok(buffer)
    }

    /// A buffer with values in the precision of feature maps.
    fn map(&mut self, values: &[f32]) -> Result<Buffer, CudaError> {
        let wide = self.floats(values)?;
        if self.number == Number::F32 {
            return Ok(wide);
        }
        let narrow = self.queue.allocate(self.number, values.len())?;
        let arguments = [Argument::Buffer(wide), Argument::Buffer(narrow), U32(values.len() as u32)];
        self.queue.launch(Kernel::Narrow, values.len().div_ceil(BLOCK), &arguments)?;
        Ok(narrow)
    }

    fn read(&mut self, buffer: Buffer) -> Result<Vec<f32>, CudaError> {
        if buffer.number == Number::F32 {
            return Ok(f32_values(&self.queue.download(buffer)?));
        }
        let wide = self.queue.allocate(Number::F32, buffer.length)?;
        let arguments = [Argument::Buffer(buffer), Argument::Buffer(wide), U32(buffer.length as u32)];
        self.queue.launch(Kernel::Widen, buffer.length.div_ceil(BLOCK), &arguments)?;
        self.read(wide)
    }

    fn either(&self, f32: Kernel, bf16: Kernel) -> Kernel {
        if self.number == Number::Bf16 { bf16 } else { f32 }
    }

    fn launch(&mut self, kernel: Kernel, values: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        // Fewer blocks than the values need, to exercise the grid-stride loops.
        self.queue.launch(kernel, values.div_ceil(BLOCK).div_ceil(2), arguments)
    }

    /// A cursor at the start of its second step of `IMAGES` images, and the dropout keys of that step.
    fn begun(&mut self) -> Result<(Buffer, Buffer), CudaError> {
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        let at = Cursor { step: 6, index: 1, next: IMAGES as u64, ..Cursor::default() };
        self.queue.upload(cursor, &at.to_bytes())?;
        let layers = self.queue.allocate(Number::U32, 2)?;
        self.queue.upload(layers, &bytes_of(&[3, LAYER], u32::to_le_bytes))?;
        let keys = self.queue.allocate(Number::U64, 2 * IMAGES)?;
        let arguments = [cursor, keys, layers].map(Argument::Buffer);
        let numbers = [U32(2), U32(IMAGES as u32), U64(SEED)];
        self.queue.launch(Kernel::BeginStep, 1, &[&arguments[..], &numbers].concat())?;
        Ok((cursor, keys.slice(IMAGES..2 * IMAGES)))
    }

    /// The dropout of the reference in the same step.
    fn pass() -> Pass {
        Pass::training(mix(SEED, 7))
    }

    /// The threshold and the scale of dropout.
    fn rate() -> [Argument; 2] {
        [U32((RATE * 4_294_967_296.0) as u32), F32((1.0 / (1.0 - RATE)) as f32)]
    }

    fn losses(&mut self) -> Result<Vec<Finding>, CudaError> {
        // More images than threads per block.
        let (images, classes) = (300, 7);
        let logits: Vec<f32> = self.numbers(images * classes).iter().map(|value| value * 3.0).collect();
        let target = |i: usize| Target {
            class: i % classes,
            weight: 0.3 + (i % 5) as f64,
            mixed: i.is_multiple_of(3).then_some(((i + 2) % classes, 0.4)),
        };
        let targets: Vec<Target> = (0..images).map(target).collect();
        let epoch = EpochBuffer::new(self.queue, images, 1, 0)?;
        epoch.upload(self.queue, &EpochValues { targets: targets.clone(), ..EpochValues::default() })?;
        let buffer = self.floats(&logits)?;
        let slopes = self.queue.allocate(Number::F32, logits.len())?;
        let cursor = self.queue.allocate(Number::U8, Cursor::SIZE)?;
        let mut findings = Vec::new();
        let offsets: Vec<f32> = (0..classes).map(|class| class as f32 / 3.0 - 1.0).collect();
        let added = self.floats(&offsets)?;
        let shifted: Vec<f32> = logits.iter().enumerate().map(|(i, logit)| logit + offsets[i % classes]).collect();
        let (plain, _) = Loss::default().of(&logits, &targets);
        for (label_smoothing, focal, adjusts) in
            [(0.0, 0.0, false), (0.1, 0.0, false), (0.0, 2.0, false), (0.1, 1.5, false), (0.0, 0.0, true)]
        {
            let used = if adjusts { &shifted } else { &logits };
            let (mut loss, gradient) = Loss { label_smoothing, focal_gamma: focal }.of(used, &targets);
            loss.correct = plain.correct;
            self.queue.upload(cursor, &Cursor::default().to_bytes())?;
            let offsets = if adjusts { Argument::Buffer(added) } else { Argument::Nothing };
            let arguments = [epoch.targets, cursor, slopes].map(Argument::Buffer);
            let numbers = [U32(images as u32), U32(classes as u32), F64(label_smoothing), F64(focal)];
            let arguments = [&[Argument::Buffer(buffer), offsets], &arguments[..], &numbers].concat();
            self.queue.launch(Kernel::LossGradient, 1, &arguments)?;
            let ours = self.read(slopes)?;
            let what = self.named(&format!(
                "the gradient of the loss, smoothed by {label_smoothing}, focal {focal}, offsets {adjusts}"
            ));
            findings.push(Finding::new(what, &ours, &gradient, 1e-6));
            let said = Cursor::from_bytes(&self.queue.download(cursor)?);
            let (ours, theirs) = ([said.loss as f32, said.correct as f32], [loss.sum as f32, loss.correct as f32]);
            findings.push(Finding::new(self.named("the loss and the right answers"), &ours, &theirs, 1e-6));
        }
        Ok(findings)
    }
}
