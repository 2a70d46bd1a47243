//! Early copies of the outputs of parts, written while other parts run, so that they need not be copied when the result is restored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_stage_api::Output;

use crate::digest::{self, Digest};
use crate::fs::{self, Folder, RelativePath, Symlinks};
use crate::store::{self, Files, Store};

/// Copies of a stage's files that were made before the stage was complete.
#[derive(Debug, Default)]
pub struct Copies {
    /// Their folder, with the same paths as in the stage's folder.
    pub folder: PathBuf,
    /// The complete copies; other files in the folder are litter.
    pub files: Files,
    /// Whether the copies share blocks with the store.
    pub sharing: bool,
}

/// Copies the outputs of a part.
#[derive(Debug)]
pub struct PartCopies {
    /// The folder of the copies, with the same paths as in the output directory.
    pub folder: PathBuf,
    /// Whether the file system shares blocks.
    pub sharing: bool,
    /// The stage's outputs: only what parts add to them is restored unchanged.
    pub outputs: Vec<Output>,
}

impl PartCopies {
    /// Copies a file of a part and returns the digest of the copied bytes. Returns `None` on failure; the file is then restored from the
    /// store.
    pub fn make(&self, from: &Path, size: u64, path: &str) -> Option<Digest> {
        fs::create_dir(&self.folder).ok()?;
        let (folder, path) = (Folder::open(&self.folder).ok()?, RelativePath::new(path).ok()?);
        let parent = folder.create_parent(&path).ok()?;
        let (parent, name) = (parent.as_ref().unwrap_or(&folder), path.name());
        let mut from_file = fs::open_regular(from, Symlinks::Refuse).ok()?;
        if self.sharing {
            let digest = digest::of_reader(&mut from_file).ok()?;
            return parent.share(from, name).ok()?.then_some(digest);
        }
        // An existing copy belongs to an earlier part and is identified by its digest.
        let mut target = parent.create_file(name).ok()?;
        if let Ok(Ok(digest)) = store::copy_hashing(&mut from_file, size, &mut target, &self.folder.join(&path)) {
            return Some(digest);
        }
        // Frees the space, in case the disk is full.
        let _ = parent.remove_file(name);
        None
    }
}

/// The early copies of a run, in one folder per stage beside those of `out/`.
#[derive(Debug)]
pub struct EarlyCopies {
    out: PathBuf,
    /// Whether `out/` should hold copies.
    wanted: bool,
    /// The folder of the copies, and whether they share blocks with the store; set before the first copy.
    made_in: Option<(PathBuf, bool)>,
    /// Number of restarts of each stage: files still being copied by an earlier start must not mix with those of a later one.
    starts: BTreeMap<usize, usize>,
    made: BTreeMap<usize, Files>,
}

impl EarlyCopies {
    /// Creates the copies of a run with results in `out`, if `wanted`. Nothing is written yet.
    pub fn new(out: &Path, wanted: bool) -> Self {
        Self { out: out.to_owned(), wanted, made_in: None, starts: BTreeMap::new(), made: BTreeMap::new() }
    }

    /// Returns what a part of a stage needs to make its copies, or `None` if no copies are wanted.
    pub fn of_part(&mut self, stage: usize, outputs: &[Output], store: &Store) -> Option<PartCopies> {
        if !self.wanted {
            return None;
        }
        let out = &self.out;
        self.made_in.get_or_insert_with(|| (out.join(fs::unique_name()), shares(store, out)));
        let (folder, sharing) = self.place(stage)?;
        Some(PartCopies { folder, sharing, outputs: outputs.to_vec() })
    }

    /// Keeps the copies of a part that is stored.
    pub fn keep(&mut self, stage: usize, copied: Files) {
        self.made.entry(stage).or_default().extend(copied);
    }

    /// Takes the copies of a stage.
    pub fn take(&mut self, stage: usize) -> Copies {
        match (self.place(stage), self.made.remove(&stage)) {
            (Some((folder, sharing)), Some(files)) => Copies { folder, files, sharing },
            _ => Copies::default(),
        }
    }

    /// Returns the folder of the current start of a stage and whether blocks are shared, or `None` before the first copy.
    fn place(&self, stage: usize) -> Option<(PathBuf, bool)> {
        let (folder, sharing) = self.made_in.as_ref()?;
        let start = self.starts.get(&stage).copied().unwrap_or(0);
        Some((folder.join(format!("{}-{start}", stage)), *sharing))
    }

    /// Forgets the copies of a stage that restarts.
    pub fn forget(&mut self, stage: usize) {
        *self.starts.entry(stage).or_default() += 1;
        self.made.remove(&stage);
    }

    /// Removes copies that were not used.
    pub fn clear(&mut self) {
        if let Some((folder, _)) = self.made_in.take() {
            let _ = fs::remove(&folder);
        }
    }
}

/// Whether a file in `out` can share its blocks with one in the store.
fn shares(store: &Store, out: &Path) -> bool {
    let (from, to) = (store.tmp_dir().join(fs::unique_name()), out.join(fs::unique_name()));
    let shared = fs::write(&from, &[0; 4096], fs::Durability::Relaxed).and_then(|()| fs::share(&from, &to));
    let _ = (fs::remove(&from), fs::remove(&to));
    shared.unwrap_or(false)
}
