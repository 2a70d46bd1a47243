//! What [`linux`](super) does, with nothing but POSIX: for macOS, and for Linux with `--cfg hamflow_portable`.
//!
//! `tests/portable.py` checks that macOS has all the functions named here.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::inode;

/// Appends bytes; POSIX knows no writes that bypass the page cache.
pub fn write_uncached(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}

/// Returns false: POSIX knows no copies that share their blocks.
pub fn clone_file(_source: &File, _target: &File) -> bool {
    false
}

/// Returns false: files must be synced one by one.
pub fn sync_file_system(_folder: &File) -> io::Result<bool> {
    Ok(false)
}

/// The program of this process, to start workers of.
///
/// A path leads to another program after an update replaced the file, and the keys of this run are not that program's. So the digest of
/// the file is taken at the start and checked whenever its metadata changed.
#[derive(Debug)]
pub struct OwnProgram {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// None where this process may execute its program but not read it.
    digest: Option<blake3::Hash>,
}

/// Metadata that changes when a file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl OwnProgram {
    /// Remembers the program that runs now.
    pub fn new() -> Self {
        Self::at(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("hamflow")))
    }

    fn at(path: PathBuf) -> Self {
        Self { stamp: stamp(&path), digest: digest(&path), path }
    }

    /// The path of the program; an error if the file was replaced by another program.
    pub fn path(&self) -> io::Result<PathBuf> {
        if stamp(&self.path) == self.stamp || digest(&self.path) == self.digest {
            return Ok(self.path.clone());
        }
        let message = format!("`{}` was replaced during the run; run the command again", self.path.display());
        Err(io::Error::other(message))
    }
}

impl Default for OwnProgram {
    fn default() -> Self {
        Self::new()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = |metadata: Metadata| Stamp {
        size: metadata.len(),
        modified: metadata.modified().ok(),
        inode: inode(&metadata),
    };
    std::fs::metadata(path).ok().map(of)
}

fn digest(path: &Path) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).ok()?).ok()?;
    Some(hasher.finalize())
}

/// Does nothing: a process is called by its program.
pub fn set_process_name() {}

/// Does nothing: the allocator decides what goes back to the system.
pub fn release_free_memory() {}

/// Does nothing: the peak counts from the start of the process.
pub fn reset_peak_memory() {}

/// The unit of `ru_maxrss` in bytes (getrusage(2) of each system).
const PEAK_UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };

/// The peak of resident memory since the process started in bytes; 0 where the system does not say.
pub fn peak_memory() -> u64 {
    // SAFETY: a `rusage` of zeros is one, and the call only writes to it (getrusage(2)).
    let peak = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0 { usage.ru_maxrss } else { 0 }
    };
    u64::try_from(peak).unwrap_or(0) * PEAK_UNIT
}

/// Returns none: POSIX does not say how much memory is resident now.
pub fn resident_memory() -> Option<u64> {
    None
}

/// Returns none: POSIX does not say how much memory programs can still have.
pub fn available_memory() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hamflow");
        std::fs::write(&path, "one program").unwrap();
        let program = OwnProgram::at(path.clone());
        assert_eq!(program.path().unwrap(), path);
        let put = |text: &str| {
            std::fs::write(folder.path().join("new"), text).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
        };
        put("one program");
        assert_eq!(program.path().unwrap(), path, "the same bytes are the same program");
        put("another program");
        let error = program.path().unwrap_err().to_string();
        assert!(error.contains(&format!("`{}` was replaced", path.display())), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(program.path().is_err());
    }

    #[test]
    fn the_peak_of_memory_is_in_bytes() {
        let bytes = vec![1u8; 64 * 1024 * 1024];
        assert!(std::hint::black_box(&bytes).iter().all(|byte| *byte == 1));
        let peak = peak_memory();
        assert!((64 * 1024 * 1024..64 * 1024 * 1024 * 1024).contains(&peak), "{peak}");
    }
}
