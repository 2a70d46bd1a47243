//! The backward pass, and the gradients of a batch.

use std::ops::Range;

use rayon::prelude::*;

use super::forward::{Shared, add_up};
use super::plan::{GROUP, MOST_TOGETHER, Place, WeightGradient, images_together};
use super::trainable::Trainable;
use super::workspace::{SUM_CHUNK, Slot, Thread, Workspace};
use super::{Batch, Network};
use crate::loss::{BatchLoss, Loss, Target, argmax};
use crate::op::{Backward, ImagePass, InputGradient, NormState, OutputGradient, Pass, RowsSeen, Source};
use crate::weights::{Weights, change};
use hamflow_kernels::network::{NormSums, add};
use hamflow_kernels::shape::spans;

/// The number of images whose class has the largest logit.
fn count_correct(logits: &[f32], targets: &[Target]) -> usize {
    let rows = logits.chunks_exact(logits.len() / targets.len().max(1)).zip(targets);
    rows.filter(|(logits, target)| argmax(logits) == target.class).count()
}

/// Rows of a large weight gradient per task.
const BLOCK_ROWS: usize = 48;

impl Network {
    /// Computes the gradients of the batch's mean loss into [`Workspace::gradient`].
    ///
    /// The result is bit-identical for any number of threads: each sum over the images is taken in the order of the
    /// images.
    pub fn gradients(&self, weights: &[&[f32]], pass: &Pass, batch: Batch<'_>, work: &mut Workspace) -> BatchLoss {
        let count = batch.targets.len();
        work.prepare(self, pass.level, weights, count);
        let Workspace {
            slots,
            threads,
            prepared,
            norms,
            sums,
            rows,
            row_gradients,
            image_sums,
            group_gradients,
            gradient,
            trainable,
        } = work;
        let trainable = &*trainable;
        let slots = &mut slots[..count];
        self.forward_maps(pass, weights, batch, (slots, threads, prepared, trainable), (norms, sums));
        self.flatten(slots, norms, pass, &mut rows[0]);
        self.forward_rows(pass, weights, count, rows);

        let (last, logits) = (rows.len() - 1, rows.last_mut().expect("a network has a row operation"));
        let right = count_correct(logits, batch.targets);
        if !batch.offsets.is_empty() {
            let rows = logits.chunks_exact_mut(batch.offsets.len());
            rows.for_each(|row| row.iter_mut().zip(batch.offsets).for_each(|(logit, offset)| *logit += offset));
        }
        let (loss, row_gradient) = batch.loss.of(logits, batch.targets);
        // Answers count without the offsets, as on validation images.
        let loss = BatchLoss { correct: right, ..loss };
        row_gradients[last].copy_from_slice(&row_gradient);
        self.backward_rows(pass, weights, count, rows, row_gradients, gradient);
        self.unflatten(slots, trainable, norms, pass, &row_gradients[0]);

        let phases = &self.plan.phases;
        let freed = (pass.batch_statistics, trainable);
        self.differentiate_norms(phases.len(), freed, slots, (norms, sums), gradient);
        for (number, steps) in phases.iter().enumerate().rev() {
            let shared = Shared { network: self, pass, weights, prepared, norms, trainable, stop: None };
            if self.plan.grouped[number] {
                let together = images_together(slots.len());
                slots.par_chunks_mut(together).enumerate().for_each(|(chunk, slots)| {
                    threads.with(self, |thread| shared.backward_group(steps.clone(), chunk * together, slots, thread));
                });
            } else {
                slots.par_iter_mut().enumerate().for_each(|(image, slot)| {
                    threads.with(self, |thread| shared.backward(steps.clone(), image, slot, thread));
                });
            }
            for step in steps.clone().filter(|step| trainable.steps[*step]) {
                match self.plan.weight_gradients[step] {
                    WeightGradient::Split { row } => {
                        self.split_gradient(step, row, &shared, (slots, threads), gradient);
                    }
                    WeightGradient::Grouped => {
                        self.group_gradient(step, &shared, (slots, threads, group_gradients), gradient);
                    }
                    WeightGradient::None | WeightGradient::PerImage(_) => {}
                }
            }
            self.differentiate_norms(number, freed, slots, (norms, sums), gradient);
        }
        self.add_image_gradients(pass, slots, image_sums, gradient);
        trainable.clear_frozen(gradient);
        loss
    }

