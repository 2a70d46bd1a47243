//! A model's layers for one input size: shapes, names, the forward pass, and the gradients of a batch.

mod grad_cam;

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ml::kernels::add;
use crate::ml::layer::{
    Conv, Dense, ImageDropout, ImageLayer, ImageSeen, LayerConfig, MaxPool, ParameterConfig, Pass, RowDropout,
    RowLayer, RowsSeen,
};
use crate::ml::loss::{BatchLoss, Loss, Target};
use crate::ml::shape::MapShape;
pub use crate::ml::weights::Parameter;
use crate::ml::weights::{Weights, slice};

pub use grad_cam::{GradCam, HeatMap};

/// A row of the layer summary: a layer, its output shape and its number of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// The name, e.g. `conv2`.
    pub name: String,
    /// The description, e.g. `conv 3×3, ReLU`.
    pub kind: String,
    /// The height, width and channels, or the number of values.
    pub output: Vec<usize>,
    /// The number of weights.
    pub parameters: usize,
}

/// A batch of normalised images, `[images, height, width, channels]`, with their targets.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The pixels.
    pub images: &'a [f32],
    /// One target per image.
    pub targets: &'a [Target],
    /// The loss function.
    pub loss: Loss,
}

/// A list of layers with their shapes, without the weights.
///
/// Layers before `Flatten` process one image at a time, and an image passes through all of them on one thread. The
/// layers after it process the whole batch.
pub struct Network {
    input: MapShape,
    configs: Vec<LayerConfig>,
    images: Vec<Placed<dyn ImageLayer>>,
    rows: Vec<Placed<dyn RowLayer>>,
    parameters: Vec<Parameter>,
    layers: Vec<LayerSummary>,
}

/// A layer with the range of its parameters.
struct Placed<L: ?Sized> {
    parameters: Range<usize>,
    gradient: Range<usize>,
    layer: Box<L>,
}

impl Network {
    /// Builds the layers of `configs` for images of shape `input`; the error describes what does not fit.
    pub fn new(input: MapShape, configs: &[LayerConfig]) -> Result<Self, String> {
        let mut network = Self {
            input,
            configs: configs.to_vec(),
            images: Vec::new(),
            rows: Vec::new(),
            parameters: Vec::new(),
            layers: Vec::new(),
        };
        let mut width = None;
        for (number, config) in (0..).zip(configs) {
            let map = network.map();
            match (config, width) {
                (LayerConfig::Conv { filters }, None) => {
                    network.push_image("conv", "conv 3×3, ReLU".into(), Box::new(Conv::new(map, *filters)));
                }
                (LayerConfig::MaxPool, None) => {
                    if map.halved().is_empty() {
                        return Err(format!(
                            "an image of {}×{} is too small for this number of pooling layers",
                            input.height, input.width
                        ));
                    }
                    network.push_image("pool", "max pool 2×2".into(), Box::new(MaxPool::new(map)));
                }
                (LayerConfig::Dropout { rate }, None) => {
                    let layer = Box::new(ImageDropout::new(map, *rate, number));
                    network.push_image("dropout", format!("dropout {rate}"), layer);
                }
                (LayerConfig::Flatten, None) => {
                    width = Some(map.len());
                    let (name, kind) = ("flatten".to_owned(), "flatten".to_owned());
                    network.layers.push(LayerSummary { name, kind, output: vec![map.len()], parameters: 0 });
                }
                (LayerConfig::Dense { units, relu }, Some(inputs)) => {
                    let kind = if *relu { "dense, ReLU" } else { "dense" };
                    network.push_row("dense", kind.into(), Box::new(Dense::new(inputs, *units, *relu)));
                    width = Some(*units);
                }
                (LayerConfig::Dropout { rate }, Some(inputs)) => {
                    let layer = Box::new(RowDropout::new(inputs, *rate, number));
                    network.push_row("dropout", format!("dropout {rate}"), layer);
                }
                (LayerConfig::Dense { .. }, None) => return Err("a dense layer must come after `Flatten`".into()),
                (config, Some(_)) => return Err(format!("{config:?} must come before `Flatten`")),
            }
        }
        match network.rows.last() {
            Some(_) => Ok(network),
            None => Err("a network must end with a dense layer".into()),
        }
    }

    /// The shape of an input image.
    pub fn input(&self) -> MapShape {
        self.input
    }

    /// The configurations of the layers.
    pub fn configs(&self) -> &[LayerConfig] {
        &self.configs
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.rows.last().map_or(0, |placed| placed.layer.output())
    }

