//! How exact the products of training are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The numbers that convolutions and dense layers multiply; weights, sums and the optimiser are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 24 bits.
    #[default]
    F32,
    /// 11 bits with f32's range, on NVIDIA's tensor cores.
    Tf32,
    /// 8 bits with f32's range, on NVIDIA's tensor cores; the maps are kept so, too.
    Bf16,
}
