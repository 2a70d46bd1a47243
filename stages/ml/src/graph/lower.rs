//! Turns a graph into steps on stored maps: fusion.
//!
//! - Normalisation and activation become the view through which the next operations read a map, so they cost no pass
//!   over memory of their own. Where a map is also read without them, or where an operation needs stored values, a copy
//!   is made first.
//! - A 3×3 convolution with bias and ReLU, and a dense layer with ReLU, apply them to their sums.

use std::collections::HashMap;
use std::ops::Range;

use super::{Graph, Node, NodeOp, Value};
use crate::op::{BatchNorm, ConvConfig, Dense, DirectConv, MapOp, Materialise, ParameterConfig, Requires, RowOp};
use crate::weights::Parameter;
use hamflow_kernels::network::Activation;
use hamflow_kernels::shape::{Layout, MapShape};

/// A stored map.
#[derive(Debug, Clone)]
pub struct Map {
    /// The layout.
    pub layout: Layout,
    /// The normalisation that is applied when it is read.
    pub norm: Option<usize>,
    /// The activation that is applied when it is read.
    pub activation: Activation,
    /// The steps that read it, in order.
    pub consumers: Vec<usize>,
}

/// An operation on stored maps.
#[derive(Debug)]
pub struct Step {
    /// The name.
    pub name: String,
    /// The operation.
    pub op: Box<dyn MapOp>,
    /// The indices of the maps that it reads.
    pub inputs: Vec<usize>,
    /// The index of the map that it writes.
    pub output: usize,
    /// The indices of its weights.
    pub parameters: Range<usize>,
    /// The range of its weights' gradients.
    pub gradient: Range<usize>,
}

/// A normalisation.
#[derive(Debug)]
pub struct Norm {
    /// The name.
    pub name: String,
    /// The configuration.
    pub config: BatchNorm,
    /// The map that is normalised.
    pub map: usize,
    /// The index of γ among the weights; β follows.
    pub parameters: usize,
    /// The range of the gradients of γ and β.
    pub gradient: Range<usize>,
    /// The index of the running mean among the statistics; the variance follows.
    pub statistics: usize,
}

/// An operation on vectors.
#[derive(Debug)]
pub struct Row {
    /// The name.
    pub name: String,
    /// The operation; `None` for the first one, which turns a map into a vector.
    pub op: Option<Box<dyn RowOp>>,
    /// The indices of its weights.
    pub parameters: Range<usize>,
    /// The range of its weights' gradients.
    pub gradient: Range<usize>,
    /// The number of outputs.
    pub output: usize,
}

/// The steps of a network.
#[derive(Debug, Default)]
pub struct Lowered {
    /// The maps; the first one is the image.
    pub maps: Vec<Map>,
    /// The operations on maps, in order.
    pub steps: Vec<Step>,
    /// The normalisations, in order.
    pub norms: Vec<Norm>,
    /// The operations on vectors, in order; the first one flattens map `flattened`.
    pub rows: Vec<Row>,
    /// The map that is flattened.
    pub flattened: usize,
    /// The last feature map.
    pub features: Option<usize>,
    /// The trainable weights, in order.
    pub parameters: Vec<Parameter>,
    /// The running statistics, in order.
    pub statistics: Vec<Parameter>,
}

impl Lowered {
    /// Lowers a graph; the error is the end of a sentence.
    pub fn new(graph: Graph) -> Result<Self, String> {
        let users = (0..graph.nodes.len()).map(|index| graph.users(index)).collect();
        let is_relu = |node: &Node| matches!(node.op, NodeOp::Activation(Activation::Relu));
        let relu = graph.nodes.iter().map(is_relu).collect();
        let features = graph.features;
        let mut lowering = Lowering {
            users,
            relu,
            lowered: Self::default(),
            maps: Vec::new(),
            copies: HashMap::new(),
            vectors: Vec::new(),
        };
        for node in graph.nodes {
            let map = lowering.node(node)?;
            lowering.maps.push(map);
        }
        let Lowering { mut lowered, maps, .. } = lowering;
        lowered.features = features.map(|value| maps[value.index()]);
        lowered.place_borders();
        Ok(lowered)
    }

