//! Errors of the CUDA device and its libraries.

use std::fmt;

use hamflow_stage_api::StageError;

/// Why an operation on the device failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// A library cannot be loaded.
    #[error("CUDA is not available: cannot load `{name}` ({from})")]
    NoLibrary {
        /// The file name, e.g. `libcudnn.so`.
        name: &'static str,
        /// The package that contains it.
        from: &'static str,
    },
    /// There is a driver, but no usable device.
    #[error("CUDA is not available: no device found ({why})")]
    NoDevice {
        /// The driver's message.
        why: String,
    },
    /// The driver is older than the libraries require.
    #[error("CUDA is not available: the driver supports CUDA {found}, but {needed} is required")]
    OldDriver {
        /// The CUDA version that it supports, e.g. `12.4`.
        found: String,
        /// The major version of the libraries.
        needed: i32,
    },
    /// The device lacks what the kernels or the precision require.
    #[error("CUDA is not available: `{name}` has compute capability {found}, but {least} is required")]
    OldDevice {
        /// The name of the device.
        name: String,
        /// Its compute capability.
        found: String,
        /// The required one.
        least: String,
    },
    /// The versions of the libraries do not fit together, or not to the device.
    #[error("CUDA is not available: {what}")]
    Versions {
        /// What does not fit.
        what: String,
    },
    /// The kernels do not compile.
    #[error("cannot compile the CUDA kernels: {log}")]
    Compile {
        /// NVRTC's log.
        log: String,
    },
    /// A call failed.
    #[error("the CUDA device cannot {action}: {why}")]
    Failed {
        /// The intended action, e.g. `allocate memory`.
        action: String,
        /// The library's message.
        why: String,
    },
    /// The network or the batch size is not supported on the device.
    #[error("not supported on CUDA: {what}")]
    Unsupported {
        /// The unsupported property.
        what: String,
    },
}

impl CudaError {
    /// A failed library call.
    pub fn failed(action: impl Into<String>, why: impl fmt::Debug) -> Self {
        Self::Failed { action: action.into(), why: format!("{why:?}") }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => {
                "add its folder to `LD_LIBRARY_PATH` (see docs/guide/cuda.md), or set `device = \"cpu\"`"
            }
            Self::NoDevice { .. } => "check the driver with `nvidia-smi`, or set `device = \"cpu\"`",
            Self::OldDriver { .. } => {
                "install a driver for this CUDA release, or libraries of an older one, or set `device = \"cpu\"`"
            }
            Self::OldDevice { .. } => "set `precision = \"f32\"`, or `device = \"cpu\"`",
            Self::Versions { .. } => {
                "install the libraries of one CUDA release (see docs/guide/cuda.md), or set `device = \"cpu\"`"
            }
            Self::Compile { .. } => {
                "this is an internal error or an unsupported version of NVRTC; set `device = \"cpu\"` to continue"
            }
            Self::Failed { .. } => "reduce `batch_size` to use less device memory, or set `device = \"cpu\"`",
            Self::Unsupported { .. } => "reduce `batch_size`, set `precision = \"f32\"`, or set `device = \"cpu\"`",
        }
    }
}

impl From<CudaError> for StageError {
    fn from(error: CudaError) -> Self {
        Self::failed(error.to_string()).hint(error.hint())
    }
}