    /// The values of a map for one image, and the gradient of a class's logit with respect to them, both without border,
    /// with running statistics and without dropout.
    pub(super) fn class_gradient(
        &self,
        weights: &[&[f32]],
        image: &[f32],
        class: usize,
        map: usize,
        work: &mut Workspace,
    ) -> (Vec<f32>, Vec<f32>) {
        let pass = &Pass::inference();
        let targets = [Target::new(class, 1.0)];
        work.prepare(self, pass.level, weights, 1);
        work.freeze(self, &[]);
        let Workspace { slots, threads, prepared, norms, sums, rows, row_gradients, gradient, trainable, .. } = work;
        let trainable = &*trainable;
        let batch = Batch { images: image, targets: &targets, loss: Loss::default(), offsets: &[] };
        self.forward_maps(pass, weights, batch, (&mut slots[..1], threads, prepared, trainable), (norms, sums));
        self.flatten(&slots[..1], norms, pass, &mut rows[0]);
        self.forward_rows(pass, weights, 1, rows);
        let of_logits = row_gradients.last_mut().expect("a network has a row operation");
        of_logits.fill(0.0);
        of_logits[class] = 1.0;
        self.backward_rows(pass, weights, 1, rows, row_gradients, gradient);
        self.unflatten(&mut slots[..1], trainable, norms, pass, &row_gradients[0]);
        let shared = Shared { network: self, pass, weights, prepared, norms, trainable, stop: Some(map) };
        let first = self.lowered.steps.iter().position(|step| step.output == map).map_or(0, |step| step + 1);
        threads.with(self, |thread| {
            shared.backward(first..self.lowered.steps.len(), 0, &mut slots[0], thread);
            let layout = self.lowered.maps[map].layout;
            let source = self.source(map, &slots[0].maps[map], norms);
            let buffer = match self.plan.places[map] {
                Some(Place::Image(buffer)) => &slots[0].gradients[buffer],
                Some(Place::Thread(buffer)) => &thread.buffers[buffer],
                None => unreachable!("only the image has no gradient"),
            };
            let [mut values, mut gradient] = [(); 2].map(|()| vec![0.0; layout.shape.len()]);
            layout.take(buffer, &mut gradient);
            for y in 0..layout.shape.height {
                let span = source.row(y);
                let channels = layout.shape.channels;
                let row = &mut values[span.first * channels..][..span.count * channels];
                source.write(pass.level, span, row);
            }
            (values, gradient)
        })
    }

    /// Moves the running statistics towards those of the last batch.
    pub fn update_statistics(&self, work: &Workspace, weights: &Weights) -> candle_core::Result<()> {
        let statistics: Vec<_> = weights.iter().skip(self.parameters().len()).map(|(_, tensor)| tensor).collect();
        let norms = self.lowered.norms.iter().zip(&work.norms).zip(&work.trainable.norms);
        for ((norm, state), _) in norms.filter(|(_, trains)| **trains) {
            let [mean, variance] = [statistics[norm.statistics], statistics[norm.statistics + 1]];
            change(mean, |running| norm.config.update(running, state.mean.iter().copied().map(f64::from)))?;
            change(variance, |running| norm.config.update(running, state.variance.iter().copied()))?;
        }
        Ok(())
    }

    /// Propagates the gradient of the logits, the last entry of `gradients`, to the flattened images, the first entry, and
    /// writes the gradients of the weights.
    pub(super) fn backward_rows(
        &self,
        pass: &Pass,
        weights: &[&[f32]],
        count: usize,
        rows: &[Vec<f32>],
        gradients: &mut [Vec<f32>],
        gradient: &mut [f32],
    ) {
        for (index, row) in self.lowered.rows.iter().enumerate().rev() {
            let Some(op) = &row.op else { continue };
            let (before, after) = gradients.split_at_mut(index);
            let weights = &weights[row.parameters.clone()];
            let seen = RowsSeen { weights, rows: count, input: &rows[index - 1], output: &rows[index] };
            op.backward(pass, seen, &mut after[0], &mut gradient[row.gradient.clone()], &mut before[index - 1]);
        }
    }

