//! The operations of networks, each with its own forward and backward pass.
//!
//! | operation | file |
//! |---|---|
//! | convolution k×k with stride, padding, groups | `conv.rs`; with many weights, `conv_group.rs` |
//! | 3×3 convolution with stride 1, optionally with bias and ReLU | `direct_conv.rs` |
//! | 3×3 convolution of many channels with stride 1 | `winograd.rs` |
//! | depthwise convolution | `depthwise.rs` |
//! | 1×1 convolution | `pointwise.rs` |
//! | batch normalisation | `batch_norm.rs` |
//! | ReLU, ReLU6, SiLU | [`Activation`](hamflow_kernels::network::Activation) |
//! | max pooling | `max_pool.rs` |
//! | global average pooling | `global_pool.rs` |
//! | sum of two maps | `add.rs` |
//! | stochastic depth | `stochastic_depth.rs` |
//! | copy of a map with its normalisation and activation applied | `materialise.rs` |
//! | dropout | `dropout.rs` |
//! | dense layer | `dense.rs` |
//!
//! A [`MapOp`] processes the maps of one image, a [`RowOp`] the vectors of a batch. Normalisation and activation are no
//! operations of their own: they are the [`View`](hamflow_kernels::network::View) through which the next operation reads a map. So a convolution with
//! normalisation and activation reads and writes memory once.
//!
//! The backward passes are hand-written. candle's autograd allocates a zero tensor for every gradient and adds to it,
//! which takes as long as the convolutions themselves.

mod access;
mod add;
pub mod apply;
mod batch_norm;
mod conv;
mod conv_group;
mod dense;
mod depthwise;
mod direct_conv;
mod dropout;
mod global_pool;
mod materialise;
mod max_pool;
mod padding;
mod pointwise;
mod stochastic_depth;
mod winograd;

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

pub use access::{InputGradient, OutputGradient, Scratch, Sink, Source};
pub use add::Add;
pub use batch_norm::{BatchNorm, NormState};
pub use conv::{Conv, ConvConfig};
pub use dense::Dense;
pub use depthwise::Depthwise;
pub use direct_conv::DirectConv;
pub use dropout::{ImageDropout, RowDropout, mix};
pub use global_pool::GlobalPool;
pub use materialise::Materialise;
pub use max_pool::MaxPool;
pub use padding::Padding;
pub use pointwise::Pointwise;
pub use stochastic_depth::StochasticDepth;
pub use winograd::WinogradConv;

use hamflow_kernels::network::Level;
use hamflow_kernels::shape::MapShape;

/// The initialisation of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Uniform within ±√(6 / (fan in + fan out)) (Glorot, Bengio 2010), Keras's default.
    GlorotUniform {
        /// The number of inputs of one output.
        fan_in: usize,
        /// The number of outputs that one input contributes to.
        fan_out: usize,
    },
    /// Normal with mean 0 and variance 2 / fan out (He et al. 2015), torchvision's default for convolutions with ReLU.
    HeNormal {
        /// The number of outputs that one input contributes to.
        fan_out: usize,
    },
}

/// The order of a weight tensor's dimensions, here and in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    /// The same in both.
    Same,
    /// `[height, width, inputs, outputs]`; in PyTorch `[outputs, inputs, height, width]`.
    Conv,
    /// `[height, width, channels]`; in PyTorch `[channels, 1, height, width]`.
    Depthwise,
    /// `[inputs, outputs]`; in PyTorch `[outputs, inputs]`.
    Dense,
}

impl WeightLayout {
    /// The shape in PyTorch of a tensor with this shape here.
    pub fn public_shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Self::Conv, &[height, width, inputs, outputs]) => vec![outputs, inputs, height, width],
            (Self::Depthwise, &[height, width, channels]) => vec![channels, 1, height, width],
            (Self::Dense, &[inputs, outputs]) => vec![outputs, inputs],
            _ => shape.to_vec(),
        }
    }
}

