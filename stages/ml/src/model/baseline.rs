//! The network of the notebook that this pipeline is based on.

use super::{Model, same_names};
use crate::graph::{Builder, Value};
use crate::normalisation::Normalisation;
use crate::op::ConvConfig;
use hamflow_kernels::network::Activation::Relu;

/// Two blocks of two convolutions, then two dense layers: 3,752,999 parameters for input 75×100×3 and 7 classes.
pub const MODEL: Model = Model {
    name: "baseline",
    summary: "two blocks of two 3×3 convolutions (32 and 64 filters) with max pooling and dropout, then dense 128 and the classes",
    build,
    // There are no public weights; those that hamflow exports name their own.
    normalisation: Normalisation::shared(127.5, 127.5),
    other_names: same_names,
};

fn build(b: &mut Builder<'_>, image: Value, classes: usize) -> Result<Value, String> {
    let x = conv(b, "conv1", image, 32)?;
    let x = conv(b, "conv2", x, 32)?;
    let x = b.max_pool("pool1", x)?;
    let x = b.dropout("dropout1", x, 0.25);
    let x = conv(b, "conv3", x, 64)?;
    let x = conv(b, "conv4", x, 64)?;
    b.features(x);
    let x = b.max_pool("pool2", x)?;
    let x = b.dropout("dropout2", x, 0.40);
    let x = b.flatten("flatten", x);
    let x = b.dense("dense1", x, 128);
    let x = b.activation(x, Relu);
    let x = b.row_dropout("dropout3", x, 0.5);
    Ok(b.dense("dense2", x, classes))
}

fn conv(b: &mut Builder<'_>, name: &str, x: Value, filters: usize) -> Result<Value, String> {
    let x = b.conv(name, x, ConvConfig::new(filters, 3).bias().glorot())?;
    Ok(b.activation(x, Relu))
}
