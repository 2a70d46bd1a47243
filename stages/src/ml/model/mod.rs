//! The table of models: a new model is one file and one line here.

mod baseline;

use crate::ml::layer::LayerConfig;

/// A network that can be trained.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The name in `pipeline.toml`.
    pub name: &'static str,
    /// One sentence for the reference.
    pub summary: &'static str,
    /// Its layers, for a number of classes; the last has one value per class.
    pub layers: fn(usize) -> Vec<LayerConfig>,
}

/// Every model, in the order of the reference.
pub const MODELS: &[Model] = &[baseline::MODEL];

/// The model of a name.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}
