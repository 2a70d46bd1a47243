//! The layers of networks, each with its own forward and backward pass on slices.
//!
//! The backward passes are hand-written. candle's autograd allocates a zero tensor for every gradient and adds to it,
//! which takes as long as the convolutions themselves.

mod conv;
mod dense;
mod dropout;
mod max_pool;

pub use conv::Conv;
pub use dense::Dense;
pub use dropout::{ImageDropout, RowDropout, mix};
pub use max_pool::MaxPool;

use crate::ml::kernels::Level;
use crate::ml::shape::MapShape;

/// The configuration of a layer; a model is a list of these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LayerConfig {
    /// A 3×3 convolution with "same" padding, bias and ReLU.
    Conv {
        /// The number of output channels.
        filters: usize,
    },
    /// Max pooling over 2×2 windows; an odd last row or column is ignored.
    MaxPool,
    /// Dropout: during training, sets random values to 0 and scales the others to preserve the mean.
    Dropout {
        /// The fraction that is dropped.
        rate: f64,
    },
    /// Flattens a feature map to a vector.
    Flatten,
    /// A dense layer with bias, optionally followed by ReLU.
    Dense {
        /// The number of outputs.
        units: usize,
        /// Whether ReLU is applied.
        relu: bool,
    },
}

/// The initialisation of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// All zeros.
    Zeros,
    /// Uniform within ±√(6 / (fan in + fan out)) (Glorot, Bengio 2010), Keras's default.
    GlorotUniform {
        /// The number of inputs of one output.
        fan_in: usize,
        /// The number of outputs that one input contributes to.
        fan_out: usize,
    },
}

/// The configuration of a weight tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterConfig {
    /// `weight` or `bias`.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The initialisation.
    pub initial: Initial,
}

impl ParameterConfig {
    /// The number of weights.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The properties of a pass that all layers need.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// The CPU features to use.
    pub level: Level,
    /// Seed and step combined into one number, during training; `None` disables dropout.
    pub dropout: Option<u64>,
}

impl Pass {
    /// A pass without dropout.
    pub fn inference() -> Self {
        Self { level: Level::detect(), dropout: None }
    }
}

/// What a layer's backward pass needs about the forward pass of one image.
#[derive(Debug, Clone, Copy)]
pub struct ImageSeen<'a> {
    /// The layer's weights, in parameter order.
    pub weights: &'a [&'a [f32]],
    /// The output of [`ImageLayer::prepare`].
    pub prepared: &'a [f32],
    /// The index of the image in the batch.
    pub image: usize,
    /// The bordered input map.
    pub input: &'a [f32],
    /// The bordered output map.
    pub output: &'a [f32],
}

/// A layer that processes one image at a time, as a map with a border of zeros.
pub trait ImageLayer: Send + Sync {
    /// The shape of the output.
    fn output(&self) -> MapShape;

    /// The configurations of its weights.
    fn parameters(&self) -> Vec<ParameterConfig> {
        Vec::new()
    }

    /// Rearranges the weights for the backward pass; called once per step, for all images.
    fn prepare(&self, _weights: &[&[f32]], _prepared: &mut Vec<f32>) {}

    /// Writes the interior of the output map.
    fn forward(&self, pass: &Pass, weights: &[&[f32]], image: usize, input: &[f32], output: &mut [f32]);

    /// Writes the gradients of all weights to one slice in parameter order, and, if requested, the interior of the
    /// gradient of the input. May modify the gradient of the output in place.
    fn backward(
        &self,
        pass: &Pass,
        seen: ImageSeen<'_>,
        gradient: &mut [f32],
        weight_gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
    );
}

/// What a layer's backward pass needs about the forward pass of a batch.
#[derive(Debug, Clone, Copy)]
pub struct RowsSeen<'a> {
    /// The layer's weights, in parameter order.
    pub weights: &'a [&'a [f32]],
    /// The number of vectors in the batch.
    pub rows: usize,
    /// The input, `[rows, inputs]`.
    pub input: &'a [f32],
    /// The output, `[rows, outputs]`.
    pub output: &'a [f32],
}

/// A layer that processes a batch of vectors on the threads of the current pool.
pub trait RowLayer: Send + Sync {
    /// The number of outputs per vector.
    fn output(&self) -> usize;

    /// The configurations of its weights.
    fn parameters(&self) -> Vec<ParameterConfig> {
        Vec::new()
    }

    /// Writes the output of `rows` vectors.
    fn forward(&self, pass: &Pass, weights: &[&[f32]], rows: usize, input: &[f32], output: &mut [f32]);

    /// Writes the gradients of all weights to one slice in parameter order, and the gradient of the input. May modify
    /// the gradient of the output in place.
    fn backward(
        &self,
        pass: &Pass,
        seen: RowsSeen<'_>,
        gradient: &mut [f32],
        weight_gradient: &mut [f32],
        input_gradient: &mut [f32],
    );
}

#[cfg(test)]
mod tests;
