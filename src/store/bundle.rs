//! Bundles: exported results in a single file, for example to keep a cache between CI runs.
//!
//! A bundle is a tar archive. It begins with `hamflow-cache` (the format version), followed by the blobs (`cas/ab/HASH`) and results
//! (`ac/ab/KEY`) of each stage, and finally the lock files (`locks/NAME.lock`). Blobs precede the results that refer to them, so that
//! every result read from a truncated file is complete. Bundles are reproducible: the same store gives the same bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::verify::{is_complete, referenced_blobs};
use super::{ActionKey, ActionResult, Staged, Store};
use crate::digest::Digest;
use crate::fs::failpoint::{Step, around};
use crate::fs::{self, Durability, FsError, Symlinks, at};

/// The name and contents of the first entry.
const VERSION: (&str, &str) = ("hamflow-cache", "1\n");

/// Number of blobs that are committed to the store at a time.
const BATCH: usize = 256;

/// What was exported or imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleReport {
    /// Number of blobs.
    pub blobs: u64,
    /// Total size of the blobs, in bytes.
    pub bytes: u64,
    /// Number of results, including those of parts.
    pub results: u64,
    /// What was skipped and why: stages that exceed the budget or have damaged blobs, or invalid entries of an imported file.
    pub skipped: Vec<String>,
}

/// An error importing a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file was not written by [`export`].
    #[error("`{}` was not written by `hamflow cache export`", path.display())]
    NotABundle {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version of hamflow.
    #[error("`{}` was written by a newer version of hamflow", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read, or the cache cannot be written.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl BundleError {
    /// What the user can do about the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some("update hamflow"),
            Self::NotABundle { .. } | Self::Fs(_) => None,
        }
    }
}

/// The result of a stage, the results of its parts, and all blobs that they refer to.
struct StageBundle {
    stage: String,
    results: Vec<ActionResult>,
    blobs: BTreeSet<Digest>,
    cost_ms: u64,
}

impl StageBundle {
    fn of(store: &Store, stage: &str, key: &str) -> Option<Self> {
        let result = store.actions.get_hex(key)?;
        let mut results: Vec<ActionResult> = result.parts.iter().filter_map(|part| store.actions.get(part)).collect();
        let cost_ms = result.cost_ms;
        results.push(result);
        let blobs = results.iter().flat_map(|result| referenced_blobs(store, result)).collect();
        Some(Self { stage: stage.to_owned(), results, blobs, cost_ms })
    }
}

/// The size of an entry in a tar archive: a header block, then the data in whole blocks.
const fn archived_size(size: u64) -> u64 {
    512 + size.div_ceil(512) * 512
}

/// A file to export to.
#[derive(Debug, Clone, Copy)]
pub struct ExportFile<'a> {
    /// The path.
    pub path: &'a Path,
    /// The maximum size, in bytes.
    pub budget: u64,
    /// The lock files to include: name and contents.
    pub locks: &'a [(String, Vec<u8>)],
}

/// Exports the results of `stages` (name and key) to a file. The results that took longest to compute are written first.
pub fn export(
    store: &Store,
    stages: impl Iterator<Item = (String, String)>,
    file: ExportFile<'_>,
) -> Result<BundleReport, FsError> {
    let ExportFile { path: to, budget, locks } = file;
    let mut report = BundleReport::default();
    let mut bundles = Vec::new();
    for (stage, key) in stages {
        match StageBundle::of(store, &stage, &key) {
            Some(bundle) => bundles.push(bundle),
            None => report.skipped.push(format!("`{stage}`: the result is not in the cache")),
        }
    }
    bundles.sort_by(|a, b| b.cost_ms.cmp(&a.cost_ms).then_with(|| a.stage.cmp(&b.stage)));
    if to.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(at("write", to)(io::Error::other("it exists and is not a regular file")));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir(folder)?;
    fs::sweep(folder);
    let staged = folder.join(fs::unique_name());
    let written = fs::create_new(&staged).map_err(at("create", &staged)).and_then(|file| {
        let mut archive = Archive { builder: tar::Builder::new(BufWriter::new(file)), path: &staged, room: budget };
        archive.append(VERSION.0, VERSION.1.as_bytes())?;
        let locks_size: u64 = locks.iter().map(|(_, text)| archived_size(text.len() as u64)).sum();
        // An archive ends with two empty blocks and is padded to a multiple of 20 blocks.
        archive.room = archive.room.saturating_sub(locks_size + 20 * 512);
        let mut blobs = BTreeSet::new();
        for bundle in &bundles {
            archive.bundle(store, bundle, &mut blobs, &mut report)?;
        }
        archive.room = locks_size;
        locks.iter().try_for_each(|(name, text)| archive.append(&format!("locks/{name}"), text))?;
        let file = archive.builder.into_inner().and_then(|buffer| buffer.into_inner().map_err(Into::into));
        file.and_then(|file| around(Step::SyncBundle, || file.sync_all())).map_err(at("write", &staged))
    });
    written.and_then(|()| fs::rename(&staged, to)).inspect_err(|_| {
        let _ = std::fs::remove_file(&staged);
    })?;
    Ok(report)
}