    /// Copies the gradient of the vectors to the map that was flattened.
    fn unflatten(&self, slots: &mut [Slot], trainable: &Trainable, norms: &[NormState], pass: &Pass, vectors: &[f32]) {
        let (map, layout) = self.flattened();
        if !trainable.wanted[map] {
            return;
        }
        let Some(Place::Image(buffer)) = self.plan.places[map] else { unreachable!("the flattened map has a buffer") };
        vectors.par_chunks(layout.shape.len()).zip(slots).for_each(|(vector, slot)| {
            let Slot { maps, gradients, backward_sums, .. } = slot;
            let mut gradient = InputGradient {
                source: self.source(map, &maps[map], norms),
                gradient: &mut gradients[buffer][..layout.len()],
                adds: false,
                is_last: true,
                sums: self.norm_sums(map, norms, &mut backward_sums[self.sums_range(map)]),
            };
            for span in spans(&[layout], usize::MAX) {
                let channels = layout.shape.channels;
                gradient.put(span, &vector[span.first * channels..][..span.count * channels]);
                gradient.finish(pass.level, span);
            }
        });
    }

    /// Where the sums of a map's normalisation lie; empty if it has none.
    fn sums_range(&self, map: usize) -> Range<usize> {
        let Some(norm) = self.lowered.maps[map].norm else { return 0..0 };
        let offset = self.plan.norms[norm].offset;
        offset..offset + 2 * self.lowered.norms[norm].config.channels
    }

    /// The sums for the backward pass of a map's normalisation, set to 0.
    fn norm_sums<'a>(&self, map: usize, norms: &'a [NormState], sums: &'a mut [f64]) -> Option<NormSums<'a>> {
        let norm = self.lowered.maps[map].norm?;
        sums.fill(0.0);
        let (gradients, products) = sums.split_at_mut(sums.len() / 2);
        Some(NormSums { mean: &norms[norm].mean, gradients, products })
    }

    /// Completes the gradients of the normalisations whose sums a phase has completed.
    fn differentiate_norms(
        &self,
        phase: usize,
        (batch_statistics, trainable): (bool, &Trainable),
        slots: &[Slot],
        (norms, sums): (&mut [NormState], &mut Vec<f64>),
        gradient: &mut [f32],
    ) {
        let completed = self.plan.norms.iter().enumerate().filter(|(_, plan)| plan.completed == phase);
        for (index, plan) in completed.filter(|(index, _)| trainable.norms[*index]) {
            let norm = &self.lowered.norms[index];
            let channels = norm.config.channels;
            add_up(slots.iter().map(|slot| &slot.backward_sums[plan.offset..][..2 * channels]), sums);
            let (gradients, products) = sums.split_at(channels);
            let count = slots.len() * self.lowered.maps[norm.map].layout.shape.pixels();
            let of_weights = &mut gradient[norm.gradient.clone()];
            norm.config.differentiate(gradients, products, count, batch_statistics, of_weights, &mut norms[index]);
        }
    }

    /// The gradient of a large weight tensor, in blocks of rows.
    fn split_gradient(
        &self,
        index: usize,
        row: usize,
        shared: &Shared<'_>,
        (slots, threads): (&[Slot], &super::workspace::Threads),
        gradient: &mut [f32],
    ) {
        let step = &self.lowered.steps[index];
        let Some(Place::Image(buffer)) = self.plan.places[step.output] else {
            unreachable!("the gradients of all images are kept")
        };
        let layout = self.lowered.maps[step.output].layout;
        let blocks = gradient[step.gradient.clone()].par_chunks_mut(BLOCK_ROWS * row).enumerate();
        blocks.for_each(|(block, gradient)| {
            gradient.fill(0.0);
            let first = block * BLOCK_ROWS;
            let rows = first..first + gradient.len() / row;
            threads.with(self, |thread| {
                for slot in slots {
                    let source = self.source(step.inputs[0], &slot.maps[step.inputs[0]], shared.norms);
                    let of_output = (layout, &slot.gradients[buffer][..layout.len()]);
                    let level = shared.pass.level;
                    step.op.weight_rows(level, rows.clone(), &source, of_output, gradient, &mut thread.scratch);
                }
            });
        });
    }

