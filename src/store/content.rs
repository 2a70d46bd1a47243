//! The content store: blobs by digest.

use std::fs as std_fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{self, Digest};
use crate::fs::{self, Durability, FsError, Symlinks, at};
use crate::sys;

/// Copies of at least this size, in bytes, bypass the page cache.
const UNCACHED_COPY_SIZE: u64 = 1024 * 1024;

/// A file that is ready to be moved into the store.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The current path, on the same file system as the store.
    pub path: PathBuf,
    /// The digest of the file.
    pub digest: Digest,
}

/// The blobs below `cache/cas`.
#[derive(Debug, Clone)]
pub struct ContentStore {
    blobs: PathBuf,
}

impl ContentStore {
    pub(super) fn new(root: &Path) -> Self {
        Self { blobs: root.join("cas") }
    }

    /// The directory of all blobs.
    pub fn folder(&self) -> &Path {
        &self.blobs
    }

    /// The path where a blob is stored.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs.join(&hex[..2]).join(&hex)
    }

    /// Whether the store has a blob with this name and size. Its content is checked when it is read.
    pub fn contains(&self, digest: &Digest) -> bool {
        let is_whole = |metadata: std_fs::Metadata| metadata.is_file() && metadata.len() == digest.size();
        std_fs::symlink_metadata(self.path(digest)).is_ok_and(is_whole)
    }

    /// Reads a blob. Returns `None` if it is missing or damaged; a damaged blob is deleted.
    pub fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(digest)?.read_to_end(&mut bytes).ok()?;
        if Digest::of(&bytes) == *digest {
            return Some(bytes);
        }
        let _ = std_fs::remove_file(self.path(digest));
        None
    }

    /// Opens a blob. Returns `None` if it is missing, or is not a file of the right size (then it is deleted).
    fn open(&self, digest: &Digest) -> Option<std_fs::File> {
        let path = self.path(digest);
        let opened = fs::open_regular(&path, Symlinks::Refuse);
        let is_wrong = match &opened {
            Ok(file) => file.metadata().is_ok_and(|metadata| metadata.len() != digest.size()),
            // A blob that is temporarily unreadable may be intact: treat it as missing, but keep it.
            Err(error) => error.kind() == io::ErrorKind::InvalidData,
        };
        if is_wrong {
            let _ = std_fs::remove_file(&path);
            return None;
        }
        opened.ok()
    }

    /// Checks the content of a blob; a damaged one is deleted.
    pub fn check(&self, digest: &Digest) -> bool {
        let Some(mut blob) = self.open(digest) else { return false };
        let Ok(found) = digest::of_reader(&mut blob) else { return false };
        if found != *digest {
            let _ = std_fs::remove_file(self.path(digest));
        }
        found == *digest
    }

    /// Copies a blob to `to` atomically and checks its content. Returns false if it is missing or damaged; a damaged blob is deleted.
    pub fn copy(&self, digest: &Digest, to: &Path) -> Result<bool, FsError> {
        fs::fill(to, |target, staged| self.copy_into(digest, target, staged))
    }

    /// Like [`copy`](Self::copy), into an open file. If this fails or returns false, the contents of `target` are undefined.
    pub fn copy_into(&self, digest: &Digest, target: &mut std_fs::File, name: &Path) -> Result<bool, FsError> {
        let Some(mut blob) = self.open(digest) else { return Ok(false) };
        let Ok(found) = copy_hashing(&mut blob, digest.size(), target, name)? else { return Ok(false) };
        if found != *digest {
            let _ = std_fs::remove_file(self.path(digest));
        }
        Ok(found == *digest)
    }

    /// Stores bytes that can be recomputed at any time, such as a directory listing.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, FsError> {
        let digest = Digest::of(bytes);
        if !self.check(&digest) {
            fs::write(&self.path(&digest), bytes, Durability::Synced)?;
        }
        Ok(digest)
    }

    /// Moves staged files into the store, replacing damaged blobs. All of them are synced before the first one is renamed.
    pub fn commit(&self, staged: &[Staged]) -> Result<(), FsError> {
        let missing: Vec<&Staged> = staged.iter().filter(|blob| !self.check(&blob.digest)).collect();
        for blob in &missing {
            break_hard_links(blob)?;
            let read_only = sys::permissions(0o444);
            std_fs::set_permissions(&blob.path, read_only).map_err(at("set permissions of", &blob.path))?;
        }
        fs::sync_files(missing.iter().map(|blob| blob.path.as_path()))?;
        missing.iter().try_for_each(|blob| fs::rename(&blob.path, &self.path(&blob.digest)))
    }
}

/// Replaces a staged file that has several hard links by a copy, because its content could be changed through another link.
fn break_hard_links(blob: &Staged) -> Result<(), FsError> {
    let path = &blob.path;
    if sys::link_count(&std_fs::symlink_metadata(path).map_err(at("read", path))?) == 1 {
        return Ok(());
    }
    let filled = fs::fill(path, |target, staged| {
        let mut from = fs::open_regular(path, Symlinks::Refuse).map_err(at("open", path))?;
        let found = copy_hashing(&mut from, blob.digest.size(), target, staged)?.map_err(at("read", path))?;
        Ok(found == blob.digest)
    })?;
    if filled {
        return Ok(());
    }
    Err(at("store", path)(io::Error::other("the file changed while it was copied")))
}

