//! Bytes by digest.

use std::fs as std_fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::{self, Digest};
use crate::fs::{self, Durability, FsError, at};

/// A blob that lies in a staging place and is not in the store yet.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Where it lies now, on the store's file system.
    pub path: PathBuf,
    /// What it is.
    pub digest: Digest,
}

/// So many bytes of a file are copied at a time.
const COPY_AT_ONCE: u64 = 1024 * 1024;

/// More staged files than this are put on the disk by one call for the whole file system.
const SYNC_ONE_BY_ONE: usize = 8;

/// The blobs below `cache/cas`.
#[derive(Debug, Clone)]
pub struct ContentStore {
    blobs: PathBuf,
}

impl ContentStore {
    pub(super) fn new(root: &Path) -> Self {
        Self { blobs: root.join("cas") }
    }

    /// The folder of all blobs.
    pub fn folder(&self) -> &Path {
        &self.blobs
    }

    /// Where the blob is, if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs.join(&hex[..2]).join(&hex)
    }

    /// Whether a blob of that name and size is there. Its bytes are checked when it is read.
    pub fn contains(&self, digest: &Digest) -> bool {
        std_fs::symlink_metadata(self.path(digest)).is_ok_and(|metadata| metadata.len() == digest.size())
    }

    /// The bytes of a blob; none where it is absent or damaged (then it is deleted, and counts as a miss).
    pub fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match std_fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => return Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            // What cannot be read is as good as damaged.
            _ => {}
        }
        let _ = std_fs::remove_file(&path);
        None
    }

    /// Whether the blob's bytes are those that its name says; a damaged one is deleted.
    pub fn check(&self, digest: &Digest) -> bool {
        let path = self.path(digest);
        match digest::of_file(&path) {
            Ok(found) if found == *digest => return true,
            // Somebody may be about to put it there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            _ => {}
        }
        let _ = std_fs::remove_file(&path);
        false
    }

    /// Writes a blob's bytes to a new file and checks them on the way; false where it is absent or damaged (then it is deleted, and the new
    /// file must not be used). `buffer` may be used again for the next.
    pub fn copy_out(&self, digest: &Digest, to: &Path, buffer: &mut Vec<u8>) -> Result<bool, FsError> {
        let path = self.path(digest);
        let mut from = match std_fs::File::open(&path) {
            Ok(from) => from,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(at("open", &path)(error)),
        };
        let mut target = fs::create_new(to).map_err(at("create", to))?;
        let mut left = digest.size();
        let mut hasher = blake3::Hasher::new();
        while left > 0 {
            buffer.resize(usize::try_from(left.min(COPY_AT_ONCE)).unwrap_or(0), 0);
            if from.read_exact(buffer).is_err() {
                break;
            }
            hasher.update(buffer);
            target.write_all(buffer).map_err(at("write", to))?;
            left -= buffer.len() as u64;
        }
        if left == 0 && Digest::new(*hasher.finalize().as_bytes(), digest.size()) == *digest {
            return Ok(true);
        }
        let _ = std_fs::remove_file(&path);
        Ok(false)
    }

    /// Stores bytes that can be made again at any time, such as a listing.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, FsError> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest) {
            fs::write(&self.path(&digest), bytes, Durability::Synced)?;
        }
        Ok(digest)
    }

    /// Stores staged files, in place of damaged ones too: all on the disk before the first appears under its name.
    pub fn commit(&self, staged: &[Staged]) -> Result<(), FsError> {
        let missing: Vec<&Staged> = staged.iter().filter(|blob| !self.check(&blob.digest)).collect();
        for blob in &missing {
            let read_only = std_fs::Permissions::from_mode(0o444);
            std_fs::set_permissions(&blob.path, read_only).map_err(at("set permissions of", &blob.path))?;
        }
        match &missing[..] {
            [] => return Ok(()),
            few if few.len() <= SYNC_ONE_BY_ONE => few.iter().try_for_each(|blob| fs::sync_file(&blob.path))?,
            [first, ..] => fs::sync_file_system(first.path.parent().unwrap_or(Path::new(".")))?,
        }
        missing.iter().try_for_each(|blob| fs::rename(&blob.path, &self.path(&blob.digest)))
    }
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
    fn a_damaged_blob_is_a_miss_and_gone() {
        let (_folder, store) = store();
        let digest = store.put(b"good bytes").unwrap();
        assert_eq!(store.read(&digest).as_deref(), Some(&b"good bytes"[..]));
        std_fs::write(store.path(&digest), b"evil bytes").unwrap();
        assert_eq!(store.read(&digest), None);
        assert!(!store.contains(&digest));
    }

    #[test]
    fn a_blob_is_copied_out_whole_or_said_to_be_damaged() {
        let (folder, store) = store();
        let mut buffer = Vec::new();
        for size in [0, 1, COPY_AT_ONCE, 2 * COPY_AT_ONCE + 3] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let digest = store.put(&bytes).unwrap();
            let to = |name: &str| folder.path().join(format!("{name}-{size}"));
            assert!(store.copy_out(&digest, &to("whole"), &mut buffer).unwrap());
            assert!(std_fs::read(to("whole")).unwrap() == bytes, "{size}");
            std_fs::remove_file(store.path(&digest)).unwrap();
            assert!(!store.copy_out(&digest, &to("absent"), &mut buffer).unwrap());
            for damaged in
                [[&bytes[..bytes.len().saturating_sub(1)], b"!"].concat(), bytes[1.min(bytes.len())..].to_vec()]
            {
                std_fs::write(store.path(&digest), &damaged).unwrap();
                let whole = store.copy_out(&digest, &to(&format!("damaged-{}", damaged.len())), &mut buffer).unwrap();
                assert_eq!(whole, size == 0, "{size}: nothing of it is read");
                assert_eq!(store.path(&digest).exists(), whole);
            }
        }
    }

    #[test]
    fn staged_files_move_in_by_their_digests() {
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