    /// The number of trainable weights.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |parameter| parameter.range.end)
    }

    /// Gives maps a border where an operation needs it, and lists the consumers.
    fn place_borders(&mut self) {
        for (index, step) in self.steps.iter().enumerate() {
            step.inputs.iter().for_each(|map| self.maps[*map].consumers.push(index));
            if step.op.requires() == Requires::Border {
                for map in step.inputs.iter().copied().chain([step.output]) {
                    let map = &mut self.maps[map];
                    map.layout = Layout::bordered(map.layout.shape);
                }
            }
        }
    }

    fn parameters_of(&mut self, name: &str, configs: Vec<ParameterConfig>) -> (Range<usize>, Range<usize>) {
        let (first, start) = (self.parameters.len(), self.parameter_count());
        for config in configs {
            let start = self.parameter_count();
            let range = start..start + config.len();
            self.parameters.push(Parameter { name: format!("{name}.{}", config.name), config, range });
        }
        (first..self.parameters.len(), start..self.parameter_count())
    }
}

struct Lowering {
    /// The nodes that read each node.
    users: Vec<Vec<usize>>,
    /// Which nodes are ReLUs.
    relu: Vec<bool>,
    lowered: Lowered,
    /// The map of each node so far; meaningless for nodes on vectors.
    maps: Vec<usize>,
    /// Copies of maps with their view applied.
    copies: HashMap<usize, usize>,
    /// Whether each node so far is a vector.
    vectors: Vec<bool>,
}

impl Lowering {
    /// Lowers a node; returns the map that holds its output.
    fn node(&mut self, Node { name, op, inputs, shape }: Node) -> Result<usize, String> {
        let index = self.maps.len();
        let is_vector = inputs.iter().any(|value| self.vectors[value.index()]);
        self.vectors.push(is_vector || matches!(op, NodeOp::Flatten));
        if is_vector && matches!(op, NodeOp::Conv(_) | NodeOp::Map(_) | NodeOp::BatchNorm(_) | NodeOp::Flatten) {
            return Err(format!("`{name}` must come before `flatten`"));
        }
        let input = inputs.first().map_or(0, |value| self.maps[value.index()]);
        Ok(match op {
            NodeOp::Image => self.map(shape),
            NodeOp::Conv(config) => {
                let op = self.conv(index, self.lowered.maps[input].layout.shape, config)?;
                self.step(name, op, &inputs)
            }
            NodeOp::Map(op) => self.step(name, op, &inputs),
            NodeOp::BatchNorm(config) => {
                let map =
                    self.viewable(input, inputs[0], |map| map.norm.is_none() && map.activation == Activation::Identity);
                self.norm(name, config, map);
                map
            }
            NodeOp::Activation(activation) => {
                if self.is_fused(index, inputs[0]) {
                    return Ok(input);
                }
                if is_vector {
                    return Err(format!(
                        "after `flatten`, only ReLU directly after a dense layer is possible, not {activation:?}"
                    ));
                }
                let map = self.viewable(input, inputs[0], |map| map.activation == Activation::Identity);
                self.lowered.maps[map].activation = activation;
                map
            }
            NodeOp::Flatten => {
                self.lowered.flattened = input;
                self.row(name, None, shape.len());
                input
            }
            NodeOp::Dense(units) => {
                let inputs = self.lowered.rows.last().ok_or("a dense layer must come after `flatten`")?.output;
                let dense = Dense::new(inputs, units, self.relu_of(index));
                self.row(name, Some(Box::new(dense)), units);
                input
            }
            NodeOp::Row(op) => {
                let output = op.output();
                self.row(name, Some(op), output);
                input
            }
        })
    }

    /// Whether a node is only read by a ReLU.
    fn relu_of(&self, index: usize) -> bool {
        matches!(self.users[index][..], [user] if self.relu[user])
    }

