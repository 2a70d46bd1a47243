//! Chooses the device of a training or an inference, and creates what computes on it.

use hamflow_stage_api::{ParamError, StageError};

use crate::augment::Draw;
#[cfg(not(feature = "cuda"))]
use crate::device::not_built;
use crate::device::{Device, NoCuda};
use crate::network::{HeatMap, Network};
use crate::normalisation::Normalisation;
use crate::precision::Precision;
use crate::recipe::Recipe;
use crate::trainer::{Data, Engine, Processor};
use crate::weights::Weights;

/// The device class of all CPUs, which give identical results.
pub const PROCESSOR: &str = "cpu";

/// A device with a precision, as parameters of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// The device.
    pub device: Device,
    /// The precision of products.
    pub precision: Precision,
}

impl From<&Recipe> for Choice {
    fn from(recipe: &Recipe) -> Self {
        Self { device: recipe.device, precision: recipe.precision }
    }
}

impl Choice {
    /// The device class; an error if the requested device is not available.
    pub fn class(self) -> Result<String, ParamError> {
        let Self { device, precision } = self;
        if device == Device::Cpu {
            return Ok(PROCESSOR.to_owned());
        }
        let name = if device == Device::Cuda { "device" } else { "precision" };
        match cuda_class(precision) {
            Ok(class) => Ok(class),
            Err(_) if !self.needs_cuda() => Ok(PROCESSOR.to_owned()),
            Err(NoCuda { message, hint }) => Err(ParamError::new(name, message).hint(hint)),
        }
    }

    /// The device class of an inference, which is the same on every CPU; then it is `None`.
    pub fn inference_class(self) -> Result<Option<String>, ParamError> {
        Ok(Some(self.class()?).filter(|class| class != PROCESSOR))
    }

    /// Whether nothing but CUDA will do.
    fn needs_cuda(self) -> bool {
        self.device == Device::Cuda || self.precision != Precision::F32
    }

    /// What `make` makes on the device, or `None` for the CPU. Calls `note` if this build supports CUDA but there is none,
    /// and `fell_back` if there is one that cannot be used now, for example because its memory is full.
    fn on_device<T>(
        self,
        make: impl FnOnce() -> Result<T, StageError>,
        note: impl FnOnce(String),
        fell_back: impl FnOnce(String),
    ) -> Result<Option<T>, StageError> {
        if self.device == Device::Cpu {
            return Ok(None);
        }
        match cuda_class(self.precision) {
            Ok(_) => match make() {
                Ok(made) => return Ok(Some(made)),
                Err(error) if self.needs_cuda() => return Err(error),
                Err(error) => fell_back(format!("computing on the CPU, although there is a device: {}", error.message)),
            },
            Err(NoCuda { message, hint }) if self.needs_cuda() => return Err(StageError::failed(message).hint(hint)),
            Err(NoCuda { message, .. }) if cfg!(feature = "cuda") => note(format!("computing on the CPU: {message}")),
            Err(_) => {}
        }
        Ok(None)
    }
}

/// Creates the engine that a recipe trains with, from initial weights.
///
/// Calls `note` if this build supports CUDA but there is none, and `fell_back` if there is one that cannot be used now.
pub fn engine<'a>(
    network: &'a Network,
    recipe: &Recipe,
    data: &Data<'_>,
    weights: Weights,
    note: impl FnOnce(String),
    fell_back: impl FnOnce(String),
) -> Result<Box<dyn Engine + 'a>, StageError> {
    let first = weights.snapshot().map_err(|error| StageError::bug(format!("cannot copy the weights: {error}")))?;
    let make = || cuda_engine(network, recipe, data, first);
    match Choice::from(recipe).on_device(make, note, fell_back)? {
        Some(engine) => Ok(engine),
        None => Ok(Box::new(Processor::new(network, recipe, weights)?)),
    }
}

/// A network on a device for inference. Without the feature `cuda` there is none.
#[cfg(feature = "cuda")]
pub struct DeviceModel(crate::cuda::CudaModel<crate::cuda::Gpu>);

/// A network on a device for inference. Without the feature `cuda` there is none.
#[cfg(not(feature = "cuda"))]
pub enum DeviceModel {}

#[cfg_attr(not(feature = "cuda"), expect(unused))]
impl DeviceModel {
    /// The logits of a view of at most [`INFERENCE_BATCH`](crate::trainer::INFERENCE_BATCH) images, `[images, classes]`.
    pub fn logits(&mut self, images: &[&[u8]], view: &Draw) -> Result<Vec<f32>, StageError> {
        #[cfg(feature = "cuda")]
        return Ok(self.0.logits(images, view)?);
        #[cfg(not(feature = "cuda"))]
        match *self {}
    }

    /// A heat map for each of at most as many images and its class; `None` if the network has no feature map.
    pub fn heat_maps(&mut self, images: &[(&[u8], usize)]) -> Result<Option<Vec<HeatMap>>, StageError> {
        #[cfg(feature = "cuda")]
        return Ok(self.0.heat_maps(images)?);
        #[cfg(not(feature = "cuda"))]
        match *self {}
    }
}

/// Uploads a network for inference to the device; `None` for the CPU. The rest is as for [`engine`].
pub fn inference(
    choice: Choice,
    network: &Network,
    weights: &Weights,
    normalisation: Normalisation,
    note: impl FnOnce(String),
    fell_back: impl FnOnce(String),
) -> Result<Option<DeviceModel>, StageError> {
    choice.on_device(|| cuda_model(network, weights, normalisation, choice.precision), note, fell_back)
}

#[cfg(feature = "cuda")]
fn cuda_model(
    network: &Network,
    weights: &Weights,
    normalisation: Normalisation,
    precision: Precision,
) -> Result<DeviceModel, StageError> {
    let values = weights
        .with_slices(|slices| slices.concat())
        .map_err(|error| StageError::bug(format!("cannot read the weights: {error}")))?;
    let gpu = crate::cuda::Gpu::new(precision)?;
    Ok(DeviceModel(crate::cuda::CudaModel::new(gpu, network, &values, normalisation, precision)?))
}

/// Never called, because without the feature there is no CUDA device class.
#[cfg(not(feature = "cuda"))]
fn cuda_model(
    _network: &Network,
    _weights: &Weights,
    _normalisation: Normalisation,
    _precision: Precision,
) -> Result<DeviceModel, StageError> {
    Err(StageError::bug(not_built().message))
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
        assert_eq!(Choice { device: Device::Cpu, ..Choice::default() }.class().unwrap(), "cpu");
    }

    #[test]
    fn errors_about_cuda_contain_instructions() {
        for (device, precision, name) in [
            (Device::Cuda, Precision::F32, "device"),
            (Device::Cuda, Precision::Bf16, "device"),
            (Device::Auto, Precision::Tf32, "precision"),
        ] {
            let choice = Choice { device, precision };
            let Err(error) = device.check(precision).and_then(|()| choice.class().map(|_| ())) else {
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
