//! The device that trains, as a parameter.

use hamflow_stage_api::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::precision::Precision;

/// The device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// CUDA if this build supports it and it is available, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// The reason why CUDA is not available.
pub(super) struct NoCuda {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl Device {
    /// Rejects settings that this build does not support on any machine.
    pub fn check(self, precision: Precision) -> Result<(), ParamError> {
        if self == Self::Cpu && precision != Precision::F32 {
            return Err(ParamError::new("precision", "`precision` must be `f32` on the CPU")
                .hint("remove `precision`, or set `device = \"cuda\"`"));
        }
        let needs_cuda = self == Self::Cuda || precision != Precision::F32;
        if needs_cuda && !cfg!(feature = "cuda") {
            let name = if self == Self::Cuda { "device" } else { "precision" };
            let NoCuda { message, hint } = not_built();
            return Err(ParamError::new(name, message).hint(hint));
        }
        Ok(())
    }
}

/// The reason of a build without CUDA.
pub(super) fn not_built() -> NoCuda {
    NoCuda {
        message: "this build of hamflow does not support CUDA".to_owned(),
        hint: "build it with `cargo install --path . --features cuda` (docs/guide/cuda.md)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_f32() {
        for precision in [Precision::Tf32, Precision::Bf16] {
            let error = Device::Cpu.check(precision).unwrap_err();
            assert_eq!(
                (&error.path[..], &error.hint.unwrap()[..]),
                (&["precision".to_owned()][..], "remove `precision`, or set `device = \"cuda\"`")
            );
        }
    }
}