/// The configuration of a weight tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterConfig {
    /// `weight`, `bias`, or the name of a statistic.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The initialisation.
    pub initial: Initial,
    /// The order of the dimensions.
    pub layout: WeightLayout,
}

impl ParameterConfig {
    /// A vector.
    pub fn vector(name: &'static str, length: usize, initial: Initial) -> Self {
        Self { name, shape: vec![length], initial, layout: WeightLayout::Same }
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The properties of a pass that all operations need.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// The CPU features to use.
    pub level: Level,
    /// Seed and step combined into one number, during training; `None` disables dropout and stochastic depth.
    pub dropout: Option<u64>,
    /// Whether batch normalisation uses the statistics of the batch, as in training, instead of the running ones.
    pub batch_statistics: bool,
}

impl Pass {
    /// A pass without dropout and with running statistics.
    pub fn inference() -> Self {
        Self { level: Level::detect(), dropout: None, batch_statistics: false }
    }

    /// A pass of training; `key` is derived from seed and step.
    pub fn training(key: u64) -> Self {
        Self { level: Level::detect(), dropout: Some(key), batch_statistics: true }
    }
}

/// An image within a pass.
#[derive(Debug, Clone, Copy)]
pub struct ImagePass<'a> {
    /// The pass.
    pub pass: &'a Pass,
    /// The index of the image in the batch.
    pub image: usize,
}

/// The weights of an operation.
#[derive(Debug, Clone, Copy)]
pub struct OpWeights<'a> {
    /// The tensors, in parameter order.
    pub tensors: &'a [&'a [f32]],
    /// What [`MapOp::prepare_forward`] made of them.
    pub forward: &'a [f32],
    /// What [`MapOp::prepare_backward`] made of them.
    pub backward: &'a [f32],
}

/// The gradients of an operation for one image, and what its backward pass knows about the forward pass.
#[derive(Debug)]
pub struct Backward<'a> {
    /// The inputs.
    pub inputs: &'a [Source<'a>],
    /// The output and its gradient.
    pub output: &'a mut OutputGradient<'a>,
    /// Where the gradients of all weights go, in parameter order. `None` if the weights are frozen, or if their gradient is
    /// computed by [`MapOp::weight_rows`] afterwards; then the gradient of the output must be left resolved.
    pub weight_gradient: Option<&'a mut [f32]>,
    /// The gradients of the inputs; `None` for those that are not needed.
    pub input_gradients: &'a mut [Option<InputGradient<'a>>],
}

/// What an operation requires of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requires {
    /// Nothing: it reads them through their view.
    Anything,
    /// The values are stored: there is neither normalisation nor activation to apply.
    Values,
    /// The values are stored, and input and output have a border of zeros.
    Border,
}

/// The window of a convolution or of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The height and width.
    pub size: usize,
    /// The distance between windows.
    pub stride: usize,
    /// The padding above, to the left, below, to the right.
    pub padding: [usize; 4],
}

impl Window {
    /// The window of an operation with this padding above and to the left.
    pub(crate) fn new(size: usize, stride: usize, [above, left]: [usize; 2], shapes: [MapShape; 2]) -> Self {
        let [input, output] = shapes;
        let after =
            |before: usize, input: usize, output: usize| ((output - 1) * stride + size).saturating_sub(input + before);
        let below = after(above, input.height, output.height);
        Self { size, stride, padding: [above, left, below, after(left, input.width, output.width)] }
    }
}

/// An operation on the maps of one image.
pub trait MapOp: Any + Debug + Send + Sync {
    /// A short description, e.g. `conv 3×3`.
    fn kind(&self) -> String;

    /// The shape of the output.
    fn output(&self) -> MapShape;

    /// The configurations of its weights.
    fn parameters(&self) -> Vec<ParameterConfig> {
        Vec::new()
    }

    /// Whether it only copies in inference.
    fn is_identity_in_inference(&self) -> bool {
        false
    }

    /// What the operation requires of its inputs.
    fn requires(&self) -> Requires {
        Requires::Anything
    }

