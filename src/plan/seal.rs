//! A seal: everything that a look at a pipeline with nothing to do depended on, so that the next look need not think.
//!
//! Parsing a pipeline, resolving its parameters and making the keys of its stages is work that a run with nothing to do
//! would repeat each time to come to the same end. A run in which every stage was fresh writes down what that depended
//! on: the texts of the pipeline and the lock by their digests, the environment, the device classes, which arguments
//! name files, and of every file and folder (inputs, `out/`, results and blobs of the store) what the system says of it.
//! While all of that is so, every stage is fresh, by the same rules as those of the stat index: a file that was changed
//! about when it was looked at is not sealed. Whatever differs, or a seal that is lost, costs a full look.
//!
//! The seal lies beside the stat index, in the default cache directory alone: it is looked for before the pipeline is
//! parsed, which would say where else to look.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{Params, envelope};
use serde::{Deserialize, Serialize};

use super::Planner;
use super::trace::{DeviceChoice, Trace};
use crate::config::{DEFAULT_CACHE_DIR, Kinds};
use crate::digest::Digest;
use crate::fs::{self, Durability, Listed, Stat, Symlinks};
use crate::lock::Lockfile;
use crate::store::StableEntry;
use crate::store::remote::SCOPE_VARIABLE;
use crate::threads;

const MAGIC: &[u8] = b"hamflow-seal 1\n";

/// A BLAKE3 hash, kept as bytes.
type Hash = [u8; 32];

/// What was asked: the program, the pipeline file and the arguments that choose what a run looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation(Hash);

impl Invocation {
    /// Says it; none where the program cannot find itself.
    pub fn new(file: &Path, profile: Option<&str>, set: &[String], stages: &[String]) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let stat = Stat::of(&std::fs::metadata(&program).ok()?);
        // Whose results are believed is said by the pipeline for each scope.
        let scope = std::env::var_os(SCOPE_VARIABLE);
        let text = format!("{program:?} {stat:?} {file:?} {profile:?} {set:?} {stages:?} {scope:?}");
        Some(Self(*Digest::of(text.as_bytes()).hash()))
    }
}

/// Everything that "all stages are fresh" depended on. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    invocation: Invocation,
    /// The stages, in the order in which they were found fresh.
    pub stages: Vec<String>,
    /// Files that are read each time: by their bytes.
    texts: Vec<(PathBuf, Hash)>,
    /// Variables of the environment, by the digest of their values.
    environment: Vec<(String, Option<Hash>)>,
    devices: Vec<DeviceChoice>,
    /// What arguments name, and whether that is a file.
    named: Vec<(PathBuf, bool)>,
    files: Vec<(PathBuf, Stat)>,
    /// Folders, by the digest of their files' names and stats.
    folders: Vec<(PathBuf, Hash)>,
}

/// The lock file as a run left it.
#[derive(Clone, Copy)]
pub struct SavedLock<'a> {
    /// The path of the file.
    pub path: &'a Path,
    /// Its content.
    pub lock: &'a Lockfile,
}

impl Seal {
    /// The root of the store of every sealed project at `root`.
    pub fn store(root: &Path) -> PathBuf {
        root.join(DEFAULT_CACHE_DIR)
    }

    fn path(root: &Path) -> PathBuf {
        Self::store(root).join("seal")
    }

    /// The seal of `root`, if there is one that answers `invocation`.
    pub fn read(root: &Path, invocation: Invocation) -> Option<Self> {
        let bytes = fs::read_regular(&Self::path(root), Symlinks::Refuse).ok()?;
        let body = envelope::open(MAGIC, &bytes)?;
        Self::decode(body).filter(|seal| seal.invocation == invocation)
    }

    /// The seal that stands behind the checksum.
    pub fn decode(body: &[u8]) -> Option<Self> {
        postcard::from_bytes(body).ok()
    }

    /// Writes it; what cannot be written down, such as a path that is not UTF-8, is not sealed.
    pub fn write(&self, root: &Path) -> Result<(), fs::FsError> {
        let Ok(body) = postcard::to_stdvec(self) else { return Ok(()) };
        fs::write(&Self::path(root), &envelope::seal(MAGIC, &body), Durability::Relaxed)
    }

