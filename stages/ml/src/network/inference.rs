//! Inference: the logits of images, with running statistics and without dropout.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::Network;
use super::plan::{MOST_TOGETHER, images_together};
use super::workspace::{Prepared, lock};
use crate::op::{ImagePass, NormState, OpWeights, Pass, Scratch, Sink};
use crate::weights::{Weights, slice};
use hamflow_kernels::network::Level;
use hamflow_kernels::shape::{MapShape, spans};

/// Images that a thread processes step by step if no operation is grouped, so that weights are read from the cache for
/// most of them.
const IMAGES: usize = 4;

/// The memory of a predictor, kept for the next one: the system takes long to provide it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    prepared: Prepared,
    norms: Vec<NormState>,
    /// The buffers of threads that are not in use.
    buffers: Mutex<Vec<Buffers>>,
}

/// The buffers of one thread: for each image of a group, the maps.
#[derive(Debug, Default)]
struct Buffers {
    images: Vec<Vec<Vec<f32>>>,
    scratch: Scratch,
}

impl Buffers {
    /// Makes room for a number of images.
    fn prepare(&mut self, network: &Network, count: usize) {
        let maps = || network.plan.inference_buffers.iter().map(|size| vec![0.0; *size]).collect();
        while self.images.len() < count {
            self.images.push(maps());
        }
    }
}

/// A network with weights, which are rearranged once for all its predictions. They must not change while it exists.
#[derive(Debug)]
pub struct Predictor<'a> {
    network: &'a Network,
    weights: &'a Weights,
    pass: Pass,
    memory: Memory,
}

impl Drop for Predictor<'_> {
    fn drop(&mut self) {
        lock(&self.network.memory).push(std::mem::take(&mut self.memory));
    }
}

impl Network {
    /// Rearranges weights for predictions.
    pub fn predictor<'a>(&'a self, weights: &'a Weights) -> candle_core::Result<Predictor<'a>> {
        self.predictor_at(weights, Level::detect())
    }

    pub(super) fn predictor_at<'a>(&'a self, weights: &'a Weights, level: Level) -> candle_core::Result<Predictor<'a>> {
        let pass = Pass { level, ..Pass::inference() };
        let mut memory = lock(&self.memory).pop().unwrap_or_default();
        let Memory { prepared, norms, .. } = &mut memory;
        weights.with_slices(|slices| {
            prepared.update(self, pass.level, slices, false);
            norms.resize_with(self.lowered.norms.len(), NormState::default);
            self.recall_statistics(slices, norms);
        })?;
        Ok(Predictor { network: self, weights, pass, memory })
    }
}

impl Predictor<'_> {
    /// The network.
    pub fn network(&self) -> &Network {
        self.network
    }

    /// Applies the network to images `[images, height, width, channels]`; returns the logits, `[images, classes]`. Those
    /// of an image do not depend on the other ones.
    pub fn predict(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        images.apply_op1_no_bwd(self)
    }

    fn logits(&self, weights: &[&[f32]], images: &[f32]) -> Vec<f32> {
        let Self { network, pass, memory: Memory { prepared, norms, buffers }, .. } = self;
        let length = network.input().len();
        let count = images.len() / length;
        let width = network.flattened().1.shape.len();
        let mut rows: Vec<Vec<f32>> = network.lowered.rows.iter().map(|row| vec![0.0; count * row.output]).collect();
        let together = if network.plan.grouped.contains(&true) { images_together(count) } else { IMAGES };
        let groups = images.par_chunks(together * length).zip(rows[0].par_chunks_mut(together * width));
        let group = Group { network, pass, weights, prepared, norms };
        groups.for_each(|(images, vectors)| {
            let mut of_thread = lock(buffers).pop().unwrap_or_default();
            of_thread.prepare(network, together);
            group.run(images, vectors, &mut of_thread);
            lock(buffers).push(of_thread);
        });
        network.forward_rows(pass, weights, count, &mut rows);
        rows.pop().unwrap_or_default()
    }
}

struct Group<'a> {
    network: &'a Network,
    pass: &'a Pass,
    weights: &'a [&'a [f32]],
    prepared: &'a Prepared,
    norms: &'a [NormState],
}

