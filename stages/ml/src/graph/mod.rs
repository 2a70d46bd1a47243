//! The graph of a network: named nodes, in an order in which every node comes after its inputs.

mod builder;
mod lower;

pub use builder::{Builder, Value};
pub use lower::{Lowered, Map, Norm, Row, Step};

use crate::op::{BatchNorm, ConvConfig, MapOp, RowOp};
use hamflow_kernels::network::Activation;
use hamflow_kernels::shape::MapShape;

/// What a node computes.
#[derive(Debug)]
pub enum NodeOp {
    /// The images.
    Image,
    /// A convolution.
    Conv(ConvConfig),
    /// Batch normalisation.
    BatchNorm(BatchNorm),
    /// An activation.
    Activation(Activation),
    /// Another operation on maps.
    Map(Box<dyn MapOp>),
    /// The values of a map as a vector.
    Flatten,
    /// A dense layer with this number of units.
    Dense(usize),
    /// Another operation on vectors.
    Row(Box<dyn RowOp>),
}

/// A node of a graph.
#[derive(Debug)]
pub struct Node {
    /// The name; weights are called `name.weight` and so on.
    pub name: String,
    /// The operation.
    pub op: NodeOp,
    /// The values that it reads.
    pub inputs: Vec<Value>,
    /// The shape of its output.
    pub shape: MapShape,
}

/// The nodes of a network.
#[derive(Debug)]
pub struct Graph {
    /// The nodes; the first one is the image.
    pub nodes: Vec<Node>,
    /// The last feature map, which Grad-CAM explains.
    pub features: Option<Value>,
}

impl Graph {
    /// Builds a graph for images of shape `input`; the error is the end of a sentence.
    pub fn build(
        input: MapShape,
        build: impl FnOnce(&mut Builder<'_>, Value) -> Result<Value, String>,
    ) -> Result<Self, String> {
        let image = Node { name: "image".to_owned(), op: NodeOp::Image, inputs: Vec::new(), shape: input };
        let mut graph = Self { nodes: vec![image], features: None };
        let mut builder = Builder::new(&mut graph);
        let image = builder.image();
        let output = build(&mut builder, image)?;
        let last = graph.nodes.last().filter(|_| output.index() == graph.nodes.len() - 1);
        match last {
            Some(Node { op: NodeOp::Dense(_), .. }) => Ok(graph),
            _ => Err("a network must end with a dense layer".to_owned()),
        }
    }

    /// The nodes that read a node.
    fn users(&self, index: usize) -> Vec<usize> {
        let reads = |node: &Node| node.inputs.iter().any(|input| input.index() == index);
        (0..self.nodes.len()).filter(|user| reads(&self.nodes[*user])).collect()
    }
}