    /// The gradient of the weights of a grouped operation: for each group of images, summed in the order of the groups.
    fn group_gradient(
        &self,
        index: usize,
        shared: &Shared<'_>,
        (slots, threads, group_gradients): (&[Slot], &super::workspace::Threads, &mut [Vec<f32>]),
        gradient: &mut [f32],
    ) {
        let step = &self.lowered.steps[index];
        let (input, layout) = (step.inputs[0], self.lowered.maps[step.output].layout);
        let Some(Place::Image(buffer)) = self.plan.places[step.output] else {
            unreachable!("the gradients of all images are kept")
        };
        let (level, length) = (shared.pass.level, step.gradient.len());
        let groups = &mut group_gradients[..slots.len().div_ceil(GROUP)];
        slots.par_chunks(GROUP).zip(&mut *groups).for_each(|(slots, of_group)| {
            let sources: Vec<_> =
                slots.iter().map(|slot| self.source(input, &slot.maps[input], shared.norms)).collect();
            let outputs: Vec<_> = slots.iter().map(|slot| (layout, &slot.gradients[buffer][..layout.len()])).collect();
            let of_group = &mut of_group[..length];
            threads.with(self, |thread| {
                step.op.group_weight_gradient(level, &sources, &outputs, of_group, &mut thread.scratch);
            });
        });
        gradient[step.gradient.clone()].par_chunks_mut(SUM_CHUNK).enumerate().for_each(|(chunk, sums)| {
            sums.fill(0.0);
            for of_group in &*groups {
                add(level, &of_group[chunk * SUM_CHUNK..][..sums.len()], sums);
            }
        });
    }

    /// Adds the gradients that were computed per image.
    fn add_image_gradients(&self, pass: &Pass, slots: &[Slot], sums: &mut [f32], gradient: &mut [f32]) {
        sums.par_chunks_mut(SUM_CHUNK).enumerate().for_each(|(chunk, sums)| {
            sums.fill(0.0);
            for slot in slots {
                add(pass.level, &slot.weight_gradient[chunk * SUM_CHUNK..][..sums.len()], sums);
            }
        });
        for (step, plan) in self.lowered.steps.iter().zip(&self.plan.weight_gradients) {
            if let WeightGradient::PerImage(range) = plan {
                gradient[step.gradient.clone()].copy_from_slice(&sums[range.clone()]);
            }
        }
    }
}

