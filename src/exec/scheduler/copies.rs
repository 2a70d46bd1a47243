//! Copies of what parts make, written while other parts are made: what is to be laid out below `out/` lies there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_stage_api::Output;

use crate::config::LinkMode;
use crate::exec::commit::PartCopies;
use crate::exec::materialise::Copies;
use crate::fs;
use crate::graph::StageId;
use crate::plan::Files;
use crate::store::Store;

/// The copies of a run, of each stage in a folder beside those of `out/`.
#[derive(Debug)]
pub(super) struct Copying {
    out: PathBuf,
    /// Whether `out/` is to hold copies.
    wanted: bool,
    /// Where they are made, and whether they share their blocks with what is stored; known when the first is to be made.
    made_in: Option<(PathBuf, bool)>,
    /// How often a stage began anew: what is still copied of an earlier start shall not get among the copies of a later one.
    starts: BTreeMap<StageId, usize>,
    made: BTreeMap<StageId, Files>,
}

impl Copying {
    /// Makes nothing yet.
    pub(super) fn new(out: &Path, link: LinkMode) -> Self {
        let wanted = link == LinkMode::Copy;
        Self { out: out.to_owned(), wanted, made_in: None, starts: BTreeMap::new(), made: BTreeMap::new() }
    }

    /// How those of a part of a stage are made; none where there shall be none.
    pub(super) fn of_part(&mut self, stage: StageId, outputs: &[Output], store: &Store) -> Option<PartCopies> {
        if !self.wanted {
            return None;
        }
        let out = &self.out;
        self.made_in.get_or_insert_with(|| (out.join(fs::unique_name()), shares(store, out)));
        let (folder, sharing) = self.place(stage)?;
        Some(PartCopies { folder, sharing, outputs: outputs.to_vec() })
    }

    /// Keeps those of a part that is stored.
    pub(super) fn keep(&mut self, stage: StageId, copied: Files) {
        self.made.entry(stage).or_default().extend(copied);
    }

    /// Those of a stage.
    pub(super) fn take(&mut self, stage: StageId) -> Copies {
        match (self.place(stage), self.made.remove(&stage)) {
            (Some((folder, sharing)), Some(files)) => Copies { folder, files, sharing },
            _ => Copies::default(),
        }
    }

    /// Where those of this start of a stage lie, and whether they share blocks; none before any was to be made.
    fn place(&self, stage: StageId) -> Option<(PathBuf, bool)> {
        let (folder, sharing) = self.made_in.as_ref()?;
        let start = self.starts.get(&stage).copied().unwrap_or(0);
        Some((folder.join(format!("{}-{start}", stage.index())), *sharing))
    }

    /// Forgets those of a stage that begins anew.
    pub(super) fn forget(&mut self, stage: StageId) {
        *self.starts.entry(stage).or_default() += 1;
        self.made.remove(&stage);
    }

    /// Removes what was not laid out.
    pub(super) fn clear(&mut self) {
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
