//! The table of models: a new model is one file and one line here.

mod baseline;
mod efficientnet_lite;
mod mobilenet_v2;
mod resnet;

use crate::graph::{Builder, Graph, Value};
use crate::network::Network;
use crate::normalisation::Normalisation;
use hamflow_kernels::shape::MapShape;

/// A network architecture.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The name in `pipeline.toml`.
    pub name: &'static str,
    /// One sentence for the reference documentation.
    pub summary: &'static str,
    /// Adds the operations from the image to one value per class.
    pub build: fn(&mut Builder<'_>, Value, usize) -> Result<Value, String>,
    /// The normalisation of images for public weights.
    pub normalisation: Normalisation,
    /// The names of tensors in another public implementation, given those of this one.
    pub other_names: fn(&[String]) -> Vec<String>,
}

/// No other names.
fn same_names(names: &[String]) -> Vec<String> {
    names.to_vec()
}

/// Every model, in documentation order.
pub const MODELS: &[Model] = &[
    baseline::MODEL,
    efficientnet_lite::LITE0,
    efficientnet_lite::LITE1,
    efficientnet_lite::LITE2,
    resnet::RESNET_18,
    mobilenet_v2::MODEL,
];

/// Looks up a model by name.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

impl Model {
    /// The network for images of shape `input`; the error is the end of a sentence.
    pub fn network(&self, input: MapShape, classes: usize) -> Result<Network, String> {
        Network::new(Graph::build(input, |builder, image| (self.build)(builder, image, classes))?)
    }
}

#[cfg(test)]
mod tests;
