//! A network as an ONNX model: images as bytes in, probabilities out. Normalisation and softmax are inside.

use prost::Message;

use super::proto::{
    AttributeProto, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::ml::card::Card;
use crate::ml::graph::{Lowered, Step};
use crate::ml::network::Network;
use crate::ml::op::{Add, Conv, Depthwise, DirectConv, GlobalPool, MapOp, MaxPool, Pointwise, Window, WinogradConv};
use crate::ml::weights::{Weights, public_values};
use hamflow_kernels::network::Activation;

/// The version of the set of operators: the first in which everything here has its present form.
const OPSET: i64 = 17;

/// The first IR version with that set of operators.
const IR_VERSION: i64 = 8;

const F32: i32 = 1;
const U8: i32 = 2;

/// The name of the input.
pub const INPUT: &str = "images";

/// The name of the output.
pub const OUTPUT: &str = "probabilities";

/// Encodes a network. The error names an operation that ONNX does not have.
pub fn encode(card: &Card, network: &Network, weights: &Weights) -> Result<Vec<u8>, String> {
    let mut writer = Writer { lowered: network.lowered(), graph: GraphProto::default(), values: Vec::new() };
    writer.graph.name = card.model.clone();
    for (parameter, (name, tensor)) in network.tensors().zip(weights.iter()) {
        let values = public_values(parameter, tensor).map_err(|error| error.to_string())?;
        let shape = parameter.config.layout.public_shape(&parameter.config.shape);
        writer.constant(name, &shape, &values);
    }
    writer.image(card);
    for step in &network.lowered().steps {
        writer.step(step)?;
    }
    writer.head(network)?;
    let shape = |sizes: &[usize]| {
        let batch = DimensionProto { value: Some(Dimension::Name("batch".to_owned())) };
        let sizes = sizes.iter().map(|size| DimensionProto { value: Some(Dimension::Number(*size as i64)) });
        TensorShapeProto { dim: std::iter::once(batch).chain(sizes).collect() }
    };
    let value = |name: &str, elem_type: i32, sizes: &[usize], doc_string: String| ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type, shape: Some(shape(sizes)) }) }),
        doc_string,
    };
    let input = card.input;
    let labels: Vec<&str> = card.classes.iter().map(|class| &class.label[..]).collect();
    let mut graph = writer.graph;
    graph.input = vec![value(
        INPUT,
        U8,
        &[input.height, input.width, input.channels],
        "RGB images, prepared as the card says".to_owned(),
    )];
    graph.output = vec![value(OUTPUT, F32, &[labels.len()], format!("probabilities of {}", labels.join(", ")))];
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "hamflow".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: format!("{}; images are prepared with {}", card.model, card.preprocess),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: vec![entry("classes", labels.join(",")), entry("preprocess", card.preprocess.to_string())],
    };
    Ok(model.encode_to_vec())
}

struct Writer<'a> {
    lowered: &'a Lowered,
    graph: GraphProto,
    /// For each map, the name of its values, with normalisation and activation applied.
    values: Vec<String>,
}

fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|value| *value as i64).collect();
    AttributeProto { name: name.to_owned(), ints, r#type: 7, ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i, r#type: 2, ..AttributeProto::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f, r#type: 1, ..AttributeProto::default() }
}

