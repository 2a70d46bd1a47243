//! Builds graphs: one method per operation, with names below a scope.

use super::{Graph, Node, NodeOp};
use crate::op::{
    Add, BatchNorm, Conv, ConvConfig, GlobalPool, ImageDropout, MapOp, MaxPool, RowDropout, RowOp, StochasticDepth,
};
use hamflow_kernels::network::Activation;
use hamflow_kernels::shape::MapShape;

/// The output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(usize);

impl Value {
    /// The index of the node.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Adds nodes to a graph. Errors are ends of sentences.
pub struct Builder<'g> {
    graph: &'g mut Graph,
    scope: String,
}

impl<'g> Builder<'g> {
    pub(super) fn new(graph: &'g mut Graph) -> Self {
        Self { graph, scope: String::new() }
    }

    /// The image.
    pub fn image(&self) -> Value {
        Value(0)
    }

    /// A builder whose names begin with `name` and a dot.
    pub fn scope(&mut self, name: impl std::fmt::Display) -> Builder<'_> {
        Builder { scope: format!("{}{name}.", self.scope), graph: self.graph }
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> MapShape {
        self.graph.nodes[value.0].shape
    }

    /// A convolution.
    pub fn conv(&mut self, name: &str, input: Value, config: ConvConfig) -> Result<Value, String> {
        let shape = Conv::new(self.shape(input), config)?.output();
        Ok(self.push(name, NodeOp::Conv(config), vec![input], shape))
    }

    /// Batch normalisation.
    pub fn batch_norm(&mut self, name: &str, input: Value, epsilon: f64) -> Value {
        let shape = self.shape(input);
        self.push(name, NodeOp::BatchNorm(BatchNorm::new(shape.channels, epsilon)), vec![input], shape)
    }

    /// An activation, which has no name of its own.
    pub fn activation(&mut self, input: Value, activation: Activation) -> Value {
        let shape = self.shape(input);
        self.push("", NodeOp::Activation(activation), vec![input], shape)
    }

    /// Max pooling over 2×2 windows.
    pub fn max_pool(&mut self, name: &str, input: Value) -> Result<Value, String> {
        let op = MaxPool::halving(self.shape(input))?;
        Ok(self.map(name, input, op))
    }

    /// Max pooling over 3×3 windows at a distance of 2.
    pub fn overlapping_max_pool(&mut self, name: &str, input: Value) -> Result<Value, String> {
        let op = MaxPool::overlapping(self.shape(input))?;
        Ok(self.map(name, input, op))
    }

    /// The mean of each channel.
    pub fn global_pool(&mut self, name: &str, input: Value) -> Value {
        let op = GlobalPool::new(self.shape(input));
        self.map(name, input, op)
    }

    /// The sum of two values.
    pub fn add(&mut self, name: &str, inputs: [Value; 2]) -> Result<Value, String> {
        let op = Add::new(inputs.map(|input| self.shape(input)))?;
        let shape = op.output();
        Ok(self.push(name, NodeOp::Map(Box::new(op)), inputs.to_vec(), shape))
    }

    /// Stochastic depth; nothing if the rate is 0.
    pub fn stochastic_depth(&mut self, name: &str, input: Value, rate: f64) -> Value {
        if rate == 0.0 {
            return input;
        }
        let op = StochasticDepth::new(self.shape(input), rate, self.number());
        self.map(name, input, op)
    }

    /// Dropout of the values of a map.
    pub fn dropout(&mut self, name: &str, input: Value, rate: f64) -> Value {
        let op = ImageDropout::new(self.shape(input), rate, self.number());
        self.map(name, input, op)
    }

    /// Marks the last feature map, which Grad-CAM explains.
    pub fn features(&mut self, value: Value) {
        self.graph.features = Some(value);
    }

    /// The values of a map as a vector. Only dense layers and dropout can follow.
    pub fn flatten(&mut self, name: &str, input: Value) -> Value {
        let shape = MapShape::vector(self.shape(input).len());
        self.push(name, NodeOp::Flatten, vec![input], shape)
    }

    /// A dense layer.
    pub fn dense(&mut self, name: &str, input: Value, units: usize) -> Value {
        self.push(name, NodeOp::Dense(units), vec![input], MapShape::vector(units))
    }

    /// Dropout of the values of a vector.
    pub fn row_dropout(&mut self, name: &str, input: Value, rate: f64) -> Value {
        let op = RowDropout::new(self.shape(input).len(), rate, self.number());
        let shape = MapShape::vector(op.output());
        self.push(name, NodeOp::Row(Box::new(op)), vec![input], shape)
    }

    fn map(&mut self, name: &str, input: Value, op: impl MapOp) -> Value {
        let shape = op.output();
        self.push(name, NodeOp::Map(Box::new(op)), vec![input], shape)
    }

    fn push(&mut self, name: &str, op: NodeOp, inputs: Vec<Value>, shape: MapShape) -> Value {
        self.graph.nodes.push(Node { name: format!("{}{name}", self.scope), op, inputs, shape });
        Value(self.graph.nodes.len() - 1)
    }

    /// The number of the next operation, from which random operations derive their numbers. Normalisation and
    /// activations do not count.
    fn number(&self) -> u64 {
        let counts = |node: &&Node| !matches!(node.op, NodeOp::Image | NodeOp::BatchNorm(_) | NodeOp::Activation(_));
        self.graph.nodes.iter().filter(counts).count() as u64
    }
}
