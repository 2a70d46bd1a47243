//! Inference: the logits of images, with running statistics and without dropout.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::Network;
use super::workspace::Prepared;
use crate::ml::kernels::Level;
use crate::ml::op::{ImagePass, NormState, OpWeights, Pass, Scratch, Sink};
use crate::ml::shape::{MapShape, spans};
use crate::ml::weights::{Weights, slice};

/// Images that a thread processes together, so that weights are read from the cache for most of them.
const GROUP: usize = 4;

/// The buffers of one thread: for each image of a group, the maps.
struct Buffers {
    images: Vec<Vec<Vec<f32>>>,
    scratch: Scratch,
}

impl Buffers {
    fn new(network: &Network) -> Self {
        let maps = || network.plan.inference_buffers.iter().map(|size| vec![0.0; *size]).collect();
        Self { images: (0..GROUP).map(|_| maps()).collect(), scratch: Scratch::default() }
    }
}

impl Network {
    /// Applies the network to images `[images, height, width, channels]`; returns the logits.
    pub fn predict(&self, weights: &Weights, images: &Tensor) -> candle_core::Result<Tensor> {
        images.apply_op1_no_bwd(&Predict { network: self, weights })
    }

    /// The logits, `[images, classes]`. Those of an image do not depend on the other ones.
    pub(super) fn logits(&self, weights: &[&[f32]], images: &[f32]) -> Vec<f32> {
        let pass = Pass::inference();
        let (mut prepared, mut norms) = (Prepared::default(), Vec::new());
        prepared.update(self, pass.level, weights, false);
        norms.resize_with(self.lowered.norms.len(), NormState::default);
        self.recall_statistics(weights, &mut norms);
        let length = self.input().len();
        let count = images.len() / length;
        let width = self.flattened().1.shape.len();
        let mut rows: Vec<Vec<f32>> = self.lowered.rows.iter().map(|row| vec![0.0; count * row.output]).collect();
        let groups = images.par_chunks(GROUP * length).zip(rows[0].par_chunks_mut(GROUP * width));
        groups.for_each_init(
            || Buffers::new(self),
            |buffers, (images, vectors)| {
                let group = Group { network: self, pass: &pass, weights, prepared: &prepared, norms: &norms };
                group.run(images, vectors, buffers);
            },
        );
        self.forward_rows(&pass, weights, count, &mut rows);
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
        let [forward, backward] = self.prepared.of(index);
        let weights = OpWeights { tensors: &self.weights[step.parameters.clone()], forward, backward };
        let pass = ImagePass { pass: self.pass, image };
        step.op.forward(&pass, weights, &sources[..step.inputs.len()], &mut sink, scratch);
        maps[places[step.output]] = values;
    }
}

/// The forward pass as a candle operation, so that it runs on the memory of the images.
struct Predict<'a> {
    network: &'a Network,
    weights: &'a Weights,
}

impl CustomOp1 for Predict<'_> {
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
        let logits = self.weights.with_slices(|weights| self.network.logits(weights, images))?;
        Ok((CpuStorage::F32(logits), (count, self.network.classes()).into()))
    }
}
