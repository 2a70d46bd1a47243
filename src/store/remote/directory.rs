//! Remotes in a shared directory, such as a network mount.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::backend::{Backend, RemoteError, sink_error};
use super::{OpenResult, RemoteKind};
use crate::fs::failpoint::{Step, around};
use crate::fs::{self, Symlinks};

/// Number of bytes between two syncs.
const SYNC_INTERVAL_BYTES: u64 = 8 * 1024 * 1024;

/// Remotes like `/mnt/cache`, `../cache` or `file:///mnt/cache`.
pub const KIND: RemoteKind = RemoteKind { schemes: &["file"], example: "/mnt/cache", open };

fn open(url: &str, root: &Path) -> OpenResult {
    match url.split_once("://") {
        Some((_, path)) if path.starts_with('/') => open_path(path, root),
        _ => Err("a `file` URL needs three slashes, as in `file:///mnt/cache`".to_owned()),
    }
}

/// Opens a directory.
pub fn open_path(path: &str, root: &Path) -> OpenResult {
    // Not a path, but a URL with a password, which must not be shown.
    let is_path =
        ["./", "../"].iter().any(|start| path.starts_with(start)) || path.starts_with('/') && !path.starts_with("//");
    let has_user =
        |step: &str| step.split_once(':').is_some_and(|(_, rest)| rest.contains('@') || rest.contains("%40"));
    if !is_path && path.split('/').any(has_user) {
        return Err("the URL has no scheme; a URL starts with one, as in `https://`".to_owned());
    }
    Ok(Box::new(Directory { root: root.join(path) }))
}

/// Objects as files in a directory. The directory itself must exist, so that an unmounted disk is not mistaken for an empty cache.
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    fn failed(&self, error: &io::Error) -> RemoteError {
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => RemoteError::Refused(error.to_string()),
            _ => RemoteError::Failed(error.to_string()),
        }
    }

    fn check_root(&self) -> Result<(), RemoteError> {
        if self.root.is_dir() { Ok(()) } else { Err(RemoteError::Unreachable("no such directory".to_owned())) }
    }
}

impl Backend for Directory {
    fn get(&self, name: &str, sink: &mut dyn Write) -> Result<bool, RemoteError> {
        let mut file = match fs::open_regular(&self.root.join(name), Symlinks::Follow) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check_root().map(|()| false),
            Err(error) => return Err(self.failed(&error)),
        };
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer).map_err(|error| self.failed(&error))? {
                0 => return Ok(true),
                count => sink.write_all(&buffer[..count]).map_err(sink_error)?,
            }
        }
    }

    fn has(&self, name: &str, size: u64) -> Result<bool, RemoteError> {
        match std::fs::metadata(self.root.join(name)) {
            Ok(found) => Ok(found.is_file() && found.len() == size),
            Err(_) => self.check_root().map(|()| false),
        }
    }

    fn put(&self, name: &str, body: &mut dyn Read, size: u64) -> Result<(), RemoteError> {
        self.check_root()?;
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(|error| self.failed(&error))?;
        let staged = folder.join(fs::unique_name());
        let written = File::create_new(&staged).and_then(|mut file| {
            // Sync in steps, so that the progress counter advances until the end.
            let mut written = 0;
            loop {
                let step = io::copy(&mut Read::take(&mut *body, SYNC_INTERVAL_BYTES), &mut file)?;
                if step == 0 {
                    break;
                }
                written += step;
                around(Step::SyncRemoteData, || file.sync_data())?;
            }
            if written != size {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("wrote {written} of {size} bytes")));
            }
            around(Step::SyncRemoteObject, || file.sync_all())
        });
        let renamed = written.and_then(|()| around(Step::RenameRemoteObject, || std::fs::rename(&staged, &path)));
        renamed.map_err(|error| {
            let _ = std::fs::remove_file(&staged);
            self.failed(&error)
        })
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}
