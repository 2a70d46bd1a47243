//! Test helpers: the real dataset, a hash.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder with the real dataset: `$HAMFLOW_DATA`, or `shared` next to the repository.
///
/// If it is missing, the calling test fails; such tests are ignored by default.
fn shared(path: &str) -> PathBuf {
    let root = std::env::var_os("HAMFLOW_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let full = root.join(path);
    assert!(full.exists(), "`{}` is missing; `$HAMFLOW_DATA` names the folder with the real dataset", full.display());
    full
}

/// Every `step`-th JPEG of a folder of the real dataset, sorted by name.
pub fn jpegs(folder: &str, step: usize) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(shared(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    paths.iter().step_by(step).map(|path| fs::read(path).unwrap()).collect()
}

/// The 64-bit FNV-1a hash, which is easy to reimplement in other languages.
pub fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
