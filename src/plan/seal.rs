//! Seals: everything that the check of an up-to-date pipeline depended on, so that the next check can be skipped.
//!
//! Parsing a pipeline, resolving its parameters and computing the keys of its stages would be repeated by each run with nothing
//! to do, with the same outcome. A run in which every stage was fresh records what that depended on: the digests of the pipeline
//! and the lock, the environment, the device classes, which arguments name files, and the stat data of every file and folder
//! (inputs, `out/`, results and blobs of the store). While none of that changes, every stage is fresh. The rules are those of the
//! stat index: a file that was changed at about the time of the check is not sealed. Any difference, or a lost seal, costs a full check.
//!
//! The seal is stored beside the stat index, and only in the default cache directory: it is read before the pipeline, which could
//! name another one, is parsed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{Params, ReadKind, Versions, envelope};
use serde::{Deserialize, Serialize};

use super::trace::{DeviceChoice, Trace};
use super::{Planner, look};
use crate::config::{DEFAULT_CACHE_DIR, Kinds, MatchedFiles, matched_names};
use crate::digest::Digest;
use crate::fs::{self, Durability, Listed, Stat, Symlinks};
use crate::lock::Lockfile;
use crate::store::StableEntry;
use crate::store::remote::SCOPE_VARIABLE;
use crate::threads;

const MAGIC: &[u8] = b"hamflow-seal 4\n";

/// A BLAKE3 hash as bytes.
type Hash = [u8; 32];

/// A digest of the program, the pipeline file and the arguments that select what a run checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation(Hash);

impl Invocation {
    /// Creates the digest for the current program, or returns `None` if the path of the executable is unknown.
    pub fn new(file: &Path, profile: Option<&str>, set: &[String], stages: &[String]) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let stat = Stat::of(&std::fs::metadata(&program).ok()?);
        // The pipeline's trust policy depends on the scope.
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
    /// Files that are read each time, by the hash of their content.
    texts: Vec<(PathBuf, Hash)>,
    /// Environment variables, by the hash of their values.
    environment: Vec<(String, Option<Hash>)>,
    devices: Vec<DeviceChoice>,
    /// Paths named by arguments, and whether each is a file.
    named: Vec<(PathBuf, bool)>,
    files: Vec<(PathBuf, Stat)>,
    /// Folders, by the hash of their files' names and stats.
    folders: Vec<(PathBuf, Hash)>,
    /// What is at paths that programs looked for.
    presence: Vec<(PathBuf, String)>,
    /// Folders that programs listed, by the digest of the names; the flag is set for the project's root.
    names: Vec<(PathBuf, ReadKind, bool, Hash)>,
    /// Folders whose files have a stage each: the pattern of the names, and the digest of those that match.
    matched: Vec<(PathBuf, String, Hash)>,
    /// The versions of software, by kind and question.
    tools: Vec<(String, String, Versions)>,
    /// The project's root, for questions about software.
    root: PathBuf,
}

/// The lock file as left by a run.
#[derive(Clone, Copy)]
pub struct SavedLock<'a> {
    /// The path of the file.
    pub path: &'a Path,
    /// Its content.
    pub lock: &'a Lockfile,
}

impl Seal {
    /// Returns the root of the store of every sealed project at `root`.
    pub fn store(root: &Path) -> PathBuf {
        root.join(DEFAULT_CACHE_DIR)
    }

    fn path(root: &Path) -> PathBuf {
        Self::store(root).join("seal")
    }

    /// Reads the seal of `root`, if there is one for `invocation`.
    pub fn read(root: &Path, invocation: Invocation) -> Option<Self> {
        let bytes = fs::read_regular(&Self::path(root), Symlinks::Refuse).ok()?;
        let body = envelope::open(MAGIC, &bytes)?;
        Self::decode(body).filter(|seal| seal.invocation == invocation)
    }

    /// Decodes the body of a seal, without the checksum.
    pub fn decode(body: &[u8]) -> Option<Self> {
        postcard::from_bytes(body).ok()
    }

    /// Writes the seal. A seal that cannot be encoded, such as one with a path that is not UTF-8, is not written.
    pub fn write(&self, root: &Path) -> Result<(), fs::FsError> {
        let Ok(body) = postcard::to_stdvec(self) else { return Ok(()) };
        fs::write(&Self::path(root), &envelope::seal(MAGIC, &body), Durability::Relaxed)
    }

