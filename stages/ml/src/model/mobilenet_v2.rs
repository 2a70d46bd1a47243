//! MobileNetV2 (Sandler et al. 2018). Names of weights are torchvision's.

use super::{Model, same_names};
use crate::graph::{Builder, Value};
use crate::normalisation::Normalisation;
use crate::op::ConvConfig;
use hamflow_kernels::network::Activation::Relu6;

/// MobileNetV2 with width 1.
pub const MODEL: Model = Model {
    name: "mobilenet-v2",
    summary: "MobileNetV2: 17 inverted residual blocks with depthwise convolutions, 2.2 million parameters",
    build,
    normalisation: Normalisation::IMAGENET,
    other_names: same_names,
};

const EPSILON: f64 = 1e-5;

/// Expansion, output filters, blocks, stride of each stage.
const STAGES: [[usize; 4]; 7] =
    [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

fn build(b: &mut Builder<'_>, image: Value, classes: usize) -> Result<Value, String> {
    let mut x = conv(&mut b.scope("features.0"), image, ConvConfig::new(32, 3).stride(2))?;
    let mut number = 1;
    for [expansion, filters, count, stride] in STAGES {
        for index in 0..count {
            let stride = if index == 0 { stride } else { 1 };
            x = block(&mut b.scope(format_args!("features.{number}")), x, expansion, filters, stride)?;
            number += 1;
        }
    }
    let x = conv(&mut b.scope(format_args!("features.{number}")), x, ConvConfig::new(1280, 1))?;
    b.features(x);
    let x = b.global_pool("global_pool", x);
    let x = b.flatten("flatten", x);
    let x = b.row_dropout("classifier.0", x, 0.2);
    Ok(b.dense("classifier.1", x, classes))
}

/// An inverted residual block, without the expansion if it is 1.
fn block(b: &mut Builder<'_>, input: Value, expansion: usize, filters: usize, stride: usize) -> Result<Value, String> {
    let inputs = b.shape(input).channels;
    let inner = inputs * expansion;
    let mut x = input;
    let mut index = 0;
    if expansion > 1 {
        x = conv(&mut b.scope("conv.0"), x, ConvConfig::new(inner, 1))?;
        index = 1;
    }
    let depthwise = ConvConfig::new(inner, 3).stride(stride).depthwise();
    x = conv(&mut b.scope(format_args!("conv.{index}")), x, depthwise)?;
    let mut last = b.scope("conv");
    x = last.conv(&format!("{}", index + 1), x, ConvConfig::new(filters, 1))?;
    x = last.batch_norm(&format!("{}", index + 2), x, EPSILON);
    match stride == 1 && inputs == filters {
        true => b.add("add", [x, input]),
        false => Ok(x),
    }
}

/// A convolution with batch normalisation and ReLU6.
fn conv(b: &mut Builder<'_>, x: Value, config: ConvConfig) -> Result<Value, String> {
    let x = b.conv("0", x, config)?;
    let x = b.batch_norm("1", x, EPSILON);
    Ok(b.activation(x, Relu6))
}