    /// The number of values that [`MapOp::prepare_forward`] and [`MapOp::prepare_backward`] write, at most.
    fn prepared_len(&self) -> usize {
        2 * self.parameters().iter().map(ParameterConfig::len).sum::<usize>()
    }

    /// Rearranges the weights for the forward pass; called once per step, for all images.
    fn prepare_forward(&self, _level: Level, _weights: &[&[f32]], _prepared: &mut Vec<f32>) {}

    /// Rearranges the weights for the backward pass; called once per step, for all images.
    fn prepare_backward(&self, _level: Level, _weights: &[&[f32]], _prepared: &mut Vec<f32>) {}

    /// Writes the output.
    fn forward(
        &self,
        pass: &ImagePass<'_>,
        weights: OpWeights<'_>,
        inputs: &[Source<'_>],
        output: &mut Sink<'_>,
        scratch: &mut Scratch,
    );

    /// Writes the gradients of the inputs and of the weights.
    fn backward(&self, pass: &ImagePass<'_>, weights: OpWeights<'_>, backward: Backward<'_>, scratch: &mut Scratch);

    /// Adds one image's contribution to some rows of the gradient of the only weight tensor, which is
    /// `[rows, outputs]`. `gradient` is the resolved gradient of the output, in the layout of the output.
    fn weight_rows(
        &self,
        _level: Level,
        _rows: Range<usize>,
        _input: &Source<'_>,
        _output: (hamflow_kernels::shape::Layout, &[f32]),
        _weight_gradient: &mut [f32],
        _scratch: &mut Scratch,
    ) {
        unreachable!("only operations with one weight tensor of many values have split gradients")
    }

    /// The length of a row of the weight tensor, if [`MapOp::weight_rows`] is implemented.
    fn weight_row_len(&self) -> Option<usize> {
        None
    }

    /// Whether it processes the only input of several images at once, with the methods below.
    fn is_grouped(&self) -> bool {
        false
    }

    /// Writes the outputs of several images.
    fn forward_group(
        &self,
        _pass: &Pass,
        _weights: OpWeights<'_>,
        _inputs: &[Source<'_>],
        _outputs: &mut [Sink<'_>],
        _scratch: &mut Scratch,
    ) {
        unreachable!("the operation is not grouped")
    }

    /// Resolves the gradients of the outputs of several images, and writes the gradients of the inputs unless `inputs` is
    /// empty.
    fn backward_group(
        &self,
        _pass: &Pass,
        _weights: OpWeights<'_>,
        _outputs: &mut [OutputGradient<'_>],
        _inputs: &mut [InputGradient<'_>],
        _scratch: &mut Scratch,
    ) {
        unreachable!("the operation is not grouped")
    }

    /// Writes the gradient of all weights over several images. `outputs` are the resolved gradients of
    /// the outputs, in the layout of the output.
    fn group_weight_gradient(
        &self,
        _level: Level,
        _inputs: &[Source<'_>],
        _outputs: &[(hamflow_kernels::shape::Layout, &[f32])],
        _weight_gradient: &mut [f32],
        _scratch: &mut Scratch,
    ) {
        unreachable!("the operation is not grouped")
    }
}

impl dyn MapOp {
    /// The operation, if it is of this type.
    pub fn downcast<T: MapOp>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl dyn RowOp {
    /// The operation, if it is of this type.
    pub fn downcast<T: RowOp>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// What a row operation's backward pass needs about the forward pass of a batch.
#[derive(Debug, Clone, Copy)]
pub struct RowsSeen<'a> {
    /// The weights, in parameter order.
    pub weights: &'a [&'a [f32]],
    /// The number of vectors in the batch.
    pub rows: usize,
    /// The input, `[rows, inputs]`.
    pub input: &'a [f32],
    /// The output, `[rows, outputs]`.
    pub output: &'a [f32],
}

/// An operation on a batch of vectors, on the threads of the current pool.
pub trait RowOp: Any + Debug + Send + Sync {
    /// A short description, e.g. `dense`.
    fn kind(&self) -> String;

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