    /// Creates a seal from the trace of a `planner` that found every stage fresh. `lock` must match the file on disk.
    ///
    /// Returns `None` if something cannot be sealed: a file that was changed a moment ago, a missing input known only from the lock, an
    /// unhashed input, or a store outside the default directory.
    pub fn of(planner: &Planner<'_>, invocation: Invocation, stages: Vec<String>, lock: SavedLock<'_>) -> Option<Self> {
        let (store, pipeline) = (planner.store(), &planner.graph().pipeline);
        if store.root() != Self::store(&pipeline.root) {
            return None;
        }
        let (trace, began) = planner.world.trace();
        let Trace { variables, devices, tools, paths, presence, names, results, blobs, is_open } = &*trace.borrow();
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
            presence: presence.iter().map(|(path, state)| (path.clone(), state.clone())).collect(),
            names: names
                .iter()
                .map(|((path, kind, is_project), digest)| (path.clone(), *kind, *is_project, *digest.hash()))
                .collect(),
            matched: matched(&pipeline.matched_files),
            tools: tools.iter().map(|((kind, question), it)| (kind.clone(), question.clone(), it.clone())).collect(),
            root: pipeline.root.clone(),
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

    /// Whether everything is unchanged since it was sealed.
    pub fn holds(&self, kinds: Kinds) -> bool {
        let Self { invocation: _, stages: _, texts, environment, devices, named, files, folders, .. } = self;
        let Self { presence, names, matched, tools, root, .. } = self;
        environment.iter().all(|(name, value)| variable(name) == *value)
            && devices.iter().all(|device| device.holds(kinds))
            && all(texts, |(path, hash)| {
                fs::read_regular(path, Symlinks::Follow).is_ok_and(|bytes| blake3::hash(&bytes).as_bytes() == hash)
            })
            && all(named, |(path, is_file)| path.is_file() == *is_file)
            && all(files, |(path, stat)| std::fs::metadata(path).is_ok_and(|found| Stat::of(&found) == *stat))
            && all(folders, |(path, hash)| holds_folder(path, hash))
            && all(presence, |(path, state)| look::presence(path) == *state)
            && all(names, |(path, kind, is_project, hash)| {
                look::names(path, *kind, *is_project)
                    .is_some_and(|names| blake3::hash(names.as_bytes()).as_bytes() == hash)
            })
            && all(matched, |(folder, pattern, hash)| {
                matched_names(folder, pattern).is_ok_and(|names| blake3::hash(names.as_bytes()).as_bytes() == hash)
            })
            && threads::each(tools, threads::available(), 1, |tool| holds_tool(kinds, tool, root)).is_ok()
    }
}

impl DeviceChoice {
    fn holds(&self, kinds: Kinds) -> bool {
        let kind = kinds.iter().find(|kind| kind.spec().name == self.kind);
        // Asking for the class may start a device.
        if self.evidence.is_some() && kind.is_some_and(|kind| kind.device_evidence() == self.evidence) {
            return true;
        }
        let params = serde_json::from_str::<Params>(&self.params).ok();
        let resolved = kind.zip(params).and_then(|(kind, params)| Some((kind, kind.resolve(&params).ok()?)));
        resolved.is_some_and(|(kind, params)| kind.device_class(&params).is_ok_and(|class| class == self.class))
    }
}

fn matched(files: &[MatchedFiles]) -> Vec<(PathBuf, String, Hash)> {
    let of = |MatchedFiles { folder, pattern, names }: &MatchedFiles| (folder.clone(), pattern.clone(), *names.hash());
    files.iter().map(of).collect()
}

fn holds_tool(kinds: Kinds, (kind, question, versions): &(String, String, Versions), root: &Path) -> Result<(), ()> {
    let kind = kinds.iter().find(|known| known.spec().name == kind).ok_or(())?;
    let found = kind.tool_versions(question, root).map_err(|_| ())?;
    (found == *versions).then_some(()).ok_or(())
}

/// Returns the files that are read each time with their hashes, or `None` if the lock file differs from the given lock.
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
    let params = pipeline.params_files.iter().map(|(path, digest)| (path.clone(), *digest.hash()));
    Some(texts.map(|(path, text)| (path, *Digest::of(text.as_bytes()).hash())).into_iter().chain(params).collect())
}

fn variable(name: &str) -> Option<Hash> {
    std::env::var_os(name).map(|value| *Digest::of(value.as_encoded_bytes()).hash())
}

fn holds_folder(path: &Path, hash: &Hash) -> bool {
    fs::list(path, threads::available())
        .is_ok_and(|listed| state(listed.iter().map(|Listed { path, stat }| (&path[..], stat))) == *hash)
}

/// Returns the hash of the names and stats of files, which are sorted by name.
fn state<'a>(files: impl Iterator<Item = (&'a str, &'a Stat)>) -> Hash {
    let mut bytes = Vec::with_capacity(files.size_hint().0 * 64);
    for (path, Stat { size, mtime, ctime, inode }) in files {
        bytes.extend_from_slice(path.as_bytes());
        // Paths never contain a newline.
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

/// Minimum number of file system checks per thread.
const PER_THREAD: usize = 64;

/// Whether `holds` is true for all items, tested on all threads.
fn all<T: Sync>(items: &[T], holds: impl Fn(&T) -> bool + Sync) -> bool {
    threads::each(items, threads::available(), PER_THREAD, |item| holds(item).then_some(()).ok_or(())).is_ok()
}