/// Copies a file of about `size` bytes to `target`, the file named `name`, and returns the digest of the copied bytes. The inner error is
/// a failed read, the outer one a failed write.
///
/// Large copies bypass the page cache: they are for users, and must not evict the blobs that the next stages read.
pub fn copy_hashing(
    from: &mut std_fs::File,
    size: u64,
    target: &mut std_fs::File,
    name: &Path,
) -> Result<io::Result<Digest>, FsError> {
    let write = if size >= UNCACHED_COPY_SIZE { fs::write_uncached } else { std_fs::File::write_all };
    digest::of_pieces(from, |piece| write(target, piece).map_err(at("write", name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ContentStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::new(folder.path());
        (folder, store)
    }

    #[test]
    fn a_damaged_blob_is_a_miss_and_deleted() {
        let (_folder, store) = store();
        let digest = store.put(b"good bytes").unwrap();
        assert_eq!(store.read(&digest).as_deref(), Some(&b"good bytes"[..]));
        std_fs::write(store.path(&digest), b"evil bytes").unwrap();
        assert_eq!(store.read(&digest), None);
        assert!(!store.contains(&digest));
    }

    #[test]
    fn copying_yields_the_complete_blob_or_reports_damage() {
        let (folder, store) = store();
        for size in [0, 1, 100_000, 1_000_003, 3_000_001] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let digest = store.put(&bytes).unwrap();
            let to = |name: &str| folder.path().join(format!("{name}-{size}"));
            let copy_out = |to: &Path| {
                let mut target = fs::create_new(to).unwrap();
                store.copy_into(&digest, &mut target, to).unwrap()
            };
            assert!(copy_out(&to("whole")));
            assert!(std_fs::read(to("whole")).unwrap() == bytes, "{size}");
            std_fs::remove_file(store.path(&digest)).unwrap();
            assert!(!copy_out(&to("absent")));
            for damaged in
                [[&bytes[..bytes.len().saturating_sub(1)], b"!"].concat(), bytes[1.min(bytes.len())..].to_vec()]
            {
                std_fs::write(store.path(&digest), &damaged).unwrap();
                let whole = copy_out(&to(&format!("damaged-{}", damaged.len())));
                assert_eq!(whole, bytes == damaged, "{size}");
                assert_eq!(store.path(&digest).exists(), whole);
            }
        }
    }

    #[test]
    fn a_blob_that_is_not_a_regular_file_is_damaged_and_never_opened() {
        let (folder, store) = store();
        let digest = Digest::of(b"good bytes");
        let (path, elsewhere) = (store.path(&digest), folder.path().join("elsewhere"));
        std_fs::create_dir_all(path.parent().unwrap()).unwrap();
        std_fs::write(&elsewhere, "good bytes").unwrap();
        for make in [
            |path: &Path, _: &Path| sys::make_fifo(path),
            |path: &Path, elsewhere: &Path| std::os::unix::fs::symlink(elsewhere, path).unwrap(),
            |path: &Path, _: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        ] {
            make(&path, &elsewhere);
            assert!(!store.contains(&digest));
            assert_eq!(store.read(&digest), None);
            assert!(path.symlink_metadata().is_err(), "it was deleted");
            make(&path, &elsewhere);
            assert!(!store.check(&digest));
            make(&path, &elsewhere);
            assert!(!store.copy(&digest, &folder.path().join("copy")).unwrap());
            // Damaged blobs that no reader has deleted yet are replaced.
            make(&path, &elsewhere);
            store.put(b"good bytes").unwrap();
            assert!(path.symlink_metadata().unwrap().is_file());
            std_fs::remove_file(&path).unwrap();
        }
        assert_eq!(std_fs::read(&elsewhere).unwrap(), b"good bytes");
    }

    #[test]
    fn a_damaged_blob_is_not_copied_but_deleted() {
        let (folder, store) = store();
        let digest = store.put(b"good bytes").unwrap();
        let copy = folder.path().join("out/copy");
        assert!(store.copy(&digest, &copy).unwrap());
        assert_eq!(std_fs::read(&copy).unwrap(), b"good bytes");
        std_fs::write(store.path(&digest), b"evil bytes").unwrap();
        assert!(!store.copy(&digest, &copy).unwrap() && !store.contains(&digest));
        assert!(!store.copy(&digest, &copy).unwrap(), "it is missing");
        assert_eq!(std_fs::read(&copy).unwrap(), b"good bytes");
        assert_eq!(std_fs::read_dir(folder.path().join("out")).unwrap().count(), 1, "no partial file is left");
    }

    #[test]
    fn staged_files_are_stored_by_digest() {
        let (folder, store) = store();
        for count in [1, 20] {
            let staged: Vec<Staged> = (0..count)
                .map(|i| {
                    let bytes = format!("blob {i} of {count}");
                    let path = folder.path().join(format!("staged-{i}"));
                    std_fs::write(&path, &bytes).unwrap();
                    Staged { path, digest: Digest::of(bytes.as_bytes()) }
                })
                .collect();
            store.commit(&staged).unwrap();
            assert!(staged.iter().all(|blob| store.check(&blob.digest) && !blob.path.exists()));
        }
    }
}