struct Archive<'a> {
    builder: tar::Builder<BufWriter<File>>,
    path: &'a Path,
    /// The remaining budget, in bytes.
    room: u64,
}

impl Archive<'_> {
    fn bundle(
        &mut self,
        store: &Store,
        bundle: &StageBundle,
        there: &mut BTreeSet<Digest>,
        report: &mut BundleReport,
    ) -> Result<(), FsError> {
        let new: Vec<Digest> = bundle.blobs.difference(there).copied().collect();
        let stage = &bundle.stage;
        // Check all blobs before writing the first one: a result with missing blobs is useless.
        if let Some(lost) = new.iter().find(|digest| !store.content.check(digest)) {
            let lost = lost.short();
            report
                .skipped
                .push(format!("`{stage}`: blob {lost} is missing or damaged; recreate it with `hamflow run`"));
            return Ok(());
        }
        let texts: Vec<(String, String)> =
            bundle.results.iter().map(|result| (result.key.hex(), super::action::encode(result))).collect();
        let size = new.iter().map(|digest| archived_size(digest.size())).sum::<u64>()
            + texts.iter().map(|(_, text)| archived_size(text.len() as u64)).sum::<u64>();
        if size > self.room {
            report.skipped.push(format!("`{stage}`: its {size} bytes exceed the remaining budget"));
            return Ok(());
        }
        for digest in new {
            let path = store.content.path(&digest);
            let mut blob = fs::open_regular(&path, Symlinks::Refuse).map_err(at("read", &path))?;
            let hex = digest.hex();
            self.append_from(&format!("cas/{}/{hex}", &hex[..2]), digest.size(), &mut blob)?;
            report.blobs += 1;
            report.bytes += digest.size();
            there.insert(digest);
        }
        for (key, text) in texts {
            self.append(&format!("ac/{}/{key}", &key[..2]), text.as_bytes())?;
            report.results += 1;
        }
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), FsError> {
        self.append_from(name, bytes.len() as u64, &mut &bytes[..])
    }

    fn append_from(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<(), FsError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        self.room = self.room.saturating_sub(archived_size(size));
        self.builder.append_data(&mut header, name, from).map_err(at("write", self.path))
    }
}

/// Imports a file written by [`export`]. Every blob is checked against its digest, every result against its blobs.
///
/// Existing lock files are not overwritten.
pub fn import(store: &Store, from: &Path, is_lock: impl Fn(&str) -> bool) -> Result<BundleReport, BundleError> {
    let mut file = fs::open_regular(from, Symlinks::Follow).map_err(at("read", from))?;
    check_version(&mut file, from)?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let folder = store.tmp_dir().join(fs::unique_name());
    fs::create_dir(&folder)?;
    let (staged, report) = (Vec::new(), BundleReport::default());
    let mut import = Import { store, is_lock: &is_lock, folder: &folder, staged, report };
    let result = (|| {
        for entry in archive.entries().map_err(at("read", from))? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    import.report.skipped.push(format!("the rest of the file: it is damaged ({error})"));
                    break;
                }
            };
            import.entry(entry)?;
            if import.staged.len() >= BATCH {
                store.content.commit(&std::mem::take(&mut import.staged))?;
            }
        }
        store.content.commit(&import.staged)
    })();
    let _ = fs::remove(import.folder);
    result?;
    Ok(import.report)
}

