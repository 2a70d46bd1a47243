//! ResNet-18 (He et al. 2016). Names of weights are torchvision's.

use super::{Model, same_names};
use crate::graph::{Builder, Value};
use crate::normalisation::Normalisation;
use crate::op::ConvConfig;
use hamflow_kernels::network::Activation::Relu;

/// ResNet-18.
pub const RESNET_18: Model = Model {
    name: "resnet-18",
    summary: "ResNet-18: eight residual blocks of two 3×3 convolutions, 11.2 million parameters",
    build,
    normalisation: Normalisation::IMAGENET,
    other_names: same_names,
};

const EPSILON: f64 = 1e-5;

fn build(b: &mut Builder<'_>, image: Value, classes: usize) -> Result<Value, String> {
    let x = b.conv("conv1", image, ConvConfig::new(64, 7).stride(2))?;
    let x = b.batch_norm("bn1", x, EPSILON);
    let x = b.activation(x, Relu);
    let mut x = b.overlapping_max_pool("maxpool", x)?;
    for (stage, filters) in (1..).zip([64, 128, 256, 512]) {
        for index in 0..2 {
            let stride = if stage > 1 && index == 0 { 2 } else { 1 };
            x = block(&mut b.scope(format_args!("layer{stage}.{index}")), x, filters, stride)?;
        }
    }
    b.features(x);
    let x = b.global_pool("avgpool", x);
    let x = b.flatten("flatten", x);
    Ok(b.dense("fc", x, classes))
}

fn block(b: &mut Builder<'_>, input: Value, filters: usize, stride: usize) -> Result<Value, String> {
    let x = b.conv("conv1", input, ConvConfig::new(filters, 3).stride(stride))?;
    let x = b.batch_norm("bn1", x, EPSILON);
    let x = b.activation(x, Relu);
    let x = b.conv("conv2", x, ConvConfig::new(filters, 3))?;
    let x = b.batch_norm("bn2", x, EPSILON);
    let shortcut = match stride == 1 && b.shape(input).channels == filters {
        true => input,
        false => {
            let shortcut = b.conv("downsample.0", input, ConvConfig::new(filters, 1).stride(stride))?;
            b.batch_norm("downsample.1", shortcut, EPSILON)
        }
    };
    let x = b.add("add", [x, shortcut])?;
    Ok(b.activation(x, Relu))
}
