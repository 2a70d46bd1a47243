//! What can go wrong between the program and the device.

use std::fmt;

use hamflow_stage_api::StageError;

/// Why something cannot be done on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaError {
    /// A library is not where the system looks for libraries.
    NoLibrary {
        /// Such as `libcudnn.so`.
        name: &'static str,
        /// Who brings it.
        from: &'static str,
    },
    /// The driver is there, a device is not, or it refuses.
    NoDevice {
        /// In the driver's words.
        why: String,
    },
    /// The driver is older than the libraries need.
    OldDriver {
        /// The version of CUDA that it knows, such as `12.4`.
        found: String,
    },
    /// The kernels do not compile.
    Compile {
        /// What NVRTC says.
        log: String,
    },
    /// A call failed.
    Failed {
        /// What was to be done, such as `allocate memory`.
        action: String,
        /// In the library's words.
        why: String,
    },
    /// The network or the batch is not of a kind that runs there.
    Unsupported {
        /// What it is.
        what: String,
    },
}

impl CudaError {
    /// A failed call of a library.
    pub fn failed(action: impl Into<String>, why: impl fmt::Debug) -> Self {
        Self::Failed { action: action.into(), why: format!("{why:?}") }
    }

    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => {
                "put its folder on `LD_LIBRARY_PATH` (docs/guide/cuda.md says where it comes from), or set `device = \"cpu\"`"
            }
            Self::NoDevice { .. } => "`nvidia-smi` shows what the driver sees; `device = \"cpu\"` runs without",
            Self::OldDriver { .. } => "install a driver of release 580 or later, or set `device = \"cpu\"`",
            Self::Compile { .. } => {
                "this is a mistake in hamflow or an NVRTC that it does not know; `device = \"cpu\"` runs without"
            }
            Self::Failed { .. } => {
                "a smaller `batch_size` needs less memory of the device; `device = \"cpu\"` runs without"
            }
            Self::Unsupported { .. } => {
                "a smaller `batch_size` or `precision = \"f32\"` may help; `device = \"cpu\"` trains everything"
            }
        }
    }
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibrary { name, from } => write!(f, "CUDA cannot be used: `{name}` ({from}) cannot be loaded"),
            Self::NoDevice { why } => write!(f, "CUDA cannot be used: there is no device ({why})"),
            Self::OldDriver { found } => {
                write!(f, "CUDA cannot be used: the driver knows CUDA {found}, and 13.0 is needed")
            }
            Self::Compile { log } => write!(f, "the kernels for CUDA do not compile: {log}"),
            Self::Failed { action, why } => write!(f, "the CUDA device cannot {action}: {why}"),
            Self::Unsupported { what } => write!(f, "CUDA cannot train this: {what}"),
        }
    }
}

impl std::error::Error for CudaError {}

impl From<CudaError> for StageError {
    fn from(error: CudaError) -> Self {
        Self::failed(error.to_string()).hint(error.hint())
    }
}
