//! All random numbers of an epoch in one buffer, which is uploaded when it starts.

use std::ops::Range;

use rayon::prelude::*;

use super::CudaError;
use super::buffer::{Buffer, Number, bytes_of, f32_bytes};
use super::queue::Queue;
use super::rate::{Groups, Rate};
use crate::augment::{Affine, Draw, erased_pixels};
use crate::loss::Target;
use crate::optim::OptimiserState;
use crate::trainer::Epoch;
use hamflow_kernels::shape::MapShape;

/// The size of a `Target` in `source/prelude.cu` in bytes.
const TARGET_SIZE: usize = 24;

/// The first row of a rectangle of MixUp, which has none: `BLENDED` in `source/batch.cu`.
pub(super) const BLENDED: u32 = u32::MAX;

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
    /// The position in its step of each image's MixUp or CutMix partner.
    pub partners: Buffer,
    /// The rows and columns that are erased of each image: from, to, from, to.
    pub erased: Buffer,
    /// The rates of the parameter groups in each step.
    pub rates: Buffer,
    /// The share of the original image in each step with MixUp.
    pub shares: Buffer,
    /// The rows and columns that CutMix pastes in each step.
    pub pasted: Buffer,
    /// The share of the weights that moves into their average in each step.
    pub averaged: Buffer,
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
    /// As in [`EpochBuffer`]; empty without MixUp and CutMix.
    pub partners: Vec<u32>,
    /// As in [`EpochBuffer`]; empty without augmentation.
    pub erased: Vec<u32>,
    /// As in [`EpochBuffer`].
    pub rates: Vec<Rate>,
    /// As in [`EpochBuffer`]; empty without MixUp and CutMix.
    pub shares: Vec<f32>,
    /// As in [`EpochBuffer`]; empty without MixUp and CutMix.
    pub pasted: Vec<u32>,
    /// As in [`EpochBuffer`]; empty without an average.
    pub averaged: Vec<f32>,
}

impl EpochBuffer {
    /// Allocates buffers for epochs of `images` images in `steps` steps, with this number of parameter groups.
    pub fn new<Q: Queue>(queue: &mut Q, images: usize, steps: usize, groups: usize) -> Result<Self, CudaError> {
        let parts = [
            (Number::F64, 6 * images),
            (Number::F64, 3 * images),
            (Number::U8, TARGET_SIZE * images),
            (Number::U8, Rate::SIZE * groups * steps),
            (Number::U32, images),
            (Number::U32, images),
            (Number::U32, 4 * images),
            (Number::F32, steps),
            (Number::U32, 4 * steps),
            (Number::F32, steps),
        ];
        let bytes: usize = parts.iter().map(|(number, length)| number.size() * length).sum();
        let whole = queue.allocate(Number::U8, bytes)?;
        // Arrays of eight-byte elements come first, so that every array is aligned.
        let mut start = 0;
        let [moves, colours, targets, rates, order, partners, erased, shares, pasted, averaged] =
            parts.map(|(number, length)| {
                let end = start + number.size() * length;
                let part = whole.slice(start..end).cast(number);
                start = end;
                part
            });
        Ok(Self { whole, moves, colours, targets, order, partners, erased, rates, shares, pasted, averaged })
    }

    /// Uploads an epoch to the device.
    pub fn upload<Q: Queue>(&self, queue: &mut Q, values: &EpochValues) -> Result<(), CudaError> {
        let EpochValues { moves, colours, targets, order, partners, erased, rates, shares, pasted, averaged } = values;
        let parts = [
            (self.moves, bytes_of(moves, f64::to_le_bytes)),
            (self.colours, bytes_of(colours, f64::to_le_bytes)),
            (self.targets, bytes_of(targets, target_bytes)),
            (self.order, bytes_of(order, u32::to_le_bytes)),
            (self.partners, bytes_of(partners, u32::to_le_bytes)),
            (self.erased, bytes_of(erased, u32::to_le_bytes)),
            (self.rates, bytes_of(rates, Rate::to_bytes)),
            (self.shares, f32_bytes(shares)),
            (self.pasted, bytes_of(pasted, u32::to_le_bytes)),
            (self.averaged, f32_bytes(averaged)),
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

/// A rectangle in the device's layout.
pub(super) fn rectangle([rows, columns]: &[Range<usize>; 2]) -> [u32; 4] {
    [rows.start, rows.end, columns.start, columns.end].map(|place| place as u32)
}

impl EpochValues {
    /// Draws an epoch from the same random numbers as on the CPU, after this state.
    pub fn draw(epoch: &Epoch<'_>, state: &OptimiserState, groups: &Groups, shape: MapShape) -> Self {
        let mut values = Self { order: epoch.order.iter().map(|&image| image as u32).collect(), ..Self::default() };
        for (number, step) in (1..).zip(epoch.steps()) {
            let mut targets = epoch.targets(step);
            if let Some(mix) = epoch.mix(step, shape) {
                mix.apply_to_targets(&mut targets);
                values.shares.push(mix.share() as f32);
                values.pasted.extend(mix.pasted().map_or([BLENDED, 0, 0, 0], rectangle));
                values.partners.extend(mix.partners().iter().map(|&partner| partner as u32));
            }
            values.targets.extend(targets);
            values.rates.extend(groups.rates(step.learning_rate, state, number));
            if let Some(decay) = epoch.recipe.average_decay(state.steps + number) {
                values.averaged.push((1.0 - decay) as f32);
            }
        }
        // On all threads, because the device waits for it.
        let draws: Option<Vec<Draw>> =
            (0..epoch.order.len()).into_par_iter().map(|position| epoch.draw(position)).collect();
        values.moved(&draws.unwrap_or_default(), shape)
    }

    /// With the images changed by these draws.
    pub fn moved(mut self, draws: &[Draw], shape: MapShape) -> Self {
        let rows: Vec<_> = draws.par_iter().map(|draw| Affine::new(draw, shape).rows()).collect();
        self.moves.extend(rows.iter().flatten().flatten());
        self.colours.extend(draws.iter().flat_map(|draw| draw.colour));
        let erased = |draw: &Draw| draw.erased.map_or([0; 4], |part| rectangle(&erased_pixels(part, shape)));
        self.erased.extend(draws.iter().flat_map(erased));
        self
    }

    /// The images in their original order with weight 1, for validation.
    pub fn of_validation(classes: &[usize]) -> Self {
        Self {
            order: (0..classes.len() as u32).collect(),
            targets: classes.iter().map(|&class| Target::new(class, 1.0)).collect(),
            ..Self::default()
        }
    }
}
