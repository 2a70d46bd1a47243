//! All random numbers of an epoch in one buffer, which is uploaded when it starts.

use rayon::prelude::*;

use super::CudaError;
use super::buffer::{Buffer, Number, bytes_of, f32_bytes};
use super::queue::Queue;
use crate::augment::Affine;
use crate::loss::Target;
use crate::optim::Adam;
use crate::trainer::Epoch;
use hamflow_kernels::shape::MapShape;

/// The size of a `Target` in `source/prelude.cu` in bytes.
const TARGET_SIZE: usize = 24;

/// The layout of an epoch's data on the device.
#[derive(Debug, Clone, Copy)]
pub struct EpochBuffer {
    whole: Buffer,
    /// Two rows of an affine matrix per image, from output to input pixels.
    pub moves: Buffer,
    /// Factors of brightness, contrast and saturation per image.
    pub colours: Buffer,
    /// The target of each image.
    pub targets: Buffer,
    /// The index of the image at each position.
    pub order: Buffer,
    /// The position in its step of each image's MixUp partner.
    pub partners: Buffer,
    /// The learning rate of each step, including Adam's bias corrections.
    pub alphas: Buffer,
    /// The MixUp coefficient of each step.
    pub shares: Buffer,
}

/// The data of an epoch on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpochValues {
    /// As in [`EpochBuffer`]; empty without geometric augmentation.
    pub moves: Vec<f64>,
    /// As in [`EpochBuffer`].
    pub colours: Vec<f64>,
    /// As in [`EpochBuffer`].
    pub targets: Vec<Target>,
    /// As in [`EpochBuffer`].
    pub order: Vec<u32>,
    /// As in [`EpochBuffer`]; empty without MixUp.
    pub partners: Vec<u32>,
    /// As in [`EpochBuffer`].
    pub alphas: Vec<f32>,
    /// As in [`EpochBuffer`]; empty without MixUp.
    pub shares: Vec<f32>,
}

impl EpochBuffer {
    /// Allocates buffers for epochs of `images` images in `steps` steps.
    pub fn new<Q: Queue>(queue: &mut Q, images: usize, steps: usize) -> Result<Self, CudaError> {
        let parts = [
            (Number::F64, 6 * images),
            (Number::F64, 3 * images),
            (Number::U8, TARGET_SIZE * images),
            (Number::U32, images),
            (Number::U32, images),
            (Number::F32, steps),
            (Number::F32, steps),
        ];
        let bytes: usize = parts.iter().map(|(number, length)| number.size() * length).sum();
        let whole = queue.allocate(Number::U8, bytes)?;
        // Arrays of eight-byte elements come first, so that every array is aligned.
        let mut start = 0;
        let [moves, colours, targets, order, partners, alphas, shares] = parts.map(|(number, length)| {
            let end = start + number.size() * length;
            let part = whole.slice(start..end).cast(number);
            start = end;
            part
        });
        Ok(Self { whole, moves, colours, targets, order, partners, alphas, shares })
    }

    /// Uploads an epoch to the device.
    pub fn upload<Q: Queue>(&self, queue: &mut Q, values: &EpochValues) -> Result<(), CudaError> {
        let EpochValues { moves, colours, targets, order, partners, alphas, shares } = values;
        let parts = [
            (self.moves, bytes_of(moves, f64::to_le_bytes)),
            (self.colours, bytes_of(colours, f64::to_le_bytes)),
            (self.targets, bytes_of(targets, target_bytes)),
            (self.order, bytes_of(order, u32::to_le_bytes)),
            (self.partners, bytes_of(partners, u32::to_le_bytes)),
            (self.alphas, f32_bytes(alphas)),
            (self.shares, f32_bytes(shares)),
        ];
        let mut bytes = vec![0; self.whole.bytes()];
        for (part, values) in parts {
            let start = (part.address - self.whole.address) as usize;
            bytes[start..][..values.len()].copy_from_slice(&values);
        }
        queue.upload(self.whole, &bytes)
    }
}

/// A target in the device's layout.
fn target_bytes(target: Target) -> [u8; TARGET_SIZE] {
    let (mixed_class, mixed_weight) = target.mixed.unwrap_or((target.class, 0.0));
    let mut bytes = [0; TARGET_SIZE];
    bytes[0..8].copy_from_slice(&target.weight.to_le_bytes());
    bytes[8..16].copy_from_slice(&mixed_weight.to_le_bytes());
    bytes[16..20].copy_from_slice(&(target.class as u32).to_le_bytes());
    bytes[20..24].copy_from_slice(&(mixed_class as u32).to_le_bytes());
    bytes
}

impl EpochValues {
    /// Draws an epoch from the same random numbers as on the CPU.
    pub fn draw(epoch: &Epoch<'_>, steps: u64, shape: MapShape) -> Self {
        let mut values = Self { order: epoch.order.iter().map(|&image| image as u32).collect(), ..Self::default() };
        for (number, step) in (1..).zip(epoch.steps()) {
            let mut targets = epoch.targets(step);
            if let Some(mix) = epoch.mix(step, shape) {
                mix.apply_to_targets(&mut targets);
                values.shares.push(mix.share() as f32);
                values.partners.extend(mix.partners().iter().map(|&partner| partner as u32));
            }
            values.targets.extend(targets);
            values.alphas.push(Adam::coefficients(step.learning_rate, steps + number).alpha);
        }
        // On all threads, because the device waits for it.
        let draw = |position| epoch.draw(position).map(|draw| (Affine::new(&draw, shape).rows(), draw.colour));
        let draws: Option<Vec<_>> = (0..epoch.order.len()).into_par_iter().map(draw).collect();
        for (rows, colour) in draws.unwrap_or_default() {
            values.moves.extend(rows.iter().flatten());
            values.colours.extend(colour);
        }
        values
    }

    /// The images in their original order with weight 1, for validation.
    pub fn of_validation(classes: &[usize], steps: usize) -> Self {
        Self {
            order: (0..classes.len() as u32).collect(),
            targets: classes.iter().map(|&class| Target::new(class, 1.0)).collect(),
            alphas: vec![0.0; steps],
            ..Self::default()
        }
    }
}
