//! EfficientNet-Lite (Google 2020): EfficientNet (Tan, Le 2019) without squeeze-and-excitation and with ReLU6.
//!
//! Names of weights are timm's (`tf_efficientnet_lite0`), the hyperparameters those of Google's
//! `efficientnet_lite_builder.py`.

use super::Model;
use crate::graph::{Builder, Value};
use crate::normalisation::Normalisation;
use crate::op::ConvConfig;
use hamflow_kernels::network::Activation::Relu6;

/// EfficientNet-Lite0.
pub const LITE0: Model = Model {
    name: "efficientnet-lite0",
    summary: "EfficientNet-Lite0: 16 inverted residual blocks with depthwise convolutions, 3.4 million parameters",
    build: |b, image, classes| build(b, image, classes, [1.0, 1.0, 0.2]),
    normalisation: NORMALISATION,
    other_names,
};

/// EfficientNet-Lite1.
pub const LITE1: Model = Model {
    name: "efficientnet-lite1",
    summary: "EfficientNet-Lite1: as Lite0 with 23 blocks, 4.1 million parameters",
    build: |b, image, classes| build(b, image, classes, [1.0, 1.1, 0.2]),
    normalisation: NORMALISATION,
    other_names,
};

/// EfficientNet-Lite2.
pub const LITE2: Model = Model {
    name: "efficientnet-lite2",
    summary: "EfficientNet-Lite2: as Lite1 with 1.1 times the filters, 4.8 million parameters",
    build: |b, image, classes| build(b, image, classes, [1.1, 1.2, 0.3]),
    normalisation: NORMALISATION,
    other_names,
};

/// Google's: bytes less 127, divided by 128.
const NORMALISATION: Normalisation = Normalisation::shared(127.0, 128.0);

const EPSILON: f64 = 1e-3;

/// The rate of stochastic depth of the last block; that of the others rises linearly.
const DROP_CONNECT: f64 = 0.2;

/// Blocks, kernel, stride, expansion, output filters of each stage.
const STAGES: [[usize; 5]; 7] = [
    [1, 3, 1, 1, 16],
    [2, 3, 2, 6, 24],
    [2, 5, 2, 6, 40],
    [3, 3, 2, 6, 80],
    [3, 5, 1, 6, 112],
    [4, 5, 2, 6, 192],
    [1, 3, 1, 6, 320],
];

/// `factors`: the factors of width and depth, and the dropout rate.
fn build(b: &mut Builder<'_>, image: Value, classes: usize, factors: [f64; 3]) -> Result<Value, String> {
    let [width, depth, dropout] = factors;
    // Lite variants keep the first and last stage and the filters of the stem and the head.
    let blocks = |stage: usize, count: usize| match stage {
        0 | 6 => count,
        _ => libm::ceil(depth * count as f64) as usize,
    };
    let all: usize = STAGES.iter().enumerate().map(|(stage, [count, ..])| blocks(stage, *count)).sum();
    let x = conv(b, ["conv_stem", "bn1"], image, ConvConfig::new(32, 3).stride(2).same(), true)?;
    let (mut x, mut number) = (x, 0);
    for (stage, [count, kernel, stride, expansion, filters]) in STAGES.into_iter().enumerate() {
        let filters = scaled(filters, width);
        for index in 0..blocks(stage, count) {
            let rate = DROP_CONNECT * number as f64 / all as f64;
            let stride = if index == 0 { stride } else { 1 };
            let mut b = b.scope(format_args!("blocks.{stage}.{index}"));
            x = block(&mut b, x, Block { kernel, stride, expansion, filters, rate })?;
            number += 1;
        }
    }
    let x = conv(b, ["conv_head", "bn2"], x, ConvConfig::new(1280, 1), true)?;
    b.features(x);
    let x = b.global_pool("global_pool", x);
    let x = b.flatten("flatten", x);
    let x = b.row_dropout("dropout", x, dropout);
    Ok(b.dense("classifier", x, classes))
}

/// The number of filters times `width`, rounded to a multiple of 8, but not down by more than 10 %.
fn scaled(filters: usize, width: f64) -> usize {
    let exact = filters as f64 * width;
    let rounded = ((exact + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
}

struct Block {
    kernel: usize,
    stride: usize,
    expansion: usize,
    filters: usize,
    /// The rate of stochastic depth.
    rate: f64,
}

/// An inverted residual block (Sandler et al. 2018), without the expansion if it is 1.
fn block(b: &mut Builder<'_>, input: Value, block: Block) -> Result<Value, String> {
    let Block { kernel, stride, expansion, filters, rate } = block;
    let inputs = b.shape(input).channels;
    let inner = inputs * expansion;
    let depthwise = ConvConfig::new(inner, kernel).stride(stride).same().depthwise();
    let project = ConvConfig::new(filters, 1);
    let x = match expansion {
        1 => {
            let x = conv(b, ["conv_dw", "bn1"], input, depthwise, true)?;
            conv(b, ["conv_pw", "bn2"], x, project, false)?
        }
        _ => {
            let x = conv(b, ["conv_pw", "bn1"], input, ConvConfig::new(inner, 1), true)?;
            let x = conv(b, ["conv_dw", "bn2"], x, depthwise, true)?;
            conv(b, ["conv_pwl", "bn3"], x, project, false)?
        }
    };
    if stride > 1 || inputs != filters {
        return Ok(x);
    }
    let x = b.stochastic_depth("drop_path", x, rate);
    b.add("add", [x, input])
}

/// A convolution with batch normalisation, and ReLU6 if `relu`.
fn conv(b: &mut Builder<'_>, names: [&str; 2], x: Value, config: ConvConfig, relu: bool) -> Result<Value, String> {
    let x = b.conv(names[0], x, config)?;
    let x = b.batch_norm(names[1], x, EPSILON);
    Ok(if relu { b.activation(x, Relu6) } else { x })
}

/// The names of the package efficientnet_lite_pytorch, which numbers blocks through all stages.
fn other_names(names: &[String]) -> Vec<String> {
    let mut blocks: Vec<&str> = Vec::new();
    let mut renamed = Vec::with_capacity(names.len());
    let expands = |block: &str| {
        names.iter().any(|name| name.strip_prefix(block).is_some_and(|rest| rest.starts_with(".conv_pwl")))
    };
    for name in names {
        let (layer, tensor) = name.rsplit_once('.').unwrap_or((name, ""));
        let other = match layer.rsplit_once('.') {
            None => match layer {
                "conv_stem" => "_conv_stem".to_owned(),
                "bn1" => "_bn0".to_owned(),
                "conv_head" => "_conv_head".to_owned(),
                "bn2" => "_bn1".to_owned(),
                "classifier" => "_fc".to_owned(),
                other => other.to_owned(),
            },
            Some((block, layer)) => {
                let number = blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
                    blocks.push(block);
                    blocks.len() - 1
                });
                let other = match (layer, expands(block)) {
                    ("conv_pw", true) => "_expand_conv",
                    ("bn1", true) => "_bn0",
                    ("conv_dw", _) => "_depthwise_conv",
                    ("bn2", true) | ("bn1", false) => "_bn1",
                    ("conv_pwl", _) | ("conv_pw", false) => "_project_conv",
                    ("bn3", _) | ("bn2", false) => "_bn2",
                    (other, _) => other,
                };
                format!("_blocks.{number}.{other}")
            }
        };
        renamed.push(format!("{other}.{tensor}"));
    }
    renamed
}
