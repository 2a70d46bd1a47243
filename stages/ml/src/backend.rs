//! Creates the engine that trains on the device of a recipe.

use hamflow_stage_api::{ParamError, StageError};

#[cfg(not(feature = "cuda"))]
use crate::device::not_built;
use crate::device::{Device, NoCuda};
use crate::network::Network;
use crate::precision::Precision;
use crate::recipe::Recipe;
use crate::trainer::{Data, Engine, Processor};
use crate::weights::Weights;

/// The device class of all CPUs, which give identical results.
pub const PROCESSOR: &str = "cpu";

/// The device class of a recipe; an error if the requested device is not available.
pub fn class(recipe: &Recipe) -> Result<String, ParamError> {
    let Recipe { device, precision, .. } = *recipe;
    if device == Device::Cpu {
        return Ok(PROCESSOR.to_owned());
    }
    let name = if device == Device::Cuda { "device" } else { "precision" };
    match cuda_class(precision) {
        Ok(class) => Ok(class),
        Err(_) if device == Device::Auto && precision == Precision::F32 => Ok(PROCESSOR.to_owned()),
        Err(NoCuda { message, hint }) => Err(ParamError::new(name, message).hint(hint)),
    }
}

/// Creates the engine that a recipe trains with, from initial weights; calls `note` if CUDA is supported by this build but not available.
pub fn engine<'a>(
    network: &'a Network,
    recipe: &Recipe,
    data: &Data<'_>,
    weights: Weights,
    note: impl FnOnce(String),
) -> Result<Box<dyn Engine + 'a>, StageError> {
    let Recipe { device, precision, .. } = *recipe;
    if device == Device::Cpu {
        return Ok(Box::new(Processor::new(network, recipe, weights)?));
    }
    let is_wanted = device == Device::Cuda || precision != Precision::F32;
    match cuda_class(precision) {
        Ok(_) => return cuda_engine(network, recipe, data, weights),
        Err(NoCuda { message, hint }) if is_wanted => return Err(StageError::failed(message).hint(hint)),
        Err(NoCuda { message, .. }) if cfg!(feature = "cuda") => note(format!("training on the CPU: {message}")),
        Err(_) => {}
    }
    Ok(Box::new(Processor::new(network, recipe, weights)?))
}

/// The device class of the CUDA device.
fn cuda_class(#[cfg_attr(not(feature = "cuda"), expect(unused))] precision: Precision) -> Result<String, NoCuda> {
    #[cfg(feature = "cuda")]
    return match crate::cuda::usable(precision) {
        Ok(usable) => Ok(usable.class()),
        Err(error) => Err(NoCuda { message: error.to_string(), hint: error.hint() }),
    };
    #[cfg(not(feature = "cuda"))]
    Err(not_built())
}

#[cfg(feature = "cuda")]
fn cuda_engine<'a>(
    network: &'a Network,
    recipe: &Recipe,
    data: &Data<'_>,
    weights: Weights,
) -> Result<Box<dyn Engine + 'a>, StageError> {
    let precision = recipe.precision;
    let gpu = crate::cuda::Gpu::new(precision)?;
    Ok(Box::new(crate::cuda::CudaEngine::new(gpu, network, recipe, precision, data, weights)?))
}

/// Never called, because without the feature there is no CUDA device class.
#[cfg(not(feature = "cuda"))]
fn cuda_engine<'a>(
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
    fn the_cpu_is_always_available() {
        assert_eq!(class(&Recipe { device: Device::Cpu, ..Recipe::default() }).unwrap(), "cpu");
    }

    #[test]
    fn errors_about_cuda_contain_instructions() {
        for (device, precision, name) in [
            (Device::Cuda, Precision::F32, "device"),
            (Device::Cuda, Precision::Bf16, "device"),
            (Device::Auto, Precision::Tf32, "precision"),
        ] {
            let recipe = Recipe { device, precision, ..Recipe::default() };
            let Err(error) = device.check(precision).and_then(|()| class(&recipe).map(|_| ())) else {
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