fn check_version(file: &mut File, path: &Path) -> Result<(), BundleError> {
    let not_a_bundle = || BundleError::NotABundle { path: path.to_owned() };
    let mut archive = tar::Archive::new(&mut *file);
    let mut entries = archive.entries().map_err(|_| not_a_bundle())?;
    let mut first = entries.next().and_then(Result::ok).ok_or_else(not_a_bundle)?;
    let mut version = String::new();
    if first.path_bytes().as_ref() != VERSION.0.as_bytes() || first.size() > 16 {
        return Err(not_a_bundle());
    }
    first.read_to_string(&mut version).map_err(|_| not_a_bundle())?;
    if version != VERSION.1 {
        return Err(BundleError::Newer { path: path.to_owned() });
    }
    file.rewind().map_err(at("read", path)).map_err(BundleError::Fs)
}

/// The largest accepted result or lock file, in bytes.
const MAX_METADATA_SIZE: u64 = 64 * 1024 * 1024;

/// An import in progress.
struct Import<'a> {
    store: &'a Store,
    is_lock: &'a dyn Fn(&str) -> bool,
    /// The folder for blobs that are not committed yet.
    folder: &'a Path,
    staged: Vec<Staged>,
    report: BundleReport,
}

impl Import<'_> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), FsError> {
        let store = self.store;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let steps: Vec<&str> = name.split('/').collect();
        match steps[..] {
            ["cas", _, hex] if hex.parse::<ActionKey>().is_ok() => {
                let path = self.folder.join(fs::unique_name());
                match receive(&mut entry, &path) {
                    Ok(digest) if digest.hex() == *hex => {
                        self.report.blobs += 1;
                        self.report.bytes += digest.size();
                        self.staged.push(Staged { path, digest });
                    }
                    Ok(_) => self.report.skipped.push(format!("`{name}`: its content does not match its name")),
                    Err(ReceiveError::Archive(error)) => self.report.skipped.push(format!("`{name}`: {error}")),
                    Err(ReceiveError::Disk(error)) => return Err(at("write", &path)(error)),
                }
            }
            ["ac", _, key]
                if let Ok(key) = key.parse::<ActionKey>()
                    && entry.size() <= MAX_METADATA_SIZE =>
            {
                // Commit the blobs that this result refers to.
                store.content.commit(&std::mem::take(&mut self.staged))?;
                let mut text = Vec::new();
                let result = entry.read_to_end(&mut text).ok().and_then(|_| super::action::decode(&text));
                match result.filter(|result| result.key == key) {
                    None => self.report.skipped.push(format!("`{name}`: not a valid result")),
                    Some(result)
                        if result.outputs.blobs().any(|(digest, is_tree)| !is_complete(store, &digest, is_tree)) =>
                    {
                        self.report.skipped.push(format!("`{name}`: some of its blobs are missing"));
                    }
                    // Existing results are kept.
                    Some(_) if store.actions.get(&key).is_some() => self.report.results += 1,
                    Some(result) => {
                        store.actions.put(&result)?;
                        self.report.results += 1;
                    }
                }
            }
            ["locks", lock] if is_lock_name(lock) && entry.size() <= MAX_METADATA_SIZE => {
                let path = store.locks_dir().join(lock);
                let mut text = Vec::new();
                if !path.exists() {
                    let whole = entry.read_to_end(&mut text).is_ok();
                    if whole && std::str::from_utf8(&text).is_ok_and(self.is_lock) {
                        fs::write(&path, &text, Durability::Synced)?;
                    } else {
                        self.report.skipped.push(format!("`{name}`: not a valid lock file"));
                    }
                }
            }
            _ if name == VERSION.0 => {}
            _ => self.report.skipped.push(format!("`{name}`: not part of a cache export")),
        }
        Ok(())
    }
}

fn is_lock_name(name: &str) -> bool {
    name.ends_with(".lock") && !name.starts_with('.')
}

/// The cause of a failed read from the archive.
enum ReceiveError {
    Archive(io::Error),
    Disk(io::Error),
}

fn receive(entry: &mut impl Read, path: &Path) -> Result<Digest, ReceiveError> {
    let mut file = fs::create_new(path).map_err(ReceiveError::Disk)?;
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut size) = (vec![0; 256 * 1024], 0);
    loop {
        let count = entry.read(&mut buffer).map_err(ReceiveError::Archive)?;
        if count == 0 {
            return Ok(Digest::new(*hasher.finalize().as_bytes(), size));
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(ReceiveError::Disk)?;
        size += count as u64;
    }
}