impl Shared<'_> {
    /// The gradient of input `input` of a step; `None` if it is not needed.
    fn input_gradient<'b>(
        &'b self,
        step: usize,
        input: usize,
        source: Source<'b>,
        (gradient, sums): (&'b mut [f32], &'b mut [f64]),
    ) -> Option<InputGradient<'b>> {
        let network = self.network;
        let map = *network.lowered.steps[step].inputs.get(input)?;
        let consumers = &network.lowered.maps[map].consumers;
        self.trainable.wanted[map].then(|| InputGradient {
            source,
            gradient: &mut gradient[..source.layout.len()],
            adds: consumers.last() != Some(&step),
            is_last: consumers.first() == Some(&step) && self.stop != Some(map),
            sums: network.norm_sums(map, self.norms, sums),
        })
    }

    /// Runs the backward pass of steps for some images, of which the first has this index in the batch.
    fn backward_group(&self, steps: Range<usize>, first: usize, slots: &mut [Slot], thread: &mut Thread) {
        for index in steps.rev() {
            if self.network.lowered.steps[index].op.is_grouped() {
                self.backward_grouped_step(index, slots, thread);
                continue;
            }
            for (place, slot) in slots.iter_mut().enumerate() {
                self.backward(index..index + 1, first + place, slot, thread);
            }
        }
    }

    /// Runs the backward pass of a grouped operation.
    fn backward_grouped_step(&self, index: usize, slots: &mut [Slot], thread: &mut Thread) {
        let Self { network, pass, norms, .. } = *self;
        let (lowered, plan) = (&network.lowered, &network.plan);
        let step = &lowered.steps[index];
        let (map, of_output) = (step.inputs[0], &lowered.maps[step.output]);
        if !self.trainable.wanted[step.output] {
            return;
        }
        let buffer = |map: usize| match plan.places[map] {
            Some(Place::Image(buffer)) => buffer,
            _ => unreachable!("phases with grouped operations keep the gradients of all images"),
        };
        let buffers = [Some(step.output), Some(map).filter(|map| self.trainable.wanted[*map])];
        let buffers = buffers.map(|map| map.map(buffer));
        let mut taken: [[Vec<f32>; 2]; MOST_TOGETHER] = Default::default();
        let (mut outputs, mut inputs) = (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
        for (slot, taken) in slots.iter_mut().zip(&mut taken) {
            let Slot { maps, gradients, backward_sums, .. } = slot;
            *taken =
                buffers.map(|buffer| buffer.map(|buffer| std::mem::take(&mut gradients[buffer])).unwrap_or_default());
            let [output, input] = taken;
            outputs.push(OutputGradient {
                layout: of_output.layout,
                stored: &maps[step.output],
                gradient: &mut output[..of_output.layout.len()],
                norm: of_output.norm.map(|norm| norms[norm].coefficients.each_ref().map(|values| &values[..])),
            });
            let source = network.source(map, &maps[map], norms);
            let sums = &mut backward_sums[network.sums_range(map)];
            inputs.extend(self.input_gradient(index, 0, source, (input, sums)));
        }
        step.op.backward_group(pass, self.weights(index), &mut outputs, &mut inputs, &mut thread.scratch);
        for (slot, taken) in slots.iter_mut().zip(taken) {
            for (buffer, values) in buffers.into_iter().zip(taken) {
                if let Some(buffer) = buffer {
                    slot.gradients[buffer] = values;
                }
            }
        }
    }

    /// Runs the backward pass of steps for one image.
    pub(super) fn backward(&self, steps: Range<usize>, image: usize, slot: &mut Slot, thread: &mut Thread) {
        let Self { network, pass, norms, .. } = *self;
        let (lowered, plan) = (&network.lowered, &network.plan);
        let pass = &ImagePass { pass, image };
        for index in steps.rev() {
            let step = &lowered.steps[index];
            if !self.trainable.wanted[step.output] {
                continue;
            }
            let Slot { maps, gradients, weight_gradient, backward_sums, .. } = slot;
            let mut take = |map: usize| match plan.places[map] {
                Some(Place::Image(buffer)) => std::mem::take(&mut gradients[buffer]),
                Some(Place::Thread(buffer)) => std::mem::take(&mut thread.buffers[buffer]),
                None => Vec::new(),
            };
            let mut output = take(step.output);
            let mut inputs: [Vec<f32>; 2] = Default::default();
            for (buffer, map) in inputs.iter_mut().zip(&step.inputs).filter(|(_, map)| self.trainable.wanted[**map]) {
                *buffer = take(*map);
            }
            let layout = lowered.maps[step.output].layout;
            let norm = lowered.maps[step.output].norm;
            let mut of_output = OutputGradient {
                layout,
                stored: &maps[step.output],
                gradient: &mut output[..layout.len()],
                norm: norm.map(|norm| norms[norm].coefficients.each_ref().map(|values| &values[..])),
            };
            let source = |input: usize| {
                let map = step.inputs[input.min(step.inputs.len() - 1)];
                network.source(map, &maps[map], norms)
            };
            let sources = [source(0), source(1)];
            let of_weights = match &plan.weight_gradients[index] {
                WeightGradient::PerImage(range) if self.trainable.steps[index] => {
                    Some(&mut weight_gradient[range.clone()])
                }
                _ => None,
            };
            let [first, second] = &mut inputs;
            let ranges = [0, 1].map(|input| step.inputs.get(input).map_or(0..0, |map| network.sums_range(*map)));
            let of_norms = backward_sums.get_disjoint_mut(ranges).expect("the inputs are different maps");
            let [of_first, of_second] = of_norms;
            let mut input_gradients = [
                self.input_gradient(index, 0, sources[0], (first, of_first)),
                self.input_gradient(index, 1, sources[1], (second, of_second)),
            ];
            let count = step.inputs.len();
            let backward = Backward {
                inputs: &sources[..count],
                output: &mut of_output,
                weight_gradient: of_weights,
                input_gradients: &mut input_gradients[..count],
            };
            step.op.backward(pass, self.weights(index), backward, &mut thread.scratch);
            let mut give = |map: usize, values: Vec<f32>| match plan.places[map] {
                Some(Place::Image(buffer)) => gradients[buffer] = values,
                Some(Place::Thread(buffer)) => thread.buffers[buffer] = values,
                None => {}
            };
            give(step.output, output);
            for (values, map) in inputs.into_iter().zip(&step.inputs).filter(|(_, map)| self.trainable.wanted[**map]) {
                give(*map, values);
            }
        }
    }
}
