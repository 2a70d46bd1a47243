//! The buffers of a training step, reused from step to step.

use std::sync::{Mutex, MutexGuard};

use rayon::prelude::*;

use super::Network;
use super::plan::GROUP;
use super::trainable::Trainable;
use crate::op::{NormState, Scratch};
use hamflow_kernels::network::Level;

/// Gradients per summation task.
pub(super) const SUM_CHUNK: usize = 4096;

/// The buffers of training steps. They grow in the first step and keep their size.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) slots: Vec<Slot>,
    pub(super) threads: Threads,
    pub(super) prepared: Prepared,
    pub(super) norms: Vec<NormState>,
    /// Sums over the batch, for one normalisation at a time.
    pub(super) sums: Vec<f64>,
    /// The outputs of the operations on vectors; the first entry is the flattened images.
    pub(super) rows: Vec<Vec<f32>>,
    /// The gradients of `rows`.
    pub(super) row_gradients: Vec<Vec<f32>>,
    /// The sums over the images of the gradients that are computed per image.
    pub(super) image_sums: Vec<f32>,
    /// For each group of images, the gradient of the weights of one grouped operation.
    pub(super) group_gradients: Vec<Vec<f32>>,
    pub(super) gradient: Vec<f32>,
    pub(super) trainable: Trainable,
}

/// The state of one image of a batch.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// For each map, what is stored.
    pub(super) maps: Vec<Vec<f32>>,
    /// The gradients of maps, in shared buffers.
    pub(super) gradients: Vec<Vec<f32>>,
    /// The gradients of small weight tensors.
    pub(super) weight_gradient: Vec<f32>,
    /// Sum and sum of squares per channel of each normalised map.
    pub(super) forward_sums: Vec<f64>,
    /// The sums for the backward pass of each normalisation.
    pub(super) backward_sums: Vec<f64>,
}

/// The state of one thread.
#[derive(Debug, Default)]
pub(super) struct Thread {
    /// The gradients of maps that one thread needs only for a moment.
    pub(super) buffers: Vec<Vec<f32>>,
    pub(super) scratch: Scratch,
}

/// The states of threads that are not in use.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<Vec<Thread>>);

impl Threads {
    /// Lends a state to `work`.
    pub(super) fn with<R>(&self, network: &Network, work: impl FnOnce(&mut Thread) -> R) -> R {
        let mut thread = lock(&self.0).pop().unwrap_or_else(|| Thread::new(network));
        let result = work(&mut thread);
        lock(&self.0).push(thread);
        result
    }
}

/// Locks a mutex, ignoring poisoning: a thread that panics leaves valid buffers behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The rearranged weights of each step.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    steps: Vec<[Vec<f32>; 2]>,
}

impl Prepared {
    /// Rearranges all weights.
    pub(super) fn update(&mut self, network: &Network, level: Level, weights: &[&[f32]], for_training: bool) {
        let steps = &network.lowered.steps;
        self.steps.resize_with(steps.len(), Default::default);
        self.steps.par_iter_mut().zip(steps).for_each(|([forward, backward], step)| {
            let weights = &weights[step.parameters.clone()];
            let backward = || for_training.then(|| step.op.prepare_backward(level, weights, backward));
            rayon::join(|| step.op.prepare_forward(level, weights, forward), backward);
        });
    }

    /// For the forward and the backward pass of a step.
    pub(super) fn of(&self, step: usize) -> [&[f32]; 2] {
        self.steps[step].each_ref().map(|values| &values[..])
    }
}

impl Slot {
    pub(super) fn new(network: &Network) -> Self {
        let buffers = |sizes: &[usize]| sizes.iter().map(|size| vec![0.0; *size]).collect();
        Self {
            maps: network.lowered.maps.iter().map(|map| vec![0.0; map.layout.len()]).collect(),
            gradients: buffers(&network.plan.image_buffers),
            weight_gradient: vec![0.0; network.plan.gradient_len],
            forward_sums: vec![0.0; network.plan.sums_len],
            backward_sums: vec![0.0; network.plan.sums_len],
        }
    }
}