    /// The names, shapes and initialisations of the weights, in layer order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The number of weights.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |parameter| parameter.range.end)
    }

    /// The layer summary.
    pub fn layers(&self) -> &[LayerSummary] {
        &self.layers
    }

    /// The output shape of the last image layer so far.
    fn map(&self) -> MapShape {
        self.images.last().map_or(self.input, |placed| placed.layer.output())
    }

    fn push_image(&mut self, prefix: &str, kind: String, layer: Box<dyn ImageLayer>) {
        let MapShape { height, width, channels } = layer.output();
        let (parameters, gradient) = self.place(prefix, kind, vec![height, width, channels], layer.parameters());
        self.images.push(Placed { parameters, gradient, layer });
    }

    fn push_row(&mut self, prefix: &str, kind: String, layer: Box<dyn RowLayer>) {
        let (parameters, gradient) = self.place(prefix, kind, vec![layer.output()], layer.parameters());
        self.rows.push(Placed { parameters, gradient, layer });
    }

    /// Names a layer and its parameters, and assigns their ranges.
    fn place(
        &mut self,
        prefix: &str,
        kind: String,
        output: Vec<usize>,
        configs: Vec<ParameterConfig>,
    ) -> (Range<usize>, Range<usize>) {
        let number = self.layers.iter().filter(|layer| layer.name.starts_with(prefix)).count() + 1;
        let name = format!("{prefix}{number}");
        let (first, start) = (self.parameters.len(), self.parameter_count());
        for config in configs {
            let start = self.parameter_count();
            let range = start..start + config.len();
            self.parameters.push(Parameter { name: format!("{name}.{}", config.name), config, range });
        }
        let (parameters, gradient) = (first..self.parameters.len(), start..self.parameter_count());
        self.layers.push(LayerSummary { name, kind, output, parameters: gradient.len() });
        (parameters, gradient)
    }

    /// Zeroed maps: the input's, then one per image layer.
    fn new_maps(&self) -> Vec<Vec<f32>> {
        let outputs = self.images.iter().map(|placed| placed.layer.output());
        std::iter::once(self.input).chain(outputs).map(|shape| vec![0.0; shape.bordered_len()]).collect()
    }

    fn forward_image(&self, pass: &Pass, weights: &[&[f32]], number: usize, image: &[f32], maps: &mut [Vec<f32>]) {
        self.input.put(image, &mut maps[0]);
        for (i, placed) in self.images.iter().enumerate() {
            let (before, after) = maps.split_at_mut(i + 1);
            placed.layer.forward(pass, &weights[placed.parameters.clone()], number, &before[i], &mut after[0]);
        }
    }

    fn backward_image(&self, pass: &Pass, weights: &[&[f32]], prepared: &[Vec<f32>], step: ImageStep<'_>) {
        for (i, placed) in self.images.iter().enumerate().rev() {
            let seen = ImageSeen {
                weights: &weights[placed.parameters.clone()],
                prepared: &prepared[i],
                image: step.number,
                input: &step.maps[i],
                output: &step.maps[i + 1],
            };
            let (before, after) = step.gradient_maps.split_at_mut(i + 1);
            // The gradient of the pixels is not needed.
            let input_gradient = (i > 0).then_some(&mut before[i][..]);
            let weight_gradient = &mut step.gradient[placed.gradient.clone()];
            placed.layer.backward(pass, seen, &mut after[0], weight_gradient, input_gradient);
        }
    }

    /// The output of each row layer; the first entry is the flattened images.
    fn forward_rows(&self, pass: &Pass, weights: &[&[f32]], count: usize, rows: &mut Vec<Vec<f32>>) {
        for placed in &self.rows {
            let input = rows.last().expect("there is an entry for the flattened images");
            let mut output = vec![0.0; count * placed.layer.output()];
            placed.layer.forward(pass, &weights[placed.parameters.clone()], count, input, &mut output);
            rows.push(output);
        }
    }

    /// Propagates the gradient of the last layer's output to the flattened images, and writes the gradients of the
    /// row layers' weights.
    fn backward_rows(
        &self,
        pass: &Pass,
        weights: &[&[f32]],
        count: usize,
        rows: &[Vec<f32>],
        mut row_gradient: Vec<f32>,
        gradient: &mut [f32],
    ) -> Vec<f32> {
        for (i, placed) in self.rows.iter().enumerate().rev() {
            let weights = &weights[placed.parameters.clone()];
            let seen = RowsSeen { weights, rows: count, input: &rows[i], output: &rows[i + 1] };
            let mut input_gradient = vec![0.0; rows[i].len()];
            let weight_gradient = &mut gradient[placed.gradient.clone()];
            placed.layer.backward(pass, seen, &mut row_gradient, weight_gradient, &mut input_gradient);
            row_gradient = input_gradient;
        }
        row_gradient
    }

    /// The logits, `[images, classes]`, without dropout.
    fn logits(&self, weights: &[&[f32]], images: &[f32]) -> Vec<f32> {
        let pass = Pass::inference();
        let map = self.map();
        let count = images.len() / self.input.len();
        let mut vectors = vec![0.0; count * map.len()];
        let images = images.par_chunks(self.input.len()).enumerate();
        images.zip(vectors.par_chunks_mut(map.len())).for_each_init(
            || self.new_maps(),
            |maps, ((number, image), vector)| {
                self.forward_image(&pass, weights, number, image, maps);
                map.take(&maps[self.images.len()], vector);
            },
        );
        let mut rows = vec![vectors];
        self.forward_rows(&pass, weights, count, &mut rows);
        rows.pop().unwrap_or_default()
    }

    /// Applies the network to images `[images, height, width, channels]`; returns the logits.
    pub fn predict(&self, weights: &Weights, images: &Tensor) -> candle_core::Result<Tensor> {
        images.apply_op1_no_bwd(&Predict { network: self, weights })
    }

    /// Computes the gradients of the batch's mean loss into [`Workspace::gradient`].
    ///
    /// The result is bit-identical for any number of threads: each image's gradients are computed by one thread, and
    /// summed in the order of the images.
    pub fn gradients(&self, weights: &[&[f32]], pass: &Pass, batch: Batch<'_>, work: &mut Workspace) -> BatchLoss {
        let count = batch.targets.len();
        let map = self.map();
        work.prepare(self, weights, count);
        let Workspace { slots, spare, prepared, gradient } = work;
        let slots = &mut slots[..count];

        let mut vectors = vec![0.0; count * map.len()];
        let images = batch.images.par_chunks(self.input.len()).enumerate();
        images.zip(slots.par_iter_mut()).zip(vectors.par_chunks_mut(map.len())).for_each(
            |(((number, image), slot), vector)| {
                self.forward_image(pass, weights, number, image, &mut slot.maps);
                map.take(&slot.maps[self.images.len()], vector);
            },
        );
        let mut rows = vec![vectors];
        self.forward_rows(pass, weights, count, &mut rows);

        let logits = rows.last().expect("a network has a row layer");
        let (loss, row_gradient) = batch.loss.of(logits, batch.targets);
        let row_gradient = self.backward_rows(pass, weights, count, &rows, row_gradient, gradient);

        let (prepared, spare) = (&*prepared, &*spare);
        slots.par_iter_mut().zip(row_gradient.par_chunks(map.len())).enumerate().for_each(
            |(number, (slot, vector))| {
                let mut gradient_maps = lock(spare).pop().unwrap_or_else(|| self.new_maps());
                map.put(vector, &mut gradient_maps[self.images.len()]);
                let (maps, gradient) = (&slot.maps[..], &mut slot.gradient[..]);
                let step = ImageStep { number, maps, gradient, gradient_maps: &mut gradient_maps };
                self.backward_image(pass, weights, prepared, step);
                lock(spare).push(gradient_maps);
            },
        );

        let image_gradient = &mut gradient[..self.image_parameters()];
        image_gradient.par_chunks_mut(SUM_CHUNK).enumerate().for_each(|(chunk, sums)| {
            sums.fill(0.0);
            for slot in &*slots {
                add(pass.level, &slot.gradient[chunk * SUM_CHUNK..][..sums.len()], sums);
            }
        });
        loss
    }

    /// The number of weights of the image layers.
    fn image_parameters(&self) -> usize {
        self.images.last().map_or(0, |placed| placed.gradient.end)
    }
}

