//! The commands of batch normalisation and activations.

use super::{MAX_PARTIALS, Session, Source, blocks, count};
use crate::cuda::CudaError;
use crate::cuda::buffer::Number;
use crate::cuda::kernel::Kernel;
use crate::cuda::plan::MapPlan;
use crate::cuda::queue::{
    Argument::{self, F64, Nothing},
    Queue,
};
use hamflow_kernels::network::Activation;

fn activation_number(activation: Activation) -> Argument {
    Argument::U32(match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Relu6 => 2,
        Activation::Silu => 3,
    })
}

/// The rows of a block that sums over `rows` rows, and the number of blocks.
fn partition(rows: usize) -> (usize, usize) {
    let per_block = rows.div_ceil(MAX_PARTIALS).max(16);
    (per_block, rows.div_ceil(per_block))
}

impl<Q: Queue> Session<Q> {
    /// Computes the numbers of a map's normalisation and the map's values from what is stored.
    pub(super) fn view(
        &mut self,
        source: &Source,
        index: usize,
        images: usize,
        is_training: bool,
    ) -> Result<(), CudaError> {
        let map = self.plan.maps[index].clone();
        if !map.is_viewed() {
            return Ok(());
        }
        match map.norm {
            Some(norm) if is_training && self.trainable.norms[norm] => self.measure(source, norm, index, images)?,
            Some(norm) => self.recall(norm)?,
            None => {}
        }
        let MapPlan { shape, norm, activation } = map;
        let (buffers, values) = (self.maps[index], images * shape.len());
        let arguments = [
            Argument::Buffer(buffers.stored),
            norm.map_or(Nothing, |norm| Argument::Buffer(self.norms[norm].numbers)),
            Argument::Buffer(buffers.values),
            count(values),
            count(shape.channels),
            activation_number(activation),
        ];
        self.launch(self.either(Kernel::ViewF32, Kernel::ViewBf16), blocks(values), &arguments)
    }

    fn measure(&mut self, source: &Source, norm: usize, map: usize, images: usize) -> Result<(), CudaError> {
        let plan = self.plan.norms[norm].clone();
        let (channels, rows) = (plan.config.channels, images * self.plan.maps[map].shape.pixels());
        let (per_block, partials) = partition(rows);
        let partial = Argument::Buffer(self.partials.cast(Number::F64));
        let stored = Argument::Buffer(self.maps[map].stored);
        let arguments = [stored, partial, count(rows), count(channels), count(per_block)];
        self.launch(self.either(Kernel::StatisticsF32, Kernel::StatisticsBf16), partials, &arguments)?;
        let [weight, bias] = plan.weights.map(|range| Argument::Buffer(self.used.weights.slice(range)));
        let arguments = [
            partial,
            weight,
            bias,
            Argument::Buffer(self.used.statistics.slice(plan.running..plan.running + 2 * channels)),
            Argument::Buffer(self.norms[norm].numbers),
            Argument::Buffer(self.norms[norm].rates),
            Argument::Buffer(source.cursor),
            count(partials),
            count(channels),
            F64(rows as f64),
            F64(plan.config.epsilon),
            F64(plan.config.momentum),
        ];
        self.launch(Kernel::NormMeasure, channels, &arguments)
    }

    fn recall(&mut self, norm: usize) -> Result<(), CudaError> {
        let plan = self.plan.norms[norm].clone();
        let channels = plan.config.channels;
        let [weight, bias] = plan.weights.map(|range| Argument::Buffer(self.used.weights.slice(range)));
        let arguments = [
            weight,
            bias,
            Argument::Buffer(self.used.statistics.slice(plan.running..plan.running + 2 * channels)),
            Argument::Buffer(self.norms[norm].numbers),
            Argument::Buffer(self.norms[norm].rates),
            count(channels),
            F64(plan.config.epsilon),
        ];
        self.launch(Kernel::NormRecall, blocks(channels), &arguments)
    }

    /// Replaces the gradient of a map's values by that of what is stored, and writes the gradients of its normalisation.
    pub(super) fn resolve(&mut self, index: usize, images: usize) -> Result<(), CudaError> {
        let MapPlan { shape, norm, activation } = self.plan.maps[index].clone();
        let buffers = self.maps[index];
        let (stored, gradient) = (Argument::Buffer(buffers.stored), Argument::Buffer(buffers.gradient));
        let (values, channels) = (images * shape.len(), shape.channels);
        let Some(norm) = norm else {
            if activation == Activation::Identity {
                return Ok(());
            }
            let arguments = [stored, gradient, count(values), activation_number(activation)];
            return self.launch(self.either(Kernel::SlopesF32, Kernel::SlopesBf16), blocks(values), &arguments);
        };
        let rows = images * shape.pixels();
        let (per_block, partials) = partition(rows);
        let partial = Argument::Buffer(self.partials.cast(Number::F64));
        let numbers = Argument::Buffer(self.norms[norm].numbers);
        let arguments = [
            stored,
            gradient,
            numbers,
            partial,
            count(rows),
            count(channels),
            count(per_block),
            activation_number(activation),
        ];
        self.launch(self.either(Kernel::NormSlopesF32, Kernel::NormSlopesBf16), partials, &arguments)?;
        // The coefficients of a frozen normalisation are those of its running statistics.
        if self.trainable.norms[norm] {
            let [weight, bias] = self.plan.norms[norm]
                .weights
                .clone()
                .map(|range| Argument::Buffer(self.training.gradient.slice(range)));
            let rates = Argument::Buffer(self.norms[norm].rates);
            let arguments = [partial, numbers, rates, weight, bias, count(partials), count(channels), F64(rows as f64)];
            self.launch(Kernel::NormDifferentiate, channels, &arguments)?;
        }
        let arguments = [stored, gradient, numbers, count(values), count(channels)];
        self.launch(self.either(Kernel::NormGradientF32, Kernel::NormGradientBf16), blocks(values), &arguments)
    }
}