impl Thread {
    pub(super) fn new(network: &Network) -> Self {
        let buffers = network.plan.thread_buffers.iter().map(|size| vec![0.0; *size]).collect();
        Self { buffers, scratch: Scratch::default() }
    }
}

impl Workspace {
    /// The gradients of all weights, in parameter order.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// Returns the total norm of all gradients, and scales them down to the norm `most` if it is larger (Pascanu,
    /// Mikolov, Bengio 2013).
    pub fn clip(&mut self, most: f64) -> f64 {
        let square = |chunk: &[f32]| chunk.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
        let squares: Vec<f64> = self.gradient.par_chunks(SUM_CHUNK).map(square).collect();
        let norm = squares.iter().sum::<f64>().sqrt();
        if norm > most {
            let factor = (most / norm) as f32;
            self.gradient
                .par_chunks_mut(SUM_CHUNK)
                .for_each(|chunk| chunk.iter_mut().for_each(|value| *value *= factor));
        }
        norm
    }

    /// The bytes of the buffers that a step of `images` images needs, besides the weights and the state of the optimiser.
    pub fn bytes_for(network: &Network, images: usize) -> usize {
        let plan = &network.plan;
        let maps: usize = network.lowered.maps.iter().map(|map| map.layout.len()).sum();
        let of_image = maps + plan.image_buffers.iter().sum::<usize>() + plan.gradient_len + 4 * plan.sums_len;
        let rows: usize = network.lowered.rows.iter().map(|row| 2 * row.output).sum();
        let prepared: usize = network.lowered.steps.iter().map(|step| step.op.prepared_len()).sum();
        let of_groups = images.div_ceil(GROUP) * plan.group_len;
        // The gradient, and the weights rearranged for both passes.
        let of_step = network.parameter_count() + prepared + plan.gradient_len + of_groups;
        size_of::<f32>() * (images * (of_image + rows) + of_step)
    }

    /// Freezes some parameters: their gradients are not computed, and frozen normalisations use their running statistics.
    pub fn freeze(&mut self, network: &Network, frozen: &[bool]) {
        self.trainable = Trainable::new(network, frozen);
    }

    /// Makes room for a batch, and rearranges the weights.
    pub(super) fn prepare(&mut self, network: &Network, level: Level, weights: &[&[f32]], count: usize) {
        while self.slots.len() < count {
            self.slots.push(Slot::new(network));
        }
        if self.trainable.wanted.is_empty() {
            self.freeze(network, &[]);
        }
        self.prepared.update(network, level, weights, true);
        self.norms.resize_with(network.lowered.norms.len(), NormState::default);
        self.group_gradients.resize_with(count.div_ceil(GROUP).max(self.group_gradients.len()), Vec::new);
        self.group_gradients.iter_mut().for_each(|gradient| gradient.resize(network.plan.group_len, 0.0));
        self.image_sums.resize(network.plan.gradient_len, 0.0);
        self.gradient.resize(network.parameter_count(), 0.0);
        let rows = &network.lowered.rows;
        for buffers in [&mut self.rows, &mut self.row_gradients] {
            buffers.resize_with(rows.len(), Vec::new);
            buffers.iter_mut().zip(rows).for_each(|(buffer, row)| buffer.resize(count * row.output, 0.0));
        }
    }
}

#[cfg(test)]
impl Workspace {
    /// The bytes of all buffers.
    pub(super) fn allocated(&self) -> usize {
        let all = |buffers: &[Vec<f32>]| buffers.iter().map(Vec::capacity).sum::<usize>();
        let of_slot = |slot: &Slot| {
            let floats = all(&slot.maps) + all(&slot.gradients) + slot.weight_gradient.capacity();
            floats + 2 * (slot.forward_sums.capacity() + slot.backward_sums.capacity())
        };
        let prepared: usize = self.prepared.steps.iter().map(|buffers| all(buffers)).sum();
        let slots: usize = self.slots.iter().map(of_slot).sum();
        let shared = self.image_sums.capacity() + self.gradient.capacity() + all(&self.group_gradients);
        size_of::<f32>() * (slots + prepared + shared + all(&self.rows) + all(&self.row_gradients))
    }
}
