//! Detects the usable NVIDIA device and libraries, once per process.

use std::fmt::Write;
use std::sync::OnceLock;

use cudarc::cublas::sys as cublas;
use cudarc::cudnn::sys as cudnn;
use cudarc::driver::{result as driver_calls, sys as driver};
use cudarc::nvrtc::sys as nvrtc;

use super::CudaError;

/// The minimum CUDA version that the driver must support, in the driver's encoding; required by the libraries.
const MIN_DRIVER: i32 = 13_000;

/// A usable device and the library versions that the results depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable {
    /// The compute capability, e.g. 9 and 0.
    pub capability: (i32, i32),
    /// The version of NVRTC, which compiles the kernels.
    pub nvrtc: (i32, i32),
    /// The version of cuBLAS.
    pub cublas: (i32, i32, i32),
    /// The version of cuDNN in its own encoding, e.g. 91900.
    pub cudnn: usize,
}

impl Usable {
    /// The device class in a key, e.g. `cuda:9.0:cublas-13.1.0,cudnn-9.19.0,nvrtc-13.0`.
    ///
    /// Each library may round differently in another version. The driver does not affect the results.
    pub fn class(&self) -> String {
        let Self { capability, nvrtc, cublas, cudnn } = self;
        let mut class = format!("cuda:{}.{}:", capability.0, capability.1);
        let cudnn = (cudnn / 10_000, cudnn / 100 % 100, cudnn % 100);
        for (name, version) in [
            ("cublas", format!("{}.{}.{}", cublas.0, cublas.1, cublas.2)),
            ("cudnn", format!("{}.{}.{}", cudnn.0, cudnn.1, cudnn.2)),
            ("nvrtc", format!("{}.{}", nvrtc.0, nvrtc.1)),
        ] {
            let comma = if class.ends_with(':') { "" } else { "," };
            write!(class, "{comma}{name}-{version}").expect("writing to a string cannot fail");
        }
        class
    }
}

/// The usable device, or the reason why there is none. Allocates no device memory.
pub fn usable() -> Result<&'static Usable, CudaError> {
    static USABLE: OnceLock<Result<Usable, CudaError>> = OnceLock::new();
    USABLE.get_or_init(look).as_ref().map_err(Clone::clone)
}

fn look() -> Result<Usable, CudaError> {
    // cudarc panics if a library is missing, so the libraries are checked before the first call.
    // SAFETY: loading these libraries only runs their initialisers.
    let found = unsafe {
        [
            (driver::is_culib_present(), "libcuda.so", "NVIDIA's driver"),
            (nvrtc::is_culib_present(), "libnvrtc.so", "nvidia-cuda-nvrtc"),
            (cublas::is_culib_present(), "libcublas.so", "nvidia-cublas"),
            (cudnn::is_culib_present(), "libcudnn.so", "nvidia-cudnn-cu13"),
        ]
    };
    if let Some((_, name, from)) = found.iter().find(|(is_present, ..)| !is_present) {
        return Err(CudaError::NoLibrary { name, from });
    }
    let refused = |error: driver_calls::DriverError| CudaError::NoDevice { why: format!("{error:?}") };
    driver_calls::init().map_err(refused)?;
    let mut version = 0;
    // SAFETY: the pointer is valid for writes.
    unsafe { driver::cuDriverGetVersion(&mut version) }.result().map_err(refused)?;
    if version < MIN_DRIVER {
        return Err(CudaError::OldDriver { found: format!("{}.{}", version / 1000, version % 1000 / 10) });
    }
    let device = driver_calls::device::get(0).map_err(refused)?;
    let attribute = |which| {
        // SAFETY: the driver returned the device.
        unsafe { driver_calls::device::get_attribute(device, which) }.map_err(refused)
    };
    type Attribute = driver::CUdevice_attribute;
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let property = |which| {
        let mut value = 0;
        // SAFETY: the pointer is valid for writes.
        let status = unsafe { cublas::cublasGetProperty(which, &mut value) };
        status.result().map(|()| value).map_err(|error| CudaError::failed("query the version of cuBLAS", error))
    };
    type Property = cublas::libraryPropertyType;
    Ok(Usable {
        capability,
        nvrtc: super::compile::version()?,
        cublas: (
            property(Property::MAJOR_VERSION)?,
            property(Property::MINOR_VERSION)?,
            property(Property::PATCH_LEVEL)?,
        ),
        cudnn: cudarc::cudnn::result::get_version(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_class_names_the_device_and_the_libraries() {
        let usable = Usable { capability: (9, 0), nvrtc: (13, 0), cublas: (13, 1, 0), cudnn: 91_900 };
        assert_eq!(usable.class(), "cuda:9.0:cublas-13.1.0,cudnn-9.19.0,nvrtc-13.0");
    }

    #[test]
    fn missing_requirements_are_named_with_a_hint() {
        let Err(error) = usable() else { return };
        let said = error.to_string();
        assert!(said.starts_with("CUDA is not available: "), "{said}");
        assert!(error.hint().contains("device = \"cpu\""), "{}", error.hint());
    }
}
