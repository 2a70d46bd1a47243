//! The table of models: a new model is one file and one line here.

mod baseline;

use crate::ml::layer::LayerConfig;

/// A network architecture.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The name in `pipeline.toml`.
    pub name: &'static str,
    /// One sentence for the reference documentation.
    pub summary: &'static str,
    /// The layers for a given number of classes; the last one outputs one value per class.
    pub layers: fn(usize) -> Vec<LayerConfig>,
}

/// Every model, in documentation order.
pub const MODELS: &[Model] = &[baseline::MODEL];

/// Looks up a model by name.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}
