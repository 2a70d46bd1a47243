//! The buffers of maps, their gradients, and normalisations.

use super::{MAX_PARTIALS, rows_per_block};
use crate::cuda::CudaError;
use crate::cuda::buffer::{Buffer, Number};
use crate::cuda::plan::{OpPlan, Plan};
use crate::cuda::queue::{Queue, Window};

/// The buffers of a map, for all images.
#[derive(Debug, Clone, Copy)]
pub(super) struct MapBuffers {
    /// What is stored.
    pub(super) stored: Buffer,
    /// The values, after normalisation and activation.
    pub(super) values: Buffer,
    /// The gradient, in a buffer that other maps use at other times.
    pub(super) gradient: Buffer,
}

/// The buffers of a normalisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormBuffers {
    /// Scale, shift, mean, and the coefficients of the gradient.
    pub(super) numbers: Buffer,
    /// 1 / √(σ² + ε).
    pub(super) rates: Buffer,
}

/// When the gradient of each map is first written and last read, as places in the backward pass; `None` for maps
/// without gradient.
fn lifetimes(plan: &Plan) -> Vec<Option<(usize, usize)>> {
    let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; plan.maps.len()];
    let last = plan.steps.len();
    for (index, step) in plan.steps.iter().enumerate() {
        let consumers = plan.steps.iter().enumerate().filter(|(_, other)| other.inputs.contains(&step.output));
        let first = consumers.map(|(consumer, _)| last - consumer).min();
        let written = if step.output == plan.flattened { 0 } else { first.unwrap_or(last - index) };
        lifetimes[step.output] = Some((written, last - index));
    }
    lifetimes
}

pub(super) fn maps<Q: Queue>(plan: &Plan, images: usize, queue: &mut Q) -> Result<Vec<MapBuffers>, CudaError> {
    let lifetimes = lifetimes(plan);
    let mut order: Vec<usize> = (0..plan.maps.len()).filter(|map| lifetimes[*map].is_some()).collect();
    order.sort_by_key(|map| lifetimes[*map]);
    // The size of each shared buffer, and when it is free again.
    let mut shared: Vec<(usize, usize)> = Vec::new();
    let mut places = vec![None; plan.maps.len()];
    for map in order {
        let (Some((start, end)), length) = (lifetimes[map], plan.maps[map].shape.len()) else { continue };
        let free = shared.iter().enumerate().filter(|(_, (_, free))| *free < start);
        let nearest = free.min_by_key(|(_, (size, _))| size.abs_diff(length)).map(|(index, _)| index);
        let index = nearest.unwrap_or_else(|| {
            shared.push((0, 0));
            shared.len() - 1
        });
        shared[index] = (shared[index].0.max(length), end);
        places[map] = Some(index);
    }
    let shared = shared.iter().map(|(size, _)| queue.allocate(plan.number, images * size));
    let shared = shared.collect::<Result<Vec<_>, _>>()?;
    let mut buffers = Vec::with_capacity(plan.maps.len());
    for (index, map) in plan.maps.iter().enumerate() {
        let length = images * map.shape.len();
        // A map that dropout after pooling has replaced has no buffers.
        let is_used = index == 0 || places[index].is_some();
        let stored = queue.allocate(plan.number, if is_used { length } else { 0 })?;
        let values = if is_used && map.is_viewed() { queue.allocate(plan.number, length)? } else { stored };
        let gradient = places[index].map_or(stored.first(0), |place| shared[place].first(length));
        buffers.push(MapBuffers { stored, values, gradient });
    }
    Ok(buffers)
}

pub(super) fn norms<Q: Queue>(plan: &Plan, queue: &mut Q) -> Result<Vec<NormBuffers>, CudaError> {
    let of_norm = |channels| {
        let numbers = queue.allocate(Number::F32, 6 * channels)?;
        Ok(NormBuffers { numbers, rates: queue.allocate(Number::F64, channels)? })
    };
    plan.norms.iter().map(|norm| norm.config.channels).map(of_norm).collect()
}

/// The bytes of the partial sums of the blocks, for the operation that needs most.
pub(super) fn partial_bytes(plan: &Plan, images: usize) -> usize {
    let of_op = |op: &OpPlan| match op {
        OpPlan::Conv { convolution, .. } => 4 * MAX_PARTIALS * convolution.outputs,
        OpPlan::Depthwise { window, .. } => {
            let Window { out_height, out_width, size, channels, .. } = *window;
            let rows = images * (out_height * out_width) as usize;
            4 * rows.div_ceil(rows_per_block(rows)) * (size * size * channels) as usize
        }
        _ => 0,
    };
    let of_ops = plan.steps.iter().map(|step| of_op(&step.op));
    let of_norms = plan.norms.iter().map(|norm| 16 * MAX_PARTIALS * norm.config.channels);
    let of_rows = plan.rows.iter().map(|row| 4 * MAX_PARTIALS * row.output_len());
    // Clipping sums squares in double precision.
    of_ops.chain(of_norms).chain(of_rows).chain([8 * MAX_PARTIALS]).max().unwrap_or(0)
}
