//! Selects the device that trains.

use hamflow_stage_api::{ParamError, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ml::network::Network;
use crate::ml::precision::Precision;
use crate::ml::trainer::{Data, Engine, Processor, Recipe, first_weights};
use crate::ml::weights::Weights;

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

/// The device class of all CPUs, which give identical results.
const PROCESSOR: &str = "cpu";

/// The reason why CUDA is not available.
struct NoCuda {
    message: String,
    hint: &'static str,
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

    /// The device class; an error if the requested device is not available.
    pub fn class(self, precision: Precision) -> Result<String, ParamError> {
        if self == Self::Cpu {
            return Ok(PROCESSOR.to_owned());
        }
        let name = if self == Self::Cuda { "device" } else { "precision" };
        match cuda_class() {
            Ok(class) => Ok(class),
            Err(_) if self == Self::Auto && precision == Precision::F32 => Ok(PROCESSOR.to_owned()),
            Err(NoCuda { message, hint }) => Err(ParamError::new(name, message).hint(hint)),
        }
    }

    /// Creates the training engine; calls `note` if CUDA is supported by this build but not available.
    pub fn engine<'a>(
        self,
        precision: Precision,
        network: &'a Network,
        recipe: &Recipe,
        data: &Data<'_>,
        note: impl FnOnce(String),
    ) -> Result<Box<dyn Engine + 'a>, StageError> {
        let weights = first_weights(network, recipe)?;
        if self == Self::Cpu {
            return Ok(Box::new(Processor::new(network, weights)));
        }
        let is_wanted = self == Self::Cuda || precision != Precision::F32;
        match cuda_class() {
            Ok(_) => return cuda_engine(precision, network, recipe, data, weights),
            Err(NoCuda { message, hint }) if is_wanted => return Err(StageError::failed(message).hint(hint)),
            Err(NoCuda { message, .. }) if cfg!(feature = "cuda") => note(format!("training on the CPU: {message}")),
            Err(_) => {}
        }
        Ok(Box::new(Processor::new(network, weights)))
    }
}

fn not_built() -> NoCuda {
    NoCuda {
        message: "this build of hamflow does not support CUDA".to_owned(),
        hint: "build it with `cargo install --path . --features cuda` (docs/guide/cuda.md)",
    }
}

/// The device class of the CUDA device.
fn cuda_class() -> Result<String, NoCuda> {
    #[cfg(feature = "cuda")]
    return match crate::ml::cuda::usable() {
        Ok(usable) => Ok(usable.class()),
        Err(error) => Err(NoCuda { message: error.to_string(), hint: error.hint() }),
    };
    #[cfg(not(feature = "cuda"))]
    Err(not_built())
}

#[cfg(feature = "cuda")]
fn cuda_engine<'a>(
    precision: Precision,
    network: &'a Network,
    recipe: &Recipe,
    data: &Data<'_>,
    weights: Weights,
) -> Result<Box<dyn Engine + 'a>, StageError> {
    let gpu = crate::ml::cuda::Gpu::new(precision)?;
    Ok(Box::new(crate::ml::cuda::CudaEngine::new(gpu, network, recipe, precision, data, weights)?))
}

/// Never called, because without the feature there is no CUDA device class.
#[cfg(not(feature = "cuda"))]
fn cuda_engine<'a>(
    _precision: Precision,
    _network: &'a Network,
    _recipe: &Recipe,
    _data: &Data<'_>,
    _weights: Weights,
) -> Result<Box<dyn Engine + 'a>, StageError> {
    Err(StageError::bug(not_built().message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_available_and_computes_in_f32() {
        assert_eq!(Device::Cpu.class(Precision::F32).unwrap(), "cpu");
        for precision in [Precision::Tf32, Precision::Bf16] {
            let error = Device::Cpu.check(precision).unwrap_err();
            assert_eq!(
                (&error.path[..], &error.hint.unwrap()[..]),
                (&["precision".to_owned()][..], "remove `precision`, or set `device = \"cuda\"`")
            );
        }
    }

    #[test]
    fn errors_about_cuda_contain_instructions() {
        for (device, precision, name) in [
            (Device::Cuda, Precision::F32, "device"),
            (Device::Cuda, Precision::Bf16, "device"),
            (Device::Auto, Precision::Tf32, "precision"),
        ] {
            let Err(error) = device.check(precision).and_then(|()| device.class(precision).map(|_| ())) else {
                continue;
            };
            let hint = error.hint.unwrap();
            assert_eq!(error.path, [name]);
            match cfg!(feature = "cuda") {
                false => assert!(
                    error.message.contains("does not support CUDA") && hint.contains("--features cuda"),
                    "{hint}"
                ),
                true => assert!(error.message.contains("not available") && hint.contains("device = \"cpu\""), "{hint}"),
            }
        }
    }
}