    /// The operation for a convolution, which applies bias and ReLU itself if it can.
    fn conv(&mut self, index: usize, input: MapShape, config: ConvConfig) -> Result<Box<dyn MapOp>, String> {
        match config.is_direct(input) && config.bias && self.relu_of(index) {
            true => Ok(Box::new(DirectConv::new(input, config, true))),
            false => config.build(input),
        }
    }

    /// Whether the producer of a ReLU's input applies the ReLU itself.
    fn is_fused(&self, index: usize, input: Value) -> bool {
        if !self.relu[index] || self.users[input.index()].len() > 1 {
            return false;
        }
        let map = self.maps[input.index()];
        let producer =
            self.lowered.steps.iter().find(|step| step.output == map && self.lowered.maps[map].norm.is_none());
        let of_map = producer.and_then(|step| step.op.downcast::<DirectConv>());
        let of_row = self.lowered.rows.last().and_then(|row| row.op.as_ref()?.downcast::<Dense>());
        match self.vectors[input.index()] {
            true => of_row.is_some_and(Dense::has_relu),
            false => of_map.is_some_and(DirectConv::has_bias_and_relu),
        }
    }

    fn map(&mut self, shape: MapShape) -> usize {
        let layout = Layout::plain(shape);
        self.lowered.maps.push(Map { layout, norm: None, activation: Activation::Identity, consumers: Vec::new() });
        self.lowered.maps.len() - 1
    }

    /// Adds a step; returns its output.
    fn step(&mut self, name: String, op: Box<dyn MapOp>, inputs: &[Value]) -> usize {
        let inputs = inputs.iter().map(|value| self.maps[value.index()]);
        let inputs: Vec<usize> = match op.requires() {
            Requires::Anything => inputs.collect(),
            Requires::Values | Requires::Border => {
                inputs.collect::<Vec<_>>().into_iter().map(|map| self.values(map)).collect()
            }
        };
        self.push(name, op, inputs)
    }

    fn push(&mut self, name: String, op: Box<dyn MapOp>, inputs: Vec<usize>) -> usize {
        let output = self.map(op.output());
        let (parameters, gradient) = self.lowered.parameters_of(&name, op.parameters());
        self.lowered.steps.push(Step { name, op, inputs, output, parameters, gradient });
        output
    }

    /// The map itself if its values are stored, otherwise a copy with its view applied.
    fn values(&mut self, map: usize) -> usize {
        let Map { layout, norm, activation, .. } = self.lowered.maps[map];
        if norm.is_none() && activation == Activation::Identity {
            return map;
        }
        match self.copies.get(&map) {
            Some(copy) => *copy,
            None => {
                let copy = self.push(String::new(), Box::new(Materialise::new(layout.shape)), vec![map]);
                self.copies.insert(map, copy);
                copy
            }
        }
    }

    /// A map whose view may be changed: the map itself if nothing else reads it and `fits` allows, otherwise a copy.
    fn viewable(&mut self, map: usize, value: Value, fits: impl Fn(&Map) -> bool) -> usize {
        if map > 0 && self.users[value.index()].len() == 1 && fits(&self.lowered.maps[map]) {
            return map;
        }
        let shape = self.lowered.maps[map].layout.shape;
        self.push(String::new(), Box::new(Materialise::new(shape)), vec![map])
    }

    fn norm(&mut self, name: String, config: BatchNorm, map: usize) {
        let (parameters, gradient) = self.lowered.parameters_of(&name, config.parameters());
        let statistics = self.lowered.statistics.len();
        for config in config.statistics() {
            let name = format!("{name}.{}", config.name);
            self.lowered.statistics.push(Parameter { name, config, range: 0..0 });
        }
        self.lowered.maps[map].norm = Some(self.lowered.norms.len());
        let parameters = parameters.start;
        self.lowered.norms.push(Norm { name, config, map, parameters, gradient, statistics });
    }

    fn row(&mut self, name: String, op: Option<Box<dyn RowOp>>, output: usize) {
        let configs = op.as_ref().map_or_else(Vec::new, |op| op.parameters());
        let (parameters, gradient) = self.lowered.parameters_of(&name, configs);
        self.lowered.rows.push(Row { name, op, parameters, gradient, output });
    }
}