impl Writer<'_> {
    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|size| *size as i64).collect(),
            data_type: F32,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
    }

    /// Adds a node with one output; returns its name.
    fn node(&mut self, name: &str, op_type: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let output = format!("{name}.output");
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
        output
    }

    /// From bytes in rows of pixels to normalised channels.
    fn image(&mut self, card: &Card) {
        let channels = card.input.channels;
        let numbers = |of: &dyn Fn(usize) -> f64| (0..channels).map(|channel| of(channel) as f32).collect::<Vec<f32>>();
        let normalisation = card.normalisation;
        self.constant("normalisation.mean", &[channels], &numbers(&|channel| normalisation.mean.of(channel)));
        let deviation = numbers(&|channel| normalisation.standard_deviation.of(channel));
        self.constant("normalisation.standard_deviation", &[channels], &deviation);
        let x = self.node("cast", "Cast", &[INPUT], vec![int("to", i64::from(F32))]);
        let x = self.node("centre", "Sub", &[&x, "normalisation.mean"], Vec::new());
        let x = self.node("scale", "Div", &[&x, "normalisation.standard_deviation"], Vec::new());
        let x = self.node("channels_first", "Transpose", &[&x], vec![ints("perm", &[0, 3, 1, 2])]);
        self.values.push(x);
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let inputs: Vec<String> = step.inputs.iter().map(|map| self.values[*map].clone()).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let name = if step.name.is_empty() { format!("map{}", step.output) } else { step.name.clone() };
        let value = self.operation(&name, &*step.op, &inputs, step)?;
        let map = &self.lowered.maps[step.output];
        let mut value = value;
        if let Some(norm) = map.norm {
            let norm = &self.lowered.norms[norm];
            let tensor = |tensor: &str| format!("{}.{tensor}", norm.name);
            let tensors = ["weight", "bias", "running_mean", "running_var"].map(tensor);
            let inputs: Vec<&str> = std::iter::once(&value[..]).chain(tensors.iter().map(String::as_str)).collect();
            let epsilon = vec![float("epsilon", norm.config.epsilon as f32)];
            value = self.node(&norm.name, "BatchNormalization", &inputs, epsilon);
        }
        value = self.activation(&name, value, map.activation);
        debug_assert_eq!(self.values.len(), step.output);
        self.values.push(value);
        Ok(())
    }

    fn activation(&mut self, name: &str, value: String, activation: Activation) -> String {
        match activation {
            Activation::Identity => value,
            Activation::Relu => self.node(&format!("{name}.relu"), "Relu", &[&value], Vec::new()),
            Activation::Relu6 => {
                if !self.graph.initializer.iter().any(|tensor| tensor.name == "six") {
                    self.constant("zero", &[], &[0.0]);
                    self.constant("six", &[], &[6.0]);
                }
                self.node(&format!("{name}.relu6"), "Clip", &[&value, "zero", "six"], Vec::new())
            }
            Activation::Silu => {
                let sigmoid = self.node(&format!("{name}.sigmoid"), "Sigmoid", &[&value], Vec::new());
                self.node(&format!("{name}.silu"), "Mul", &[&value, &sigmoid], Vec::new())
            }
        }
    }

    /// The values of an operation, without normalisation and activation.
    fn operation(&mut self, name: &str, op: &dyn MapOp, inputs: &[&str], step: &Step) -> Result<String, String> {
        let window = |window: Window| {
            vec![
                ints("kernel_shape", &[window.size; 2]),
                ints("strides", &[window.stride; 2]),
                ints("pads", &window.padding),
            ]
        };
        let weights = (format!("{}.weight", step.name), format!("{}.bias", step.name));
        if let Some((of_op, groups, has_bias)) = convolution(op) {
            let mut attributes = window(of_op);
            attributes.push(int("group", groups as i64));
            let bias = has_bias.then_some(&weights.1[..]);
            let inputs: Vec<&str> = [inputs[0], &weights.0].into_iter().chain(bias).collect();
            let value = self.node(name, "Conv", &inputs, attributes);
            return Ok(match op.downcast::<DirectConv>().is_some_and(DirectConv::has_bias_and_relu) {
                true => self.node(&format!("{name}.relu"), "Relu", &[&value], Vec::new()),
                false => value,
            });
        }
        if let Some(pool) = op.downcast::<MaxPool>() {
            return Ok(self.node(name, "MaxPool", inputs, window(pool.window())));
        }
        if op.downcast::<GlobalPool>().is_some() {
            return Ok(self.node(name, "GlobalAveragePool", inputs, Vec::new()));
        }
        if op.downcast::<Add>().is_some() {
            return Ok(self.node(name, "Add", inputs, Vec::new()));
        }
        match op.is_identity_in_inference() {
            true => Ok(inputs[0].to_owned()),
            false => Err(format!("`{name}` ({}) has no equivalent in ONNX", op.kind())),
        }
    }

    /// From the flattened map to probabilities.
    fn head(&mut self, network: &Network) -> Result<(), String> {
        let map = self.lowered.flattened;
        let mut x = self.values[map].clone();
        if self.lowered.maps[map].layout.shape.pixels() > 1 {
            // Here, the channels of a pixel are adjacent.
            x = self.node("channels_last", "Transpose", &[&x], vec![ints("perm", &[0, 2, 3, 1])]);
        }
        for row in &network.lowered().rows {
            let Some(op) = &row.op else {
                x = self.node(&row.name, "Flatten", &[&x], vec![int("axis", 1)]);
                continue;
            };
            let Some(dense) = op.downcast::<crate::ml::op::Dense>() else { continue };
            let (weight, bias) = (format!("{}.weight", row.name), format!("{}.bias", row.name));
            x = self.node(&row.name, "Gemm", &[&x, &weight, &bias], vec![int("transB", 1)]);
            if dense.has_relu() {
                x = self.node(&format!("{}.relu", row.name), "Relu", &[&x], Vec::new());
            }
        }
        self.node("softmax", "Softmax", &[&x], vec![int("axis", 1)]);
        let last = self.graph.node.last_mut().expect("a node was added");
        last.output = vec![OUTPUT.to_owned()];
        Ok(())
    }
}

/// The window of a convolution, its groups, and whether it has a bias.
fn convolution(op: &dyn MapOp) -> Option<(Window, usize, bool)> {
    if let Some(conv) = op.downcast::<Conv>() {
        return Some((conv.window(), conv.config().groups, conv.config().bias));
    }
    if let Some(conv) = op.downcast::<DirectConv>() {
        return Some((Window { size: 3, stride: 1, padding: [1; 4] }, 1, conv.has_bias_and_relu()));
    }
    if op.downcast::<WinogradConv>().is_some() {
        return Some((Window { size: 3, stride: 1, padding: [1; 4] }, 1, false));
    }
    if op.downcast::<Pointwise>().is_some() {
        return Some((Window { size: 1, stride: 1, padding: [0; 4] }, 1, false));
    }
    op.downcast::<Depthwise>().map(|conv| (conv.window(), conv.output().channels, false))
}
