//! A folder that is held open, to write below it without ever following a symlink.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::failpoint::{Step, around};
use super::{FsError, RelativePath, at, unique_name};
use crate::sys::{self, DirHandle};

/// A folder, by an open handle.
///
/// Each step below it is opened relative to the handle of the step above and must be a real folder. So a symlink that somebody puts
/// there, even while hamflow writes, leads nowhere: `openat(2)` with `O_NOFOLLOW` refuses it.
#[derive(Debug)]
pub struct Folder {
    handle: DirHandle,
    /// For messages.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder. Symlinks in `path` itself are followed: a project may lie anywhere.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let handle = DirHandle::open(path).map_err(at("open", path))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder `name` in this one.
    pub fn enter(&self, name: &str) -> Result<Self, FsError> {
        let path = self.path.join(name);
        let handle = self.handle.enter(name).map_err(|error| match sys::is_not_a_directory(&error) {
            true => at("write below", &path)(io::Error::other("it is a symlink or a file")),
            false => at("open", &path)(error),
        })?;
        Ok(Self { handle, path })
    }

    /// Like [`enter`](Self::enter), but creates the folder if it is missing.
    pub fn create(&self, name: &str) -> Result<Self, FsError> {
        match self.handle.create_dir(name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(at("create", &self.path.join(name))(error))
            }
            _ => self.enter(name),
        }
    }

    /// The parent folder of a file below this one, created if it is missing.
    pub fn create_parent(&self, path: &RelativePath) -> Result<Option<Self>, FsError> {
        let mut parent: Option<Self> = None;
        for step in path.folders() {
            parent = Some(parent.as_ref().unwrap_or(self).create(step)?);
        }
        Ok(parent)
    }

    /// Makes the file `name`, which must not be there.
    pub fn create_file(&self, name: &str) -> Result<File, FsError> {
        self.handle.create_file(name).map_err(|error| at("create", &self.path.join(name))(error))
    }

    /// Writes the file `name` atomically. `write` gets the staged file and its temporary path, and returns whether to keep it.
    pub fn fill(
        &self,
        name: &str,
        write: impl FnOnce(&mut File, &Path) -> Result<bool, FsError>,
    ) -> Result<bool, FsError> {
        let staged = unique_name();
        let mut file = self.create_file(&staged)?;
        let written = write(&mut file, &self.path.join(&staged));
        let result =
            written.and_then(|wanted| if wanted { self.rename(&staged, name).map(|()| true) } else { Ok(false) });
        if !matches!(result, Ok(true)) {
            let _ = self.remove_file(&staged);
        }
        result
    }

    /// Puts a copy of `from` that shares its blocks at `name`, whole or not at all; false where the file system cannot do that.
    pub fn share(&self, from: &Path, name: &str) -> Result<bool, FsError> {
        let source = super::open_regular(from, super::Symlinks::Refuse).map_err(at("open", from))?;
        self.fill(name, |target, _| Ok(sys::clone_file(&source, target)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        around(Step::RenameInFolder, || self.handle.rename(from, to))
            .map_err(|error| at("rename", &self.path.join(from))(error))
    }

    /// Moves a file of the same file system to `name`.
    pub fn take(&self, from: &Path, name: &str) -> Result<(), FsError> {
        around(Step::MoveIntoFolder, || self.handle.rename_from(from, name)).map_err(at("rename", from))
    }

    /// Gives a file another name: `name` in this folder.
    pub fn link(&self, file: &Path, name: &str) -> Result<(), FsError> {
        around(Step::Link, || self.handle.link(file, name)).map_err(at("link", file))
    }

    /// Removes the file `name`, if it is there.
    pub fn remove_file(&self, name: &str) -> Result<(), FsError> {
        match self.handle.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &self.path.join(name))(error)),
            _ => Ok(()),
        }
    }

    /// Removes a file below this folder, if it is there and no symlink leads to it.
    pub fn remove_below(&self, path: &RelativePath) -> Result<(), FsError> {
        let mut parent: Option<Self> = None;
        for step in path.folders() {
            match parent.as_ref().unwrap_or(self).enter(step) {
                Ok(folder) => parent = Some(folder),
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        parent.as_ref().unwrap_or(self).remove_file(path.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    #[test]
    fn a_symlink_on_the_way_is_never_followed() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(elsewhere.path().join("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("link")).unwrap();
        let opened = Folder::open(folder.path()).unwrap();
        assert!(opened.create_parent(&path("link/new")).unwrap_err().to_string().contains("link"));
        assert!(opened.create_parent(&path("link/deep/new")).is_err());
        assert!(opened.remove_below(&path("link/mine")).is_err());
        assert!(opened.create_file("link").is_err(), "nor is a symlink written through");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        assert!(opened.fill("link", |_, _| Ok(true)).unwrap(), "the link itself is replaced by a file");
        assert!(folder.path().join("link").symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read(elsewhere.path().join("mine")).unwrap(), b"mine");
    }

    #[test]
    fn a_folder_that_is_replaced_while_it_is_open_still_takes_the_files() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let parent = Folder::open(folder.path()).unwrap().create_parent(&path("a/b/file")).unwrap().unwrap();
        std::fs::rename(folder.path().join("a"), folder.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("a")).unwrap();
        parent.create_file("file").unwrap();
        assert!(folder.path().join("moved/b/file").exists());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Folder::open(folder.path()).unwrap();
        assert!(!opened.fill("file", |_, _| Ok(false)).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        opened.remove_below(&path("not/there")).unwrap();
        opened.create("a").unwrap().create_file("b").unwrap();
        opened.remove_below(&path("a/b")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
    }
}
