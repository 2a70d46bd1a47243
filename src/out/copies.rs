//! Copies of what parts make, written while other parts are made: what is to be laid out below `out/` lies there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_stage_api::Output;

use crate::digest::{self, Digest};
use crate::fs::{self, Folder, RelativePath, Symlinks};
use crate::store::{self, Files, Store};

/// Copies of a stage's files that were made before all of them were there.
#[derive(Debug, Default)]
pub struct Copies {
    /// Where they lie, by the same paths as below the stage's folder.
    pub folder: PathBuf,
    /// Those that are whole; what else lies there is litter.
    pub files: Files,
    /// Whether they share their blocks with what is stored.
    pub sharing: bool,
}

/// Copies of what parts make, for people.
#[derive(Debug)]
pub struct PartCopies {
    /// Where they are made, by the same paths as below the output directory.
    pub folder: PathBuf,
    /// Whether the file system shares blocks.
    pub sharing: bool,
    /// The stage's outputs: only what parts add to them is laid out as it is.
    pub outputs: Vec<Output>,
}

impl PartCopies {
    /// Copies a file of a part, and returns the digest of what was copied; none where it cannot be: then it is laid out from the store.
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
        // A copy that is there belongs to a part that was made before, and is known by its digest.
        let mut target = parent.create_file(name).ok()?;
        if let Ok(Ok(digest)) = store::copy_hashing(&mut from_file, size, &mut target, &self.folder.join(&path)) {
            return Some(digest);
        }
        // On a full disk its place is needed.
        let _ = parent.remove_file(name);
        None
    }
}

/// The copies of a run, of each stage in a folder beside those of `out/`.
#[derive(Debug)]
pub struct EarlyCopies {
    out: PathBuf,
    /// Whether `out/` is to hold copies.
    wanted: bool,
    /// Where they are made, and whether they share their blocks with what is stored; known when the first is to be made.
    made_in: Option<(PathBuf, bool)>,
    /// How often a stage began anew: what is still copied of an earlier start shall not get among the copies of a later one.
    starts: BTreeMap<usize, usize>,
    made: BTreeMap<usize, Files>,
}

impl EarlyCopies {
    /// Those of a run whose results are copied to `out`, where that is `wanted`; makes nothing yet.
    pub fn new(out: &Path, wanted: bool) -> Self {
        Self { out: out.to_owned(), wanted, made_in: None, starts: BTreeMap::new(), made: BTreeMap::new() }
    }

    /// How those of a part of a stage are made; none where there shall be none.
    pub fn of_part(&mut self, stage: usize, outputs: &[Output], store: &Store) -> Option<PartCopies> {
        if !self.wanted {
            return None;
        }
        let out = &self.out;
        self.made_in.get_or_insert_with(|| (out.join(fs::unique_name()), shares(store, out)));
        let (folder, sharing) = self.place(stage)?;
        Some(PartCopies { folder, sharing, outputs: outputs.to_vec() })
    }

    /// Keeps those of a part that is stored.
    pub fn keep(&mut self, stage: usize, copied: Files) {
        self.made.entry(stage).or_default().extend(copied);
    }

    /// Those of a stage.
    pub fn take(&mut self, stage: usize) -> Copies {
        match (self.place(stage), self.made.remove(&stage)) {
            (Some((folder, sharing)), Some(files)) => Copies { folder, files, sharing },
            _ => Copies::default(),
        }
    }

    /// Where those of this start of a stage lie, and whether they share blocks; none before any was to be made.
    fn place(&self, stage: usize) -> Option<(PathBuf, bool)> {
        let (folder, sharing) = self.made_in.as_ref()?;
        let start = self.starts.get(&stage).copied().unwrap_or(0);
        Some((folder.join(format!("{}-{start}", stage)), *sharing))
    }

    /// Forgets those of a stage that begins anew.
    pub fn forget(&mut self, stage: usize) {
        *self.starts.entry(stage).or_default() += 1;
        self.made.remove(&stage);
    }

    /// Removes what was not laid out.
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
