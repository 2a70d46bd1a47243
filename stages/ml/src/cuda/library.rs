//! Detects the usable NVIDIA device and libraries, once per process.

use std::fmt::Write;
use std::sync::OnceLock;

use cudarc::cublas::sys as cublas;
use cudarc::cudnn::sys as cudnn;
use cudarc::driver::{result as driver_calls, sys as driver};
use cudarc::nvrtc::sys as nvrtc;

use super::CudaError;
use crate::precision::Precision;

/// The variable with which NVIDIA's libraries round factors of f32 products, or do not, whatever a program asks for.
const TF32_OVERRIDE: &str = "NVIDIA_TF32_OVERRIDE";

/// The device and the library versions, on which the results depend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable {
    /// The name of the device.
    pub name: String,
    /// The compute capability, e.g. 9 and 0.
    pub capability: (i32, i32),
    /// The number of multiprocessors.
    pub multiprocessors: i32,
    /// The CUDA version that the driver supports.
    pub driver: (i32, i32),
    /// The version of NVRTC, which compiles the kernels.
    pub nvrtc: (i32, i32),
    /// The compute capabilities that NVRTC compiles for, times ten.
    pub compiled: Vec<i32>,
    /// The version of cuBLAS.
    pub cublas: (i32, i32, i32),
    /// The version of cuDNN in its own encoding, e.g. 91900.
    pub cudnn: usize,
    /// The value of `NVIDIA_TF32_OVERRIDE`, if it is set.
    pub tf32_override: Option<String>,
}

impl Usable {
    /// The device class in a key, e.g. `cuda:9.0:NVIDIA H200:132:cublas-13.1.0,cudnn-9.19.0,nvrtc-13.0`.
    ///
    /// cuBLAS gives the same bits only on devices of the same architecture and number of multiprocessors, and each
    /// library may round differently in another version. The driver does not affect the results.
    pub fn class(&self) -> String {
        let Self { name, capability, multiprocessors, nvrtc, cublas, cudnn, tf32_override, .. } = self;
        let mut class = format!("cuda:{}.{}:{name}:{multiprocessors}:", capability.0, capability.1);
        let cudnn = (cudnn / 10_000, cudnn / 100 % 100, cudnn % 100);
        for (name, version) in [
            ("cublas", format!("{}.{}.{}", cublas.0, cublas.1, cublas.2)),
            ("cudnn", format!("{}.{}.{}", cudnn.0, cudnn.1, cudnn.2)),
            ("nvrtc", format!("{}.{}", nvrtc.0, nvrtc.1)),
        ] {
            let comma = if class.ends_with(':') { "" } else { "," };
            write!(class, "{comma}{name}-{version}").expect("writing to a string cannot fail");
        }
        if let Some(value) = tf32_override {
            write!(class, ",{TF32_OVERRIDE}={value}").expect("writing to a string cannot fail");
        }
        class
    }

    /// Rejects versions that do not fit together, and devices that cannot compute in this precision.
    pub fn check(&self, precision: Precision) -> Result<(), CudaError> {
        let Self { name, capability, driver, nvrtc, compiled, cublas, cudnn, .. } = self;
        let (cublas, cudnn) = (cublas.0, cudnn / 10_000);
        if cublas != nvrtc.0 || cudnn != CUDNN {
            let what = format!(
                "cuBLAS {cublas}, cuDNN {cudnn} and NVRTC {} are loaded, but they must be those of one CUDA release, with \
                 cuDNN {CUDNN}",
                nvrtc.0
            );
            return Err(CudaError::Versions { what });
        }
        if driver.0 < nvrtc.0 {
            return Err(CudaError::OldDriver { found: format!("{}.{}", driver.0, driver.1), needed: nvrtc.0 });
        }
        let least = if precision == Precision::F32 { (7, 5) } else { (8, 0) };
        if *capability < least {
            let (found, least) = (format!("{}.{}", capability.0, capability.1), format!("{}.{}", least.0, least.1));
            return Err(CudaError::OldDevice { name: name.clone(), found, least });
        }
        match compiled.contains(&(10 * capability.0 + capability.1)) {
            true => Ok(()),
            false => {
                Err(CudaError::Versions { what: format!("NVRTC {}.{} does not compile for {name}", nvrtc.0, nvrtc.1) })
            }
        }
    }
}

/// The release of cuDNN whose functions are called.
const CUDNN: usize = 9;

