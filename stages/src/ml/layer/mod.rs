//! The layers that networks are made of, each with a forward and a backward pass of its own over slices.
//!
//! Backward is written by hand and not left to candle's autograd, which fills a tensor of zeros and adds to it for every
//! gradient: that costs as much as the convolutions themselves.

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

/// One layer as a model lists it; a model is a list of these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LayerConfig {
    /// A 3×3 convolution that keeps height and width, its bias, and ReLU.
    Conv {
        /// Channels that come out.
        filters: usize,
    },
    /// The largest value of each 2×2 window; an odd last row or column is left out.
    MaxPool,
    /// Sets values to 0 at random while training, and scales the others so that their mean stays.
    Dropout {
        /// The share that is dropped.
        rate: f64,
    },
    /// Rows of pixels of channels become one vector.
    Flatten,
    /// A product with a matrix, its bias, and ReLU if wanted.
    Dense {
        /// Values that come out.
        units: usize,
        /// Whether negative values become 0.
        relu: bool,
    },
}

/// How weights are drawn before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// All 0.
    Zeros,
    /// Uniform within ±√(6 / (fan in + fan out)) (Glorot, Bengio 2010), Keras's default.
    GlorotUniform {
        /// Values that one output sums over.
        fan_in: usize,
        /// Outputs that one value takes part in.
        fan_out: usize,
    },
}

/// A tensor of weights that a layer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterConfig {
    /// `weight` or `bias`.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it starts.
    pub initial: Initial,
}

impl ParameterConfig {
    /// The number of weights.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What all layers know during one pass.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// What the processor can do.
    pub level: Level,
    /// Seed and step in one number, while training; none where nothing is dropped.
    pub dropout: Option<u64>,
}

impl Pass {
    /// A pass that drops nothing.
    pub fn inference() -> Self {
        Self { level: Level::detect(), dropout: None }
    }
}

/// What a layer saw of one image on the way forward.
#[derive(Debug, Clone, Copy)]
pub struct ImageSeen<'a> {
    /// The layer's weights, in the order of its parameters.
    pub weights: &'a [&'a [f32]],
    /// What [`ImageLayer::prepare`] made of them.
    pub prepared: &'a [f32],
    /// Which image of the batch it is.
    pub image: usize,
    /// The bordered map that went in.
    pub input: &'a [f32],
    /// The bordered map that came out.
    pub output: &'a [f32],
}

/// A layer that sees one image at a time, as a map with a border of zeros.
pub trait ImageLayer: Send + Sync {
    /// The shape of what comes out.
    fn output(&self) -> MapShape;

    /// Its weights.
    fn parameters(&self) -> Vec<ParameterConfig> {
        Vec::new()
    }

    /// The weights in the order that backward wants; made once per step, for all images.
    fn prepare(&self, _weights: &[&[f32]], _prepared: &mut Vec<f32>) {}

    /// Writes the inside of the output's map.
    fn forward(&self, pass: &Pass, weights: &[&[f32]], image: usize, input: &[f32], output: &mut [f32]);

    /// Writes the gradients of the weights, all in one slice in the order of the parameters, and the inside of the input's
    /// if it is asked for. The output's gradient may be changed in its place.
    fn backward(
        &self,
        pass: &Pass,
        seen: ImageSeen<'_>,
        gradient: &mut [f32],
        weight_gradient: &mut [f32],
        input_gradient: Option<&mut [f32]>,
    );
}

/// What a layer saw of a batch on the way forward.
#[derive(Debug, Clone, Copy)]
pub struct RowsSeen<'a> {
    /// The layer's weights, in the order of its parameters.
    pub weights: &'a [&'a [f32]],
    /// Vectors in the batch.
    pub rows: usize,
    /// What went in, `[rows, inputs]`.
    pub input: &'a [f32],
    /// What came out, `[rows, outputs]`.
    pub output: &'a [f32],
}

/// A layer that sees a batch of vectors, and spreads its work over the threads of the current pool.
pub trait RowLayer: Send + Sync {
    /// Values per vector that come out.
    fn output(&self) -> usize;

    /// Its weights.
    fn parameters(&self) -> Vec<ParameterConfig> {
        Vec::new()
    }

    /// Writes the output of `rows` vectors.
    fn forward(&self, pass: &Pass, weights: &[&[f32]], rows: usize, input: &[f32], output: &mut [f32]);

    /// Writes the gradients of the weights, all in one slice in the order of the parameters, and of the input. The output's
    /// gradient may be changed in its place.
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
