//! The precision of products in training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The precision of products in convolutions and dense layers. Weights, sums and the optimiser are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision: 24 significant bits.
    #[default]
    F32,
    /// 11 significant bits with the range of f32, on NVIDIA tensor cores.
    Tf32,
    /// 8 significant bits with the range of f32, on NVIDIA tensor cores; feature maps are also stored as bf16.
    Bf16,
}
