//! The forward pass.

use std::ops::Range;

use rayon::prelude::*;

use super::plan::{MOST_TOGETHER, images_together};
use super::trainable::Trainable;
use super::workspace::{Prepared, Slot, Threads};
use super::{Batch, Network};
use crate::op::{ImagePass, NormState, OpWeights, Pass, Scratch, Sink};
use hamflow_kernels::shape::spans;

/// What all images of a pass share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) network: &'a Network,
    pub(super) pass: &'a Pass,
    pub(super) weights: &'a [&'a [f32]],
    pub(super) prepared: &'a Prepared,
    pub(super) norms: &'a [NormState],
    pub(super) trainable: &'a Trainable,
    /// The map whose gradient is left without its activation.
    pub(super) stop: Option<usize>,
}

impl<'a> Shared<'a> {
    pub(super) fn weights(&self, step: usize) -> OpWeights<'a> {
        let [forward, backward] = self.prepared.of(step);
        OpWeights { tensors: &self.weights[self.network.lowered.steps[step].parameters.clone()], forward, backward }
    }

    /// Whether a normalisation uses the statistics of the batch.
    fn uses_batch(&self, norm: usize) -> bool {
        self.pass.batch_statistics && self.trainable.norms[norm]
    }

    /// Runs steps for one image.
    fn forward(&self, steps: Range<usize>, image: usize, slot: &mut Slot, scratch: &mut Scratch) {
        let Self { network, pass, norms, .. } = *self;
        let pass = &ImagePass { pass, image };
        for index in steps {
            let step = &network.lowered.steps[index];
            let mut values = std::mem::take(&mut slot.maps[step.output]);
            let Slot { maps, forward_sums, .. } = slot;
            let mut sink = self.sink(index, &mut values, forward_sums);
            let sources = |input: usize| {
                let map = step.inputs[input.min(step.inputs.len() - 1)];
                network.source(map, &maps[map], norms)
            };
            let sources = [sources(0), sources(1)];
            step.op.forward(pass, self.weights(index), &sources[..step.inputs.len()], &mut sink, scratch);
            slot.maps[step.output] = values;
        }
    }

    /// Runs steps for some images, of which the first has this index in the batch.
    fn forward_group(&self, steps: Range<usize>, first: usize, slots: &mut [Slot], scratch: &mut Scratch) {
        let Self { network, pass, norms, .. } = *self;
        for index in steps {
            let step = &network.lowered.steps[index];
            if !step.op.is_grouped() {
                for (place, slot) in slots.iter_mut().enumerate() {
                    self.forward(index..index + 1, first + place, slot, scratch);
                }
                continue;
            }
            let mut values: [Vec<f32>; MOST_TOGETHER] = Default::default();
            let (mut sources, mut sinks) = (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
            for (slot, values) in slots.iter_mut().zip(&mut values) {
                let Slot { maps, forward_sums, .. } = slot;
                *values = std::mem::take(&mut maps[step.output]);
                sources.push(network.source(step.inputs[0], &maps[step.inputs[0]], norms));
                sinks.push(self.sink(index, values, forward_sums));
            }
            step.op.forward_group(pass, self.weights(index), &sources, &mut sinks, scratch);
            for (slot, values) in slots.iter_mut().zip(values) {
                slot.maps[step.output] = values;
            }
        }
    }

    /// Where a step writes its output and the sums over it.
    fn sink<'b>(&self, step: usize, values: &'b mut [f32], sums: &'b mut [f64]) -> Sink<'b> {
        let Network { lowered, plan, .. } = self.network;
        let map = &lowered.maps[lowered.steps[step].output];
        let statistics = map.norm.filter(|norm| self.uses_batch(*norm)).map(|norm| {
            let channels = map.layout.shape.channels;
            let sums = &mut sums[plan.norms[norm].offset..][..2 * channels];
            sums.fill(0.0);
            let (sums, squares) = sums.split_at_mut(channels);
            [sums, squares]
        });
        Sink { layout: map.layout, values, statistics }
    }
}