    /// Seals the trace of what `planner` read to find every stage fresh; the lock is as it is on the disk.
    ///
    /// None where something cannot be sealed: a file that was changed a moment ago, an input that is not there and that only the lock
    /// remembers, a store elsewhere.
    pub fn of(planner: &Planner<'_>, invocation: Invocation, stages: Vec<String>, lock: SavedLock<'_>) -> Option<Self> {
        let (store, pipeline) = (planner.store(), &planner.graph().pipeline);
        if store.root() != Self::store(&pipeline.root) {
            return None;
        }
        let (trace, began) = planner.world.trace();
        let Trace { variables, devices, paths, results, blobs, is_open } = &*trace.borrow();
        let is_unhashed = planner.declared.iter().flatten().any(|declared| declared.digest.is_unread());
        if *is_open || is_unhashed {
            return None;
        }
        let mut seal = Self {
            invocation,
            stages,
            texts: texts(planner, lock)?,
            environment: variables.iter().map(|name| (name.clone(), variable(name))).collect(),
            devices: devices.clone(),
            named: planner.graph().looked_for().collect::<BTreeSet<_>>().into_iter().collect(),
            files: Vec::new(),
            folders: Vec::new(),
        };
        for path in paths {
            match planner.world.stable_entry(path)? {
                StableEntry::File(stat) => seal.files.push((path.clone(), stat)),
                StableEntry::Folder(files) => seal.folders.push((path.clone(), state(files))),
            }
        }
        let results = results.iter().map(|key| store.actions.path(key));
        let objects: BTreeSet<PathBuf> = results.chain(blobs.iter().map(|digest| store.content.path(digest))).collect();
        for path in objects {
            let stat = Stat::of(&std::fs::metadata(&path).ok()?);
            if !stat.is_settled_at(began) {
                return None;
            }
            seal.files.push((path, stat));
        }
        Some(seal)
    }

    /// Whether everything still is as it was sealed.
    pub fn holds(&self, kinds: Kinds) -> bool {
        let Self { invocation: _, stages: _, texts, environment, devices, named, files, folders } = self;
        environment.iter().all(|(name, value)| variable(name) == *value)
            && devices.iter().all(|device| device.holds(kinds))
            && all(texts, |(path, hash)| {
                fs::read_regular(path, Symlinks::Follow).is_ok_and(|bytes| blake3::hash(&bytes).as_bytes() == hash)
            })
            && all(named, |(path, is_file)| path.is_file() == *is_file)
            && all(files, |(path, stat)| std::fs::metadata(path).is_ok_and(|found| Stat::of(&found) == *stat))
            && all(folders, |(path, hash)| holds_folder(path, hash))
    }
}

impl DeviceChoice {
    fn holds(&self, kinds: Kinds) -> bool {
        let kind = kinds.iter().find(|kind| kind.spec().name == self.kind);
        let params = serde_json::from_str::<Params>(&self.params).ok();
        let resolved = kind.zip(params).and_then(|(kind, params)| Some((kind, kind.resolve(&params).ok()?)));
        resolved.is_some_and(|(kind, params)| kind.device_class(&params).is_ok_and(|class| class == self.class))
    }
}

/// The files that are read each time, by their bytes; none where the lock is not as the planner has it.
fn texts(planner: &Planner<'_>, lock: SavedLock<'_>) -> Option<Vec<(PathBuf, Hash)>> {
    let SavedLock { path: lock_path, lock } = lock;
    let pipeline = &planner.graph().pipeline;
    let lock_text = fs::read_text(lock_path, Symlinks::Follow).ok()?;
    if Lockfile::parse(&lock_text, lock_path).ok()? != *lock {
        return None;
    }
    let version = planner.store().root().join("version");
    let version_text = fs::read_text(&version, Symlinks::Refuse).ok()?;
    let texts = [
        (pipeline.file.clone(), pipeline.sources.file_text()),
        (lock_path.to_owned(), &lock_text),
        (version, &version_text),
    ];
    Some(texts.map(|(path, text)| (path, *Digest::of(text.as_bytes()).hash())).to_vec())
}

fn variable(name: &str) -> Option<Hash> {
    std::env::var_os(name).map(|value| *Digest::of(value.as_encoded_bytes()).hash())
}

fn holds_folder(path: &Path, hash: &Hash) -> bool {
    fs::list(path, threads::available())
        .is_ok_and(|listed| state(listed.iter().map(|Listed { path, stat }| (&path[..], stat))) == *hash)
}

/// The digest of the names and stats of files, sorted by name.
fn state<'a>(files: impl Iterator<Item = (&'a str, &'a Stat)>) -> Hash {
    let mut bytes = Vec::with_capacity(files.size_hint().0 * 64);
    for (path, Stat { size, mtime, ctime, inode }) in files {
        bytes.extend_from_slice(path.as_bytes());
        // No path holds a line's end.
        bytes.push(b'\n');
        for number in [size, inode] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [mtime, ctime] {
            bytes.extend_from_slice(&time.to_le_bytes());
        }
    }
    *blake3::hash(&bytes).as_bytes()
}

/// Fewer questions to the system than this are not worth a thread.
const PER_THREAD: usize = 64;

/// Whether `holds` is true of all items, asked on all threads.
fn all<T: Sync>(items: &[T], holds: impl Fn(&T) -> bool + Sync) -> bool {
    threads::each(items, threads::available(), PER_THREAD, |item| holds(item).then_some(()).ok_or(())).is_ok()
}
