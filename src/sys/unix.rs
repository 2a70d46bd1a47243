//! What POSIX systems share.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// An open directory, whose entries remain accessible by name even if its path changes.
///
/// Names are single steps. No function follows a symlink in the place of the last one.
#[derive(Debug)]
pub struct DirHandle(OwnedFd);

impl DirHandle {
    /// Opens a directory; symlinks in `path` are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens the directory `name` in this one; [`is_not_a_directory`] tells the error of anything else.
    pub fn enter(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Makes the directory `name`, which must not exist.
    pub fn create_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o777))?)
    }

    /// Makes the file `name`, which must not exist, and opens it for writing.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o644))?))
    }

    /// Renames the entry `from` to `to`.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Moves a file of the same file system to `name`.
    pub fn rename_from(&self, from: &Path, name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(CWD, from, &self.0, name)?)
    }

    /// Makes `name` a hard link to a file.
    pub fn link(&self, file: &Path, name: &str) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, file, &self.0, name, AtFlags::empty())?)
    }

    /// Removes the file `name`.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }
}

/// Whether [`DirHandle::enter`] failed because the entry is a symlink or a file.
pub fn is_not_a_directory(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NOTDIR))
}

/// Makes a file that must not exist, readable by everybody, and opens it for writing.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// Whether this process may list a directory and look up its entries.
pub fn may_list(path: &Path) -> bool {
    rustix::fs::access(path, Access::READ_OK | Access::EXEC_OK).is_ok()
}

/// Whether this process may read a file.
pub fn may_read(path: &Path) -> bool {
    rustix::fs::access(path, Access::READ_OK).is_ok()
}

/// The modification time in nanoseconds since 1970.
pub fn modified_nanos(metadata: &Metadata) -> i64 {
    nanos(metadata.mtime(), metadata.mtime_nsec())
}

/// The time of the last change to the inode in nanoseconds since 1970.
pub fn changed_nanos(metadata: &Metadata) -> i64 {
    nanos(metadata.ctime(), metadata.ctime_nsec())
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// How many names a file has.
pub fn link_count(metadata: &Metadata) -> u64 {
    metadata.nlink()
}

/// Fills `bytes` with random numbers of the system, fit for keys.
pub fn random_bytes(bytes: &mut [u8]) -> io::Result<()> {
    Ok(getrandom::fill(bytes)?)
}

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a process with this ID exists, regardless of its owner.
pub fn is_process_alive(process: i32) -> bool {
    let found = Pid::from_raw(process).map(rustix::process::test_kill_process);
    !matches!(found, None | Some(Err(Errno::SRCH)))
}

/// Lets `command` lead a session, and so a process group, of its own and see `name` as its own name. It and what it starts cannot reach
/// the terminal: they do not get its signals and cannot wait for it.
pub fn lead_session<'a>(command: &'a mut Command, name: &str) -> &'a mut Command {
    let lead = || rustix::process::setsid().map(|_| ()).map_err(io::Error::from);
    // SAFETY: between fork and exec, the function makes one system call, which is safe there (signal-safety(7)).
    unsafe { command.arg0(name).pre_exec(lead) }
}

/// Creates a file that only the user can read.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Opens a file for appending, which only the user can read if it is new.
pub fn append_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Kills a child that leads a process group, with all programs of the group; the child must not have been waited for.
pub fn kill_process_group(leader: &Child) {
    if let Some(group) = i32::try_from(leader.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Kills this process at once, as `kill -9` would: nothing is flushed or cleaned up.
pub fn kill_self() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    // The signal may be delivered a moment later.
    std::process::abort()
}

/// Kills this process with all programs of its process group.
pub fn kill_own_process_group() {
    let _ = rustix::process::kill_current_process_group(Signal::KILL);
}

/// Sets a flag when a batch system gives notice (SIGUSR2) that the time of this process is soon over.
pub fn set_on_notice(flag: &Arc<AtomicBool>) -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::clone(flag)).map(drop)
}

/// Whether this process was started with a signal ignored.
pub fn is_signal_ignored(signal: i32) -> bool {
    // SAFETY: a `sigaction` of zeros is one, and without a new one the call only writes the old one there (sigaction(2)).
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// What a file is known by while it is there: its device and its inode.
pub type FileId = (u64, u64);

/// The id of a file.
pub fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Whether a symlink cannot be followed: its target does not exist, or it leads to itself.
pub fn is_broken_symlink(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Returns standard output as a file, and sends whatever is printed from now on to standard error.
pub fn take_stdout() -> io::Result<File> {
    let stdout = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(stdout)
}

/// Makes a FIFO; rustix has no function for that on macOS.
#[cfg(test)]
pub(crate) fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("`mkfifo` is a POSIX utility").success());
}
