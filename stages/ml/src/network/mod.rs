//! A network for one input size: names, shapes, the forward pass, and the gradients of a batch.

mod backward;
mod forward;
mod grad_cam;
mod inference;
mod plan;
mod trainable;
mod workspace;

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Lowered};
use crate::loss::{Loss, Target};
use crate::op::{NormState, Source};
pub use crate::weights::Parameter;
use hamflow_kernels::network::{Activation, View};
use hamflow_kernels::shape::{Layout, MapShape};
use inference::Memory;
use plan::Plan;

pub use grad_cam::{GradCam, HeatMap};
pub use inference::Predictor;
pub use workspace::Workspace;

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
    /// Numbers that are added to the logits of each class before the loss; empty for none.
    pub offsets: &'a [f32],
}

/// The operations of a network with their shapes, without the weights.
///
/// Operations on maps process one image at a time, on one thread. Between two of them, all images of a batch are waited
/// for only if a batch normalisation lies between. The operations on vectors, at the end, process the whole batch.
#[derive(Debug)]
pub struct Network {
    lowered: Lowered,
    plan: Plan,
    layers: Vec<LayerSummary>,
    /// Memory of predictions that is not in use.
    memory: Mutex<Vec<Memory>>,
}

impl Network {
    /// The operations of a graph; the error describes what does not fit.
    pub fn new(graph: Graph) -> Result<Self, String> {
        let lowered = Lowered::new(graph)?;
        let (plan, layers) = (Plan::new(&lowered), summary(&lowered));
        Ok(Self { lowered, plan, layers, memory: Mutex::default() })
    }

    /// The shape of an input image.
    pub fn input(&self) -> MapShape {
        self.lowered.maps[0].layout.shape
    }

    /// The steps, normalisations and weights.
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// The map that heat maps explain, if there is one.
    pub fn features(&self) -> Option<usize> {
        self.lowered.features
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.lowered.rows.last().map_or(0, |row| row.output)
    }

    /// The names, shapes and initialisations of the trainable weights, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.lowered.parameters
    }

    /// The running statistics of the normalisations, in order. Among the weights, they follow the trainable ones.
    pub fn statistics(&self) -> &[Parameter] {
        &self.lowered.statistics
    }

    /// The trainable weights and the running statistics.
    pub fn tensors(&self) -> impl Iterator<Item = &Parameter> + Clone {
        self.parameters().iter().chain(self.statistics())
    }

    /// The number of trainable weights.
    pub fn parameter_count(&self) -> usize {
        self.lowered.parameter_count()
    }

    /// Whether there is batch normalisation.
    pub fn is_normalised(&self) -> bool {
        !self.lowered.norms.is_empty()
    }

    /// The name of the last dense layer.
    pub fn head(&self) -> &str {
        self.lowered.rows.last().map_or("", |row| &row.name)
    }

    /// The layer summary.
    pub fn layers(&self) -> &[LayerSummary] {
        &self.layers
    }

    /// The map that the head flattens.
    fn flattened(&self) -> (usize, Layout) {
        (self.lowered.flattened, self.lowered.maps[self.lowered.flattened].layout)
    }

    /// How a map is read.
    fn view<'a>(&self, map: usize, norms: &'a [NormState]) -> View<'a> {
        let map = &self.lowered.maps[map];
        let affine = map.norm.map(|norm| [&norms[norm].scale[..], &norms[norm].shift[..]]);
        View { channels: map.layout.shape.channels, affine, activation: map.activation }
    }

    fn source<'a>(&self, map: usize, stored: &'a [f32], norms: &'a [NormState]) -> Source<'a> {
        let layout = self.lowered.maps[map].layout;
        Source { layout, stored: &stored[..layout.len()], view: self.view(map, norms) }
    }
}

/// One row per operation, with the normalisation and activation that follow it.
fn summary(lowered: &Lowered) -> Vec<LayerSummary> {
    let mut layers = Vec::new();
    for step in lowered.steps.iter().filter(|step| !step.name.is_empty()) {
        let map = &lowered.maps[step.output];
        let MapShape { height, width, channels } = map.layout.shape;
        let (mut kind, mut parameters) = (step.op.kind(), step.gradient.len());
        if let Some(norm) = map.norm {
            kind.push_str(", batch norm");
            parameters += lowered.norms[norm].gradient.len();
        }
        kind.push_str(match map.activation {
            Activation::Identity => "",
            Activation::Relu => ", ReLU",
            Activation::Relu6 => ", ReLU6",
            Activation::Silu => ", SiLU",
        });
        layers.push(LayerSummary { name: step.name.clone(), kind, output: vec![height, width, channels], parameters });
    }
    for row in &lowered.rows {
        let kind = row.op.as_ref().map_or_else(|| "flatten".to_owned(), |op| op.kind());
        let parameters = row.gradient.len();
        layers.push(LayerSummary { name: row.name.clone(), kind, output: vec![row.output], parameters });
    }
    layers
}

#[cfg(test)]
mod tests;