/// The device that can compute in this precision, or the reason why there is none. Allocates no device memory.
pub fn usable(precision: Precision) -> Result<&'static Usable, CudaError> {
    static FOUND: OnceLock<Result<Usable, CudaError>> = OnceLock::new();
    let found = FOUND.get_or_init(look).as_ref().map_err(Clone::clone)?;
    found.check(precision).map(|()| found)
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
    let device = driver_calls::device::get(0).map_err(refused)?;
    let attribute = |which| {
        // SAFETY: the driver returned the device.
        unsafe { driver_calls::device::get_attribute(device, which) }.map_err(refused)
    };
    type Attribute = driver::CUdevice_attribute;
    let property = |which| {
        let mut value = 0;
        // SAFETY: the pointer is valid for writes.
        let status = unsafe { cublas::cublasGetProperty(which, &mut value) };
        status.result().map(|()| value).map_err(|error| CudaError::failed("query the version of cuBLAS", error))
    };
    type Property = cublas::libraryPropertyType;
    Ok(Usable {
        name: driver_calls::device::get_name(device).map_err(refused)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        driver: (version / 1000, version % 1000 / 10),
        nvrtc: super::compile::version()?,
        compiled: super::compile::capabilities()?,
        cublas: (
            property(Property::MAJOR_VERSION)?,
            property(Property::MINOR_VERSION)?,
            property(Property::PATCH_LEVEL)?,
        ),
        cudnn: cudarc::cudnn::result::get_version(),
        tf32_override: std::env::var_os(TF32_OVERRIDE).map(|value| value.to_string_lossy().into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h200() -> Usable {
        Usable {
            name: "NVIDIA H200".to_owned(),
            capability: (9, 0),
            multiprocessors: 132,
            driver: (13, 0),
            nvrtc: (13, 0),
            compiled: vec![75, 80, 86, 89, 90, 100, 120],
            cublas: (13, 1, 0),
            cudnn: 91_900,
            tf32_override: None,
        }
    }

    #[test]
    fn the_device_class_names_everything_that_equal_bits_depend_on() {
        let class = "cuda:9.0:NVIDIA H200:132:cublas-13.1.0,cudnn-9.19.0,nvrtc-13.0";
        assert_eq!(h200().class(), class);
        let overridden = Usable { tf32_override: Some("0".to_owned()), ..h200() };
        assert_eq!(overridden.class(), format!("{class},NVIDIA_TF32_OVERRIDE=0"));
        for other in [
            Usable { name: "NVIDIA H100 NVL".to_owned(), ..h200() },
            Usable { multiprocessors: 114, ..h200() },
            Usable { cublas: (13, 1, 1), ..h200() },
        ] {
            assert_ne!(other.class(), class);
        }
        assert_eq!(Usable { driver: (13, 1), ..h200() }.class(), class);
    }

    #[test]
    fn versions_and_devices_are_checked() {
        let said = |usable: Usable, precision| usable.check(precision).unwrap_err().to_string();
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(h200().check(precision), Ok(()));
        }
        // A driver of the same major version runs what NVRTC compiled, and a newer one too.
        assert_eq!(Usable { nvrtc: (13, 2), ..h200() }.check(Precision::F32), Ok(()));
        let of_12 = Usable { driver: (13, 0), nvrtc: (12, 9), cublas: (12, 9, 1), ..h200() };
        assert_eq!(of_12.check(Precision::F32), Ok(()));
        let old = Usable { driver: (12, 4), ..h200() };
        assert_eq!(
            said(old, Precision::F32),
            "CUDA is not available: the driver supports CUDA 12.4, but 13 is required"
        );
        let mixed = said(Usable { cublas: (12, 9, 1), ..h200() }, Precision::F32);
        assert!(mixed.contains("cuBLAS 12, cuDNN 9 and NVRTC 13 are loaded"), "{mixed}");
        let mixed = said(Usable { cudnn: 8907, ..h200() }, Precision::F32);
        assert!(mixed.contains("cuDNN 0"), "{mixed}");
        let turing = Usable { name: "Tesla T4".to_owned(), capability: (7, 5), ..h200() };
        assert_eq!(turing.check(Precision::F32), Ok(()));
        assert_eq!(
            said(turing, Precision::Bf16),
            "CUDA is not available: `Tesla T4` has compute capability 7.5, but 8.0 is required"
        );
        let volta = Usable { capability: (7, 0), ..h200() };
        assert!(said(volta, Precision::F32).contains("7.0, but 7.5 is required"));
        let next = Usable { capability: (13, 0), name: "next".to_owned(), ..h200() };
        assert_eq!(said(next, Precision::F32), "CUDA is not available: NVRTC 13.0 does not compile for next");
    }

    #[test]
    fn missing_requirements_are_named_with_a_hint() {
        let Err(error) = usable(Precision::F32) else { return };
        let said = error.to_string();
        assert!(said.starts_with("CUDA is not available: "), "{said}");
        assert!(error.hint().contains("device = \"cpu\""), "{}", error.hint());
    }
}
