//! The device that trains, as a parameter.

use std::path::{Path, PathBuf};

use hamflow_stage_api::{ParamError, devices_and_drivers};
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

/// What decides whether there is a device and which class it has, read without starting NVIDIA's driver: the variables that
/// choose devices and libraries, the driver, and the libraries where they are looked for.
pub fn evidence() -> String {
    // A build without CUDA has no device anywhere.
    if !cfg!(feature = "cuda") {
        return String::new();
    }
    let mut lines: Vec<String> = VARIABLES
        .iter()
        .filter_map(|name| std::env::var_os(name).map(|value| format!("{name}={}", value.to_string_lossy())))
        .collect();
    lines.extend(devices_and_drivers());
    let searched = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    for folder in std::env::split_paths(&searched).chain(LIBRARY_FOLDERS.iter().map(PathBuf::from)) {
        for (name, path) in names(&folder, &["libcuda.", "libnvrtc", "libcublas", "libcudnn", "ld.so.cache"]) {
            let stat = std::fs::metadata(&path).ok();
            let changed = stat.as_ref().and_then(|stat| stat.modified().ok());
            lines.push(format!("{name} {:?} {changed:?}", stat.map(|stat| stat.len())));
        }
    }
    lines.join("\n")
}

/// Variables that choose devices, libraries, or how those compute.
const VARIABLES: [&str; 6] = [
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
];

/// Where libraries are looked for by default; `/etc` has the cache of their places.
const LIBRARY_FOLDERS: [&str; 7] = [
    "/etc",
    "/lib64",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/wsl/lib",
    "/usr/local/cuda/lib64",
];

/// The entries of a folder whose names begin with one of these, in order.
fn names(folder: &Path, beginnings: &[&str]) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, _)| beginnings.iter().any(|beginning| name.starts_with(beginning)))
        .collect();
    found.sort();
    found
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