impl Network {
    /// Runs all steps for a batch, phase by phase.
    pub(super) fn forward_maps(
        &self,
        pass: &Pass,
        weights: &[&[f32]],
        batch: Batch<'_>,
        (slots, threads, prepared, trainable): (&mut [Slot], &Threads, &Prepared, &Trainable),
        (norms, sums): (&mut [NormState], &mut Vec<f64>),
    ) {
        let input = self.lowered.maps[0].layout;
        let images = batch.images.par_chunks(input.shape.len());
        images.zip(&mut *slots).for_each(|(image, slot)| input.put(image, &mut slot.maps[0]));
        self.recall_statistics(weights, norms);
        for (number, steps) in self.plan.phases.iter().enumerate() {
            let shared = Shared { network: self, pass, weights, prepared, norms, trainable, stop: None };
            if self.plan.grouped[number] {
                let together = images_together(slots.len());
                slots.par_chunks_mut(together).enumerate().for_each(|(chunk, slots)| {
                    threads.with(self, |thread| {
                        shared.forward_group(steps.clone(), chunk * together, slots, &mut thread.scratch);
                    });
                });
            } else {
                slots.par_iter_mut().enumerate().for_each(|(image, slot)| {
                    threads.with(self, |thread| shared.forward(steps.clone(), image, slot, &mut thread.scratch));
                });
            }
            if pass.batch_statistics {
                self.measure_statistics(number, weights, (slots, trainable), norms, sums);
            }
        }
    }

    /// Reads the running statistics.
    pub(super) fn recall_statistics(&self, weights: &[&[f32]], norms: &mut [NormState]) {
        let statistics = &weights[self.parameters().len()..];
        for (norm, state) in self.lowered.norms.iter().zip(norms) {
            let running = [statistics[norm.statistics], statistics[norm.statistics + 1]];
            norm.config.recall(running, [weights[norm.parameters], weights[norm.parameters + 1]], state);
        }
    }

    /// Completes the statistics of the maps that a phase has written.
    fn measure_statistics(
        &self,
        phase: usize,
        weights: &[&[f32]],
        (slots, trainable): (&[Slot], &Trainable),
        norms: &mut [NormState],
        sums: &mut Vec<f64>,
    ) {
        let written = self.plan.norms.iter().enumerate().filter(|(_, plan)| plan.written == phase);
        for (index, plan) in written.filter(|(index, _)| trainable.norms[*index]) {
            let norm = &self.lowered.norms[index];
            let channels = norm.config.channels;
            add_up(slots.iter().map(|slot| &slot.forward_sums[plan.offset..][..2 * channels]), sums);
            let (totals, squares) = sums.split_at(channels);
            let count = slots.len() * self.lowered.maps[norm.map].layout.shape.pixels();
            let of_norm = [weights[norm.parameters], weights[norm.parameters + 1]];
            norm.config.measure(totals, squares, count, of_norm, &mut norms[index]);
        }
    }

    /// Writes the flattened vectors of a batch.
    pub(super) fn flatten(&self, slots: &[Slot], norms: &[NormState], pass: &Pass, vectors: &mut [f32]) {
        let (map, layout) = self.flattened();
        vectors.par_chunks_mut(layout.shape.len()).zip(slots).for_each(|(vector, slot)| {
            let source = self.source(map, &slot.maps[map], norms);
            for span in spans(&[layout], usize::MAX) {
                let values = &mut vector[span.first * layout.shape.channels..][..span.count * layout.shape.channels];
                source.write(pass.level, span, values);
            }
        });
    }

    /// The output of each operation on vectors; the first entry of `rows` is the flattened images.
    pub(super) fn forward_rows(&self, pass: &Pass, weights: &[&[f32]], count: usize, rows: &mut [Vec<f32>]) {
        for (index, row) in self.lowered.rows.iter().enumerate() {
            let Some(op) = &row.op else { continue };
            let (before, after) = rows.split_at_mut(index);
            op.forward(pass, &weights[row.parameters.clone()], count, &before[index - 1], &mut after[0]);
        }
    }
}

/// Adds vectors in order.
pub(super) fn add_up<'a>(vectors: impl Iterator<Item = &'a [f64]>, sums: &mut Vec<f64>) {
    sums.clear();
    for vector in vectors {
        sums.resize(vector.len(), 0.0);
        sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
    }
}
