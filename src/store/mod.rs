//! The store: blobs by digest, results by key, the stat index and memos.
//!
//! ```text
//! cache/cas/ab/abcd…      blobs, read-only, named by their BLAKE3 hash
//! cache/ac/ab/abcd…       action results by key, each with its whole fingerprint
//! cache/memo/ab/abcd…     remembered views and plans by the digest of their inputs
//! cache/index             the stat index: digests of files outside the store
//! cache/seal              everything that the last run with nothing to do depended on
//! cache/runs/ID/          the record and the logs of a run
//! cache/laid              which result of each stage is in `out/`
//! cache/locks/            lock files of runs with `--profile` or `--set`
//! cache/checkpoints/      checkpoints of unfinished jobs
//! cache/executors/        jobs that are in the queue of a batch system, or were left there
//! cache/tmp/              work in progress; emptied by the next run
//! ```
//!
//! Write order: blobs, then trees, then the result. Deleting any of these files costs time, never correctness.

mod action;
mod bundle;
mod content;
mod files;
mod gc;
mod memo;
pub mod remote;
mod stat_index;
mod tree;
mod verify;

use std::path::{Path, PathBuf};

pub use crate::policy::Limits;
pub use action::{ActionCache, ActionKey, ActionResult, Origin, Outputs, ParseKeyError, ResultOutput, TrustPolicy};
pub use bundle::{BundleError, BundleReport, ExportFile, export, import};
pub use content::{ContentStore, Staged, copy_hashing};
pub use files::Files;
pub use gc::{GcReport, GcRoots, gc};
pub use memo::Memo;
pub use stat_index::{FileListing, IndexedFile, StableEntry, StatIndex};
pub use tree::{Tree, TreeEntry, TreeError};
pub use verify::{Damage, Usage, usage, verify};

use crate::fs::{self, FsError, Symlinks};

/// The version of the on-disk format. Caches with a newer version are rejected.
pub const FORMAT: u32 = 1;

/// Files that may exist in a cache directory without a `version` file: common files of users and file systems, and files left by read-only
/// commands or by a run whose cache was deleted. Nothing is deleted because it has one of these names.
const EXPECTED_WITHOUT_VERSION: [&str; 13] = [
    ".DS_Store",
    ".gitignore",
    ".gitkeep",
    "CACHEDIR.TAG",
    "README.md",
    "index",
    "laid",
    "lost+found",
    "memo",
    "run.lock",
    "runs",
    "seal",
    "tidied",
];

/// Directories that may also exist if there are blobs or results. Their contents are subject to garbage collection, so the name alone
/// does not prove that they belong to a cache.
const EXPECTED_WITH_BLOBS: [&str; 8] = ["ac", "cas", "checkpoints", "executors", "locks", "rebuild", "rebuilt", "tmp"];

/// Whether a directory contains only subdirectories named by two hexadecimal digits, and at least one.
fn is_sharded_by_digest(folder: &Path) -> bool {
    let is_hex = |name: &str| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    !names.is_empty() && names.iter().all(|name| is_hex(name))
}

/// Whether a file that hamflow would overwrite starts like one that hamflow has written.
fn has_expected_header(name: &str, path: &Path) -> bool {
    let bytes = || fs::read_regular(path, Symlinks::Refuse).unwrap_or_default();
    match name {
        "index" => bytes().starts_with(b"hamflow-index"),
        "laid" => bytes().starts_with(b"{"),
        "run.lock" => bytes().is_empty() || bytes().starts_with(b"process "),
        "tidied" => bytes().iter().all(|byte| byte.is_ascii_digit() || *byte == b'\n'),
        _ => true,
    }
}

/// The cache directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// The blobs.
    pub content: ContentStore,
    /// The results.
    pub actions: ActionCache,
    /// The memos.
    pub memo: Memo,
}

/// An error opening or creating a cache directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory has a newer format than this version of hamflow supports.
    #[error("the cache `{}` has format {found}, but this version of hamflow supports only format {FORMAT}", root.display())]
    Newer {
        /// The cache directory.
        root: PathBuf,
        /// The format found in its `version` file.
        found: String,
    },
    /// The directory holds files that are not part of a cache.
    #[error("`{}` is not a cache directory: it contains `{found}`", root.display())]
    NotACache {
        /// The directory.
        root: PathBuf,
        /// The name of a file that no cache contains.
        found: String,
    },
    /// The directory cannot be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl StoreError {
    /// What the user can do about the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some("update hamflow, or name another directory under `[cache] dir`"),
            Self::NotACache { .. } => Some("name a directory that only the cache uses under `[cache] dir`"),
            Self::Fs(_) => None,
        }
    }
}

impl Store {
    /// Opens the store at `root`, which need not exist.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let version = root.join("version");
        if let Ok(text) = fs::read_text(&version, Symlinks::Refuse)
            && text.trim().parse::<u32>().is_ok_and(|found| found > FORMAT)
        {
            return Err(StoreError::Newer { root: root.to_owned(), found: text.trim().to_owned() });
        }
        Ok(Self {
            root: root.to_owned(),
            content: ContentStore::new(root),
            actions: ActionCache::new(root.join("ac")),
            memo: Memo::new(root.join("memo")),
        })
    }

    /// Creates the cache directory, including a `.gitignore`. Fails if the directory exists and is neither empty nor a cache, because
    /// files in a cache are subject to garbage collection.
    pub fn create(&self) -> Result<(), StoreError> {
        let version = self.root.join("version");
        if !version.exists() {
            self.check_is_cache()?;
            fs::create_dir(&self.root)?;
            let ignored = self.root.join(".gitignore");
            if !ignored.exists() {
                fs::write(&ignored, b"*\n", fs::Durability::Relaxed)?;
            }
            fs::write(&version, format!("{FORMAT}\n").as_bytes(), fs::Durability::Relaxed)?;
        }
        Ok(())
    }

    /// Fails if the directory exists and is not a cache.
    pub fn check_is_cache(&self) -> Result<(), StoreError> {
        if self.root.join("version").exists() {
            return Ok(());
        }
        let digests = ["cas", "ac"].map(|name| self.root.join(name));
        let is_cache = digests.iter().any(|folder| is_sharded_by_digest(folder))
            && digests.iter().all(|folder| !folder.exists() || is_sharded_by_digest(folder));
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            let known = (EXPECTED_WITHOUT_VERSION.contains(&&found[..]) && has_expected_header(&found, &entry.path()))
                || (is_cache && EXPECTED_WITH_BLOBS.contains(&&found[..]));
            if !known && !fs::is_staged(&found) {
                // Another process may have created the cache since the first check.
                if self.root.join("version").exists() {
                    return Ok(());
                }
                return Err(StoreError::NotACache { root: self.root.clone(), found });
            }
        }
        Ok(())
    }

    /// The cache directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the lock files of pipelines.
    pub fn locks_dir(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The directory of run records and logs.
    pub fn runs_dir(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The directory of checkpoints, from which interrupted jobs continue.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The directory of the jobs that executors other than this machine have, by the names of the executors.
    pub fn executors_dir(&self) -> PathBuf {
        self.root.join("executors")
    }

    /// The directory in which jobs run, on the same file system as the blobs.
    pub fn tmp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }
}
