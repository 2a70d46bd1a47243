//! Opens files that are guaranteed to be regular.
//!
//! A FIFO, socket or device in place of a blob would block or produce data without end. A symlink in the cache would make hamflow
//! write to a foreign file. Files are therefore opened without blocking and must be regular; in `cache/` and `out/`, which
//! belong to hamflow, symlinks are refused as well.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use crate::sys::{self, Symlinks};

/// Opens a regular file for reading; anything else is an error.
pub fn open_regular(path: &Path, symlinks: Symlinks) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path, symlinks)
}

/// Opens a regular file with `options`; anything else is an error. Never blocks.
pub fn open_with(options: &mut OpenOptions, path: &Path, symlinks: Symlinks) -> io::Result<File> {
    let file = sys::open_nonblocking(options, path, symlinks)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(sys::not_regular()) }
}

/// Reads the bytes of a regular file.
pub fn read_regular(path: &Path, symlinks: Symlinks) -> io::Result<Vec<u8>> {
    let mut file = open_regular(path, symlinks)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the UTF-8 text of a regular file.
pub fn read_text(path: &Path, symlinks: Symlinks) -> io::Result<String> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(read_regular(path, symlinks)?).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "bytes").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        // rustix has no `mkfifo` for macOS.
        assert!(std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for name in ["file", "folder", "fifo", "socket"] {
            std::os::unix::fs::symlink(name, path(&format!("to-{name}"))).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", path("device")).unwrap();
        let read = |name: &str, symlinks| read_regular(&path(name), symlinks).map_err(|error| error.to_string());
        assert_eq!(read("file", Symlinks::Refuse).unwrap(), b"bytes");
        assert_eq!(read("to-file", Symlinks::Follow).unwrap(), b"bytes");
        assert_eq!(read("to-file", Symlinks::Refuse).unwrap_err(), "it is a symlink");
        for name in ["folder", "fifo", "socket"] {
            assert_eq!(read(name, Symlinks::Refuse).unwrap_err(), "it is not a regular file", "{name}");
            assert_eq!(read(&format!("to-{name}"), Symlinks::Follow).unwrap_err(), "it is not a regular file");
        }
        assert_eq!(read("device", Symlinks::Follow).unwrap_err(), "it is not a regular file");
        let write = open_with(OpenOptions::new().append(true), &path("fifo"), Symlinks::Refuse);
        assert_eq!(write.unwrap_err().to_string(), "it is not a regular file");
        let write = open_with(OpenOptions::new().append(true).create(true), &path("to-file"), Symlinks::Refuse);
        assert_eq!(write.unwrap_err().to_string(), "it is a symlink");
    }
}
