//! The run lock: a file lock that the operating system releases when the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::fs::{self, FsError, Symlinks, at};
use crate::sys;

/// The holder of the run lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The description that the holder wrote: process, host and command.
    pub text: String,
}

/// Holds the run lock until it is dropped or the process ends.
#[derive(Debug)]
pub struct RunGuard {
    file: File,
}

/// An error while taking the run lock.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Another run holds the lock.
    #[error("another run holds the cache: {}", .0.text)]
    Held(Holder),
    /// The lock file cannot be created, opened or locked.
    #[error(transparent)]
    Fs(FsError),
}

/// The command line of this process.
pub fn own_command() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// A command line in which the values of `--set` are hidden: everybody who can read the cache can read the lock.
fn without_values(command: Vec<String>) -> Vec<String> {
    let mut is_value = false;
    let hide = |word: String| {
        let follows_set = std::mem::replace(&mut is_value, ["--set", "-s"].contains(&&word[..]));
        let option = ["--set=", "-s=", "-s"].into_iter().find(|option| word.starts_with(option));
        let option = if follows_set { "" } else { option.unwrap_or(&word) };
        match word[option.len()..].split_once('=') {
            Some((name, _)) => format!("{option}{name}=***"),
            None => word,
        }
    };
    command.into_iter().map(hide).collect()
}

impl RunGuard {
    /// Takes the lock of the store at `root`. If another run holds it, calls `waiting` and waits, or fails if `waiting` is `None`.
    pub fn take(root: &Path, waiting: Option<&mut dyn FnMut(&Holder)>) -> Result<Self, GuardError> {
        let path = root.join("run.lock");
        let mut waiting = waiting;
        // If the cache is deleted while this process waits, it ends up with the lock of a deleted file and must try again.
        loop {
            let guard = Self::take_once(root, &path, &mut waiting)?;
            let (held, named) = (guard.file.metadata(), std::fs::metadata(&path));
            if held.is_ok_and(|held| named.is_ok_and(|named| sys::inode(&held) == sys::inode(&named))) {
                return Ok(guard);
            }
        }
    }

    fn take_once(root: &Path, path: &Path, waiting: &mut Option<&mut dyn FnMut(&Holder)>) -> Result<Self, GuardError> {
        fs::create_dir(root).map_err(GuardError::Fs)?;
        // The contents are overwritten below, so a symlink to another file must be refused.
        let mut options = OpenOptions::new();
        let open = fs::open_with(options.read(true).write(true).create(true).truncate(false), path, Symlinks::Refuse);
        let mut file = open.map_err(at("open", path)).map_err(GuardError::Fs)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let holder = Holder { text: text.trim().to_owned() };
                let Some(waiting) = waiting.as_deref_mut() else { return Err(GuardError::Held(holder)) };
                waiting(&holder);
                file.lock().map_err(at("lock", path)).map_err(GuardError::Fs)?;
            }
            Err(TryLockError::Error(error)) => return Err(GuardError::Fs(at("lock", path)(error))),
        }
        let command = without_values(own_command());
        let host = sys::host_name();
        let text = format!("process {} on {host}: {}\n", std::process::id(), command.join(" "));
        // The text is only used in messages of waiting processes, so errors are ignored.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { file })
    }

    /// Whether a run holds the lock of the store at `root`.
    pub fn is_held(root: &Path) -> bool {
        let file = fs::open_regular(&root.join("run.lock"), Symlinks::Refuse);
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_hears_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunGuard::take(folder.path(), None).unwrap();
        let error = RunGuard::take(folder.path(), None).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        assert!(RunGuard::is_held(folder.path()));
        drop(first);
        // A child process that another test is just starting holds the lock too until it executes its program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while RunGuard::is_held(folder.path()) {
            assert!(std::time::Instant::now() < deadline, "the lock is still held");
            std::thread::yield_now();
        }
        while RunGuard::take(folder.path(), None).is_err() {
            assert!(std::time::Instant::now() < deadline, "the lock cannot be taken");
            std::thread::yield_now();
        }
    }

    #[test]
    fn values_of_set_are_hidden() {
        let hidden = |words: &[&str]| without_values(words.iter().map(|word| (*word).to_owned()).collect()).join(" ");
        assert_eq!(hidden(&["hamflow", "run", "--set", "a.b=c=d", "x=y"]), "hamflow run --set a.b=*** x=y");
        assert_eq!(
            hidden(&["hamflow", "run", "-s", "a.b=c", "-sd=e=f", "-s=g=h"]),
            "hamflow run -s a.b=*** -sd=*** -s=g=***"
        );
        assert_eq!(hidden(&["hamflow", "--set=a.b=c=d", "run", "--set", "e"]), "hamflow --set=a.b=*** run --set e");
    }

    #[test]
    fn a_lock_file_that_is_a_symlink_or_a_fifo_is_refused_and_its_target_left_alone() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (lock, target) = (folder.path().join("run.lock"), elsewhere.path().join("precious"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &lock).unwrap();
        let error = RunGuard::take(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("run.lock`: it is a symlink"), "{error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        std::fs::remove_file(&lock).unwrap();
        sys::make_fifo(&lock);
        let error = RunGuard::take(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("run.lock`: it is not a regular file"), "{error}");
        assert!(!RunGuard::is_held(folder.path()));
    }
}