impl Group<'_> {
    /// Computes the flattened vectors of a few images.
    fn run(&self, images: &[f32], vectors: &mut [f32], buffers: &mut Buffers) {
        let (lowered, plan) = (&self.network.lowered, &self.network.plan);
        let Buffers { images: maps, scratch } = buffers;
        let input = lowered.maps[0].layout;
        for (image, maps) in images.chunks_exact(input.shape.len()).zip(&mut *maps) {
            input.put(image, &mut maps[plan.inference[0]]);
        }
        let count = images.len() / input.shape.len();
        for index in 0..lowered.steps.len() {
            if lowered.steps[index].op.is_grouped() {
                self.grouped_step(index, &mut maps[..count], scratch);
                continue;
            }
            // One step for all images, so that weights are read from the cache for most of them.
            for (image, maps) in maps[..count].iter_mut().enumerate() {
                self.step(index, image, maps, scratch);
            }
        }
        let (flattened, layout) = self.network.flattened();
        let channels = layout.shape.channels;
        for (vector, maps) in vectors.chunks_exact_mut(layout.shape.len()).zip(maps) {
            let source = self.network.source(flattened, &maps[plan.inference[flattened]], self.norms);
            for span in spans(&[layout], usize::MAX) {
                source.write(self.level(), span, &mut vector[span.first * channels..][..span.count * channels]);
            }
        }
    }

    fn level(&self) -> Level {
        self.pass.level
    }

    /// Runs a grouped step for all images.
    fn grouped_step(&self, index: usize, images: &mut [Vec<Vec<f32>>], scratch: &mut Scratch) {
        let (network, places) = (self.network, &self.network.plan.inference);
        let step = &network.lowered.steps[index];
        let layout = network.lowered.maps[step.output].layout;
        let mut values: [Vec<f32>; MOST_TOGETHER] = Default::default();
        let (mut sources, mut sinks) = (Vec::with_capacity(images.len()), Vec::with_capacity(images.len()));
        for (maps, values) in images.iter_mut().zip(&mut values) {
            *values = std::mem::take(&mut maps[places[step.output]]);
            sinks.push(Sink { layout, values: &mut values[..layout.len()], statistics: None });
            sources.push(network.source(step.inputs[0], &maps[places[step.inputs[0]]], self.norms));
        }
        step.op.forward_group(self.pass, self.weights_of(index), &sources, &mut sinks, scratch);
        for (maps, values) in images.iter_mut().zip(values) {
            maps[places[step.output]] = values;
        }
    }

    fn weights_of(&self, index: usize) -> OpWeights<'_> {
        let [forward, backward] = self.prepared.of(index);
        OpWeights { tensors: &self.weights[self.network.lowered.steps[index].parameters.clone()], forward, backward }
    }

    /// Runs a step for one image.
    fn step(&self, index: usize, image: usize, maps: &mut [Vec<f32>], scratch: &mut Scratch) {
        let (network, places) = (self.network, &self.network.plan.inference);
        let step = &network.lowered.steps[index];
        let layout = network.lowered.maps[step.output].layout;
        let mut values = std::mem::take(&mut maps[places[step.output]]);
        let mut sink = Sink { layout, values: &mut values[..layout.len()], statistics: None };
        let source = |input: usize| {
            let map = step.inputs[input.min(step.inputs.len() - 1)];
            network.source(map, &maps[places[map]], self.norms)
        };
        let sources = [source(0), source(1)];
        let pass = ImagePass { pass: self.pass, image };
        step.op.forward(&pass, self.weights_of(index), &sources[..step.inputs.len()], &mut sink, scratch);
        maps[places[step.output]] = values;
    }
}

/// The forward pass is a candle operation, so that it runs on the memory of the images.
impl CustomOp1 for Predictor<'_> {
    fn name(&self) -> &'static str {
        "predict"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let MapShape { height, width, channels } = self.network.input();
        let (count, h, w, c) = layout.shape().dims4()?;
        if (h, w, c) != (height, width, channels) {
            candle_core::bail!("the network requires images of {height}×{width}×{channels}, not {h}×{w}×{c}");
        }
        let images = slice(storage, layout)?;
        let logits = self.weights.with_slices(|weights| self.logits(weights, images))?;
        Ok((CpuStorage::F32(logits), (count, self.network.classes()).into()))
    }
}