/// Gradients per summation task.
const SUM_CHUNK: usize = 4096;

/// The state of the backward pass of one image.
struct ImageStep<'a> {
    number: usize,
    maps: &'a [Vec<f32>],
    gradient: &'a mut [f32],
    gradient_maps: &'a mut [Vec<f32>],
}

/// The buffers of a training step, reused from step to step.
#[derive(Default)]
pub struct Workspace {
    slots: Vec<Slot>,
    spare: Mutex<Vec<Vec<Vec<f32>>>>,
    prepared: Vec<Vec<f32>>,
    gradient: Vec<f32>,
}

/// One image of a batch: its forward maps, and its gradients of the image layers' weights.
struct Slot {
    maps: Vec<Vec<f32>>,
    gradient: Vec<f32>,
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

    fn prepare(&mut self, network: &Network, weights: &[&[f32]], count: usize) {
        while self.slots.len() < count {
            let (maps, gradient) = (network.new_maps(), vec![0.0; network.image_parameters()]);
            self.slots.push(Slot { maps, gradient });
        }
        self.prepared.resize(network.images.len(), Vec::new());
        for (placed, prepared) in network.images.iter().zip(&mut self.prepared) {
            placed.layer.prepare(&weights[placed.parameters.clone()], prepared);
        }
        self.gradient.resize(network.parameter_count(), 0.0);
    }
}

/// Locks a mutex, ignoring poisoning: a thread that panics leaves valid buffers behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
        let MapShape { height, width, channels } = self.network.input;
        let (count, h, w, c) = layout.shape().dims4()?;
        if (h, w, c) != (height, width, channels) {
            candle_core::bail!("the network requires images of {height}×{width}×{channels}, not {h}×{w}×{c}");
        }
        let images = slice(storage, layout)?;
        let logits = self.weights.with_slices(|weights| self.network.logits(weights, images))?;
        Ok((CpuStorage::F32(logits), (count, self.network.classes()).into()))
    }
}

#[cfg(test)]
mod tests;
