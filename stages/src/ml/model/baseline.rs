//! The network of the notebook that this pipeline is based on.

use super::Model;
use crate::ml::layer::LayerConfig::{self, Conv, Dense, Dropout, Flatten, MaxPool};

/// Two blocks of two convolutions, then two dense layers: 3,752,999 parameters for input 75×100×3 and 7 classes.
pub const MODEL: Model = Model {
    name: "baseline",
    summary: "two blocks of two 3×3 convolutions (32 and 64 filters) with max pooling and dropout, then dense 128 and the classes",
    layers,
};

fn layers(classes: usize) -> Vec<LayerConfig> {
    vec![
        Conv { filters: 32 },
        Conv { filters: 32 },
        MaxPool,
        Dropout { rate: 0.25 },
        Conv { filters: 64 },
        Conv { filters: 64 },
        MaxPool,
        Dropout { rate: 0.40 },
        Flatten,
        Dense { units: 128, relu: true },
        Dropout { rate: 0.5 },
        Dense { units: classes, relu: false },
    ]
}
