//! The operating system, as far as the contract and the stages need it: the only file of both that names its interfaces.
//!
//! What only Linux has is in a module `linux`; `portable` takes its place elsewhere, and on Linux with
//! `--cfg hamflow_portable`. The engine's own seam is `src/sys/`.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Creates a symlink at `link` that leads to `target`.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Whether there is a process with a number, of any user.
pub fn is_running(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| !matches!(rustix::process::test_kill_process(process), Err(Errno::SRCH)))
}

/// The user and the group of this process, as `docker run --user` takes them.
pub fn user() -> String {
    format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

/// Whether the last step of a path may be a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symlinks {
    /// For files of the user, who may keep data anywhere.
    Follow,
    /// For files of hamflow.
    Refuse,
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
mod linux {
    use std::fs::{File, OpenOptions};
    use std::io::Read;
    use std::path::Path;

    /// Bytes of memory that a process can get without swapping: the least of what the system and its control groups
    /// (version 2) have left. `None` if neither tells.
    pub fn available_memory() -> Option<u64> {
        let system = field(&read("/proc/meminfo")?, "MemAvailable:").map(|kilobytes| kilobytes * 1024);
        system.into_iter().chain(left_in_groups()).min()
    }

    /// What tells that the devices and their drivers are still the same: the boot, the version of NVIDIA's driver, and the
    /// names of its devices.
    pub fn devices_and_drivers() -> Vec<String> {
        let texts = ["/proc/sys/kernel/random/boot_id", "/proc/driver/nvidia/version"];
        let mut found: Vec<String> = texts.iter().map(|path| read(path).unwrap_or_default()).collect();
        let names = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|name| name.starts_with("nvidia")));
        found.sort();
        found
    }

    fn read(path: &str) -> Option<String> {
        let mut text = String::new();
        let options = &mut OpenOptions::new();
        let mut file = super::open_nonblocking(options.read(true), Path::new(path), super::Symlinks::Follow).ok()?;
        file.read_to_string(&mut text).ok().map(|_| text)
    }

    /// The number after a name at the start of a line.
    fn field(text: &str, name: &str) -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    }

    /// What each limited control group of this process has left. Cached files do not count as used: the kernel drops them.
    fn left_in_groups() -> Vec<u64> {
        let own = read("/proc/self/cgroup").unwrap_or_default();
        let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
        let left = |group: &Path| {
            let number = |name: &str| read(&format!("{}/{name}", group.display()))?.trim().parse::<u64>().ok();
            let limit = number("memory.max")?;
            let statistics = read(&format!("{}/memory.stat", group.display())).unwrap_or_default();
            let cached = ["inactive_file ", "active_file ", "slab_reclaimable "];
            let cached: u64 = cached.iter().filter_map(|name| field(&statistics, name)).sum();
            Some(limit.saturating_sub(number("memory.current")?.saturating_sub(cached)))
        };
        let group = Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'));
        group.ancestors().take_while(|group| group.starts_with("/sys/fs/cgroup")).filter_map(left).collect()
    }

    /// Advises the system to fetch all of a file soon (`posix_fadvise(2)`, `WILLNEED`).
    pub(crate) fn advise_will_read(file: &File) {
        // A file system that does not take the advice reads the file later.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::WillNeed);
    }
}

#[cfg(not(all(target_os = "linux", not(hamflow_portable))))]
mod portable {
    use std::fs::File;

    /// POSIX has no interface for it.
    pub fn available_memory() -> Option<u64> {
        None
    }

    /// Does nothing: POSIX systems need not take advice on reading ahead, and macOS does not.
    pub(crate) fn advise_will_read(_file: &File) {}

    /// There are no devices that only drivers know.
    pub fn devices_and_drivers() -> Vec<String> {
        Vec::new()
    }
}

#[cfg(all(target_os = "linux", not(hamflow_portable)))]
pub(crate) use linux::advise_will_read;
#[cfg(all(target_os = "linux", not(hamflow_portable)))]
pub use linux::{available_memory, devices_and_drivers};
#[cfg(not(all(target_os = "linux", not(hamflow_portable))))]
pub(crate) use portable::advise_will_read;
#[cfg(not(all(target_os = "linux", not(hamflow_portable))))]
pub use portable::{available_memory, devices_and_drivers};

/// The error of a file that is not a regular one.
pub(crate) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// Opens a file as `options` say without blocking; what is known to be no regular file is refused.
pub(crate) fn open_nonblocking(options: &mut OpenOptions, path: &Path, symlinks: Symlinks) -> io::Result<File> {
    let flags = match symlinks {
        Symlinks::Follow => OFlags::NONBLOCK,
        Symlinks::Refuse => OFlags::NONBLOCK | OFlags::NOFOLLOW,
    };
    let flags = i32::try_from(flags.bits()).expect("flags of open(2) fit into an int");
    options.custom_flags(flags).open(path).map_err(|error| match Errno::from_io_error(&error) {
        // open(2): a symlink with O_NOFOLLOW.
        Some(Errno::LOOP) if symlinks == Symlinks::Refuse => {
            io::Error::new(io::ErrorKind::InvalidData, "it is a symlink")
        }
        // A FIFO without a reader with O_NONBLOCK; a socket, on Linux and on macOS.
        Some(Errno::NXIO | Errno::OPNOTSUPP) => not_regular(),
        _ => error,
    })
}

/// The inode's number.
pub fn inode(metadata: &Metadata) -> u64 {
    metadata.ino()
}

/// The time of the last change to the inode, in seconds and nanoseconds; no program can set it back.
pub fn change_time(metadata: &Metadata) -> [i64; 2] {
    [metadata.ctime(), metadata.ctime_nsec()]
}

/// The permission bits of a file, as in `chmod(1)`.
pub fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode()
}

/// Permissions with these bits, as in `chmod(1)`.
pub fn permissions(mode: u32) -> Permissions {
    Permissions::from_mode(mode)
}

/// The number of the signal that ended a process; none where it exited by itself.
pub fn signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}
