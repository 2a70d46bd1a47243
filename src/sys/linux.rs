//! What only Linux has.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags};

/// Whether uncached writes fail here: the kernel or the file system does not have them.
static ONLY_CACHED: AtomicBool = AtomicBool::new(false);

/// Appends bytes that nobody is about to read: they go to the disk at once and leave the page cache to other files
/// (`RWF_DONTCACHE` of Linux 6.14; an ordinary write elsewhere).
pub fn write_uncached(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    let uncached = ReadWriteFlags::from_bits_retain(0x80);
    while !bytes.is_empty() && !ONLY_CACHED.load(Ordering::Relaxed) {
        // The offset -1 is the file's own (pwritev2(2)).
        match rustix::io::pwritev2(&*file, &[IoSlice::new(bytes)], u64::MAX, uncached) {
            Ok(0) => break,
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => ONLY_CACHED.store(true, Ordering::Relaxed),
            Err(error) => return Err(error.into()),
        }
    }
    file.write_all(bytes)
}

/// Makes `target` a copy of `source` that shares its blocks (a reflink); false where the file system cannot do that.
pub fn clone_file(source: &File, target: &File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

/// Puts everything written to the file system of `folder` on the disk; false where files must be synced one by one.
pub fn sync_file_system(folder: &File) -> io::Result<bool> {
    rustix::fs::syncfs(folder)?;
    Ok(true)
}

/// The program of this process, to start workers of.
#[derive(Debug)]
pub struct OwnProgram;

impl OwnProgram {
    /// Remembers the program that runs now.
    pub fn new() -> Self {
        Self
    }

    /// The path of the running program, valid even after an update replaced the file: this run's keys belong to the old program.
    pub fn path(&self) -> io::Result<PathBuf> {
        let running = PathBuf::from("/proc/self/exe");
        if running.exists() { Ok(running) } else { std::env::current_exe() }
    }
}

impl Default for OwnProgram {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives a process started from [`OwnProgram::path`] the name that people call it by, for `ps` and `top`.
pub fn set_process_name() {
    let _ = rustix::thread::set_name(c"hamflow");
}

/// Returns free memory of this process to the system; glibc would keep most of it.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` has no preconditions (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Resets the peak of resident memory (proc(5), clear_refs); what cannot be reset counts from the start of the process.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The peak of resident memory since the last reset in bytes; 0 where the system does not say.
pub fn peak_memory() -> u64 {
    bytes_in("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// Resident memory in bytes; none where the system does not say.
pub fn resident_memory() -> Option<u64> {
    bytes_in("/proc/self/status", "VmRSS:")
}

/// How much memory programs can still have in bytes (proc(5), meminfo); none where the system does not say.
pub fn available_memory() -> Option<u64> {
    bytes_in("/proc/meminfo", "MemAvailable:")
}

/// A value of a file of the kernel that has lines like `VmRSS:  1234 kB`.
fn bytes_in(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn uncached_writes_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i % 251) as u8).collect();
        let mut file = File::create_new(&path).unwrap();
        for piece in bytes.chunks(1_000_000) {
            write_uncached(&mut file, piece).unwrap();
        }
        write_uncached(&mut file, b"").unwrap();
        file.write_all(b"cached").unwrap();
        assert!(std::fs::read(&path).unwrap() == [&bytes[..], b"cached"].concat());
        let error = write_uncached(&mut File::open(&path).unwrap(), b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()), "it is open for reading only");
    }

    #[test]
    #[ignore = "needs uncached writes"]
    fn uncached_writes_leave_the_page_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_uncached(&mut File::create_new(&path).unwrap(), &vec![1; 3_000_000]).unwrap();
        assert!(!ONLY_CACHED.load(Ordering::Relaxed), "{} has no writes without caching", folder.path().display());
        // With `NOWAIT`, a read that would need the disk fails instead of blocking.
        let uncached = File::open(&path).unwrap();
        let deadline = SystemTime::now() + Duration::from_secs(60);
        let is_in_memory = |offset| {
            let mut byte = [0];
            let read =
                rustix::io::preadv2(&uncached, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
            read != Err(Errno::AGAIN)
        };
        while (0..20).all(|place| is_in_memory(place * 100_000)) {
            assert!(SystemTime::now() < deadline, "all of it stays in memory");
            std::thread::yield_now();
        }
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn free_memory_goes_back_to_the_system() {
        // Tests beside this one take memory too, so what they do in one measurement must not count.
        let measure = || {
            let strings: Vec<String> = (0..1_000_000).map(|number| format!("{number:064}")).collect();
            // In front of it glibc returns nothing by itself.
            let last = strings.last().cloned();
            drop(strings);
            let before = resident_memory().unwrap();
            release_free_memory();
            let after = resident_memory().unwrap();
            drop(last);
            (before, after)
        };
        let measured: Vec<(u64, u64)> = (0..5).map(|_| measure()).collect();
        assert!(measured.iter().any(|(before, after)| after + 32 * 1024 * 1024 < *before), "{measured:?}");
    }
}
