//! The stat index: remembers the digests of files outside the store by their stat.
//!
//! It follows git's rules (Documentation/technical/racy-git.txt): size, mtime, ctime and inode must be unchanged since the file was
//! hashed, and a file that was modified at about the time it was hashed is hashed again ("racily clean"). The timestamps of a
//! directory never stand in for those of its files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::envelope;

use crate::digest::{self, Digest, FileDigest};
use crate::fs::{self, Durability, FsError, Listed, RelativePath, Skipped, Stat, Symlinks, at};
use crate::threads;

const MAGIC: &[u8] = b"hamflow-index 1\n";

/// A file with its digest, or a listed file that is not hashed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedFile {
    /// The path within its directory; empty for a single file.
    pub path: String,
    /// The digest of the content.
    pub digest: FileDigest,
    stat: Stat,
    /// When it was hashed, in nanoseconds since the Unix epoch. May be earlier than the actual time.
    hashed: i64,
}

/// The files of a directory, sorted by path. Shared, because there may be many.
pub type FileListing = Arc<Vec<IndexedFile>>;

impl IndexedFile {
    /// A file for which only the digest is known.
    pub fn from_digest(path: String, digest: Digest) -> Self {
        let stat = Stat { size: digest.size(), mtime: 0, ctime: 0, inode: 0 };
        Self { path, digest: digest.into(), stat, hashed: 0 }
    }

    /// A file that was listed but not hashed.
    fn unread(listed: Listed) -> Self {
        Self { path: listed.path, digest: FileDigest::Unread { size: listed.stat.size }, stat: listed.stat, hashed: 0 }
    }

    fn holds_for(&self, stat: &Stat) -> bool {
        self.stat == *stat && stat.is_settled_at(self.hashed)
    }
}

/// The indexed state of a path that is unchanged as long as the stats are.
pub enum StableEntry<'a> {
    /// A file.
    File(Stat),
    /// A directory: its files' paths, sorted, and their stats.
    Folder(Box<dyn Iterator<Item = (&'a str, &'a Stat)> + 'a>),
}

/// The digests of files outside the store, by directory.
#[derive(Debug)]
pub struct StatIndex {
    path: PathBuf,
    /// The files of each absolute directory, sorted by path. A single file is stored under its own path with an empty name.
    folders: BTreeMap<String, FileListing>,
    /// Files that were hashed elsewhere since they were listed, by absolute path.
    recorded: HashMap<PathBuf, IndexedFile>,
    /// What the last listing of each directory left out.
    skipped: BTreeMap<String, Vec<Skipped>>,
    changed: bool,
}

impl StatIndex {
    /// Loads the index below the store's root; empty if it is missing or damaged.
    pub fn load(root: &Path) -> Self {
        let path = root.join("index");
        let read = fs::read_regular(&path, Symlinks::Refuse).ok();
        let folders = read.and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { path, folders, recorded: HashMap::new(), skipped: BTreeMap::new(), changed: false }
    }

    /// Whether `body` is a valid index without its checksum. For fuzzing, since fuzzers cannot forge checksums.
    pub fn is_body(body: &[u8]) -> bool {
        decode_body(body).is_some()
    }

    /// Saves the index if it has changed. With concurrent writers the last one wins; all of them are correct.
    pub fn save(&mut self) -> Result<(), FsError> {
        if self.changed {
            fs::write(&self.path, &encode(&self.folders), Durability::Relaxed)?;
            self.changed = false;
        }
        Ok(())
    }

    /// The files below `folder` with their digests, sorted by path. Changed files are hashed on `threads` threads.
    pub fn folder(&mut self, folder: &Path, threads: usize) -> Result<FileListing, FsError> {
        let listed = self.list(folder, threads)?;
        let name = folder.to_string_lossy().into_owned();
        self.refresh(name, folder, listed, threads)
    }

    fn list(&mut self, folder: &Path, threads: usize) -> Result<Vec<Listed>, FsError> {
        let (files, skipped) = fs::list_with_skipped(folder, threads)?;
        self.skipped.insert(folder.to_string_lossy().into_owned(), skipped);
        Ok(files)
    }

    /// What the last listing of a directory left out; empty if it was not listed.
    pub fn skipped(&self, folder: &Path) -> &[Skipped] {
        self.skipped.get(folder.to_string_lossy().as_ref()).map_or(&[], Vec::as_slice)
    }

    /// Like [`folder`](Self::folder), for a directory that users write to ([`fs::list_usual`]).
    pub fn usual_folder(&mut self, folder: &Path, threads: usize) -> Result<FileListing, FsError> {
        let name = folder.to_string_lossy().into_owned();
        match self.refresh(name.clone(), folder, fs::list_usual(folder, threads)?, threads) {
            Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                let mut listed = fs::list_usual(folder, threads)?;
                listed.retain(|file| fs::is_readable(&folder.join(&file.path)));
                self.refresh(name, folder, listed, threads)
            }
            found => found,
        }
    }

    /// Lists the files below `folder` without hashing any, sorted by path. Files without a known digest are [unread](FileDigest::Unread).
    pub fn listing(&mut self, folder: &Path, threads: usize) -> Result<FileListing, FsError> {
        let listed = self.list(folder, threads)?;
        let known = self.folders.get(folder.to_string_lossy().as_ref()).cloned().unwrap_or_default();
        let places = places(&known, &listed);
        let known = listed.into_iter().zip(places).map(|(file, place)| match place {
            Some(place) => known[place].clone(),
            None => IndexedFile::unread(file),
        });
        Ok(known.collect::<Vec<_>>().into())
    }

    /// Records the digest of a file of a [listing](Self::listing) that was read after `since` (in nanoseconds since the Unix epoch).
    /// Ignored if the file has changed since it was listed.
    pub fn record_hash(&mut self, path: &Path, listed: &IndexedFile, digest: Digest, since: i64) {
        let as_listed = std::fs::metadata(path).is_ok_and(|metadata| Stat::of(&metadata) == listed.stat);
        if as_listed && digest.size() == listed.stat.size {
            let known =
                IndexedFile { path: listed.path.clone(), digest: digest.into(), stat: listed.stat, hashed: since };
            self.recorded.insert(path.to_owned(), known);
        }
    }

    /// Records the digests of files that hamflow itself wrote to a directory, so that they need not be hashed. `listed` is a listing
    /// made at the time `hashed`, in nanoseconds since the Unix epoch.
    pub fn record_written(
        &mut self,
        folder: &Path,
        listed: &[Listed],
        hashed: i64,
        files: &BTreeMap<RelativePath, Digest>,
    ) {
        let known = listed.iter().filter_map(|Listed { path, stat }| {
            let digest = files.get(path.as_str()).filter(|digest| digest.size() == stat.size)?;
            Some(IndexedFile { path: path.clone(), digest: FileDigest::Known(*digest), stat: *stat, hashed })
        });
        self.folders.insert(folder.to_string_lossy().into_owned(), known.collect::<Vec<_>>().into());
        self.changed = true;
    }

    /// The digest of a single file.
    pub fn file(&mut self, path: &Path) -> Result<Digest, FsError> {
        let metadata = std::fs::metadata(path).map_err(at("read", path))?;
        let listed = vec![Listed { path: String::new(), stat: Stat::of(&metadata) }];
        let found = self.refresh(path.to_string_lossy().into_owned(), path, listed, 1)?;
        Ok(found[0].digest.known().expect("what was refreshed was hashed"))
    }

    /// The indexed state of a path; `None` if it may have changed without changing its stat.
    pub fn stable_entry(&self, path: &Path) -> Option<StableEntry<'_>> {
        let files = self.folders.get(path.to_string_lossy().as_ref())?;
        if !files.iter().all(|known| known.stat.is_settled_at(known.hashed)) {
            return None;
        }
        Some(match &files[..] {
            [IndexedFile { path, stat, .. }] if path.is_empty() => StableEntry::File(*stat),
            files => StableEntry::Folder(Box::new(files.iter().map(|known| (&known.path[..], &known.stat)))),
        })
    }

    /// Removes a path from the index.
    pub fn forget(&mut self, path: &Path) {
        if self.folders.remove(path.to_string_lossy().as_ref()).is_some() {
            self.changed = true;
        }
    }

    fn refresh(
        &mut self,
        name: String,
        folder: &Path,
        listed: Vec<Listed>,
        threads: usize,
    ) -> Result<FileListing, FsError> {
        let found = self.folders.get(&name).cloned();
        let is_new = found.is_none();
        let known = found.unwrap_or_default();
        let fresh = places(&known, &listed);
        if fresh.iter().all(Option::is_some) && known.len() == listed.len() && !is_new {
            return Ok(known);
        }
        let todo: Vec<&Listed> =
            listed.iter().zip(&fresh).filter(|(_, hit)| hit.is_none()).map(|(file, _)| file).collect();
        let mut hashed = threads::each(&todo, threads, 1, |file| {
            let path = if file.path.is_empty() { folder.to_owned() } else { folder.join(&file.path) };
            match self.recorded.get(&path).filter(|known| known.path == file.path && known.holds_for(&file.stat)) {
                Some(known) => Ok(known.clone()),
                None => hash_one(&path, file),
            }
        })?
        .into_iter();
        self.recorded.retain(|path, _| !path.starts_with(folder));
        let entries: FileListing = listed
            .iter()
            .zip(&fresh)
            .map(|(_, hit)| match hit {
                Some(index) => known[*index].clone(),
                None => hashed.next().expect("one digest was made for each file to do"),
            })
            .collect::<Vec<IndexedFile>>()
            .into();
        self.folders.insert(name, Arc::clone(&entries));
        self.changed = true;
        Ok(entries)
    }
}

/// For each listed file, the position of its valid index entry, if there is one. Both slices are sorted by path.
fn places(known: &[IndexedFile], listed: &[Listed]) -> Vec<Option<usize>> {
    let mut cursor = 0;
    let place = |file: &Listed| {
        while cursor < known.len() && known[cursor].path < file.path {
            cursor += 1;
        }
        let hit = known.get(cursor).is_some_and(|entry| entry.path == file.path && entry.holds_for(&file.stat));
        hit.then_some(cursor)
    };
    listed.iter().map(place).collect()
}

fn hash_one(path: &Path, file: &Listed) -> Result<IndexedFile, FsError> {
    let read_stat = || std::fs::metadata(path).map(|metadata| Stat::of(&metadata)).map_err(at("read", path));
    let mut stat = file.stat;
    for _ in 0..MAX_HASH_ATTEMPTS {
        let hashed = fs::now();
        let digest = digest::of_file(path).map_err(at("read", path))?;
        let after = read_stat()?;
        if after == stat && digest.size() == stat.size {
            return Ok(IndexedFile { path: file.path.clone(), stat, digest: digest.into(), hashed });
        }
        // The file was modified while it was read: try again.
        stat = after;
    }
    Err(at("read", path)(std::io::Error::other("the file keeps changing while it is read")))
}

/// How often a file is hashed at most if it changes while it is read.
const MAX_HASH_ATTEMPTS: usize = 5;

fn encode(folders: &BTreeMap<String, FileListing>) -> Vec<u8> {
    let mut body = Vec::with_capacity(folders.values().map(|files| 64 + files.len() * 100).sum());
    let text = |body: &mut Vec<u8>, text: &str| {
        body.extend_from_slice(&u32::try_from(text.len()).expect("paths are short").to_le_bytes());
        body.extend_from_slice(text.as_bytes());
    };
    for (folder, files) in folders {
        text(&mut body, folder);
        body.extend_from_slice(&u32::try_from(files.len()).expect("fewer than 4 billion files").to_le_bytes());
        for IndexedFile { path, digest, stat, hashed } in files.iter() {
            text(&mut body, path);
            for value in [stat.size, stat.inode, digest.size()] {
                body.extend_from_slice(&value.to_le_bytes());
            }
            for value in [stat.mtime, stat.ctime, *hashed] {
                body.extend_from_slice(&value.to_le_bytes());
            }
            body.extend_from_slice(digest.known().expect("the index holds only hashed files").hash());
        }
    }
    envelope::seal(MAGIC, &body)
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<String, FileListing>> {
    decode_body(envelope::open(MAGIC, bytes)?)
}

fn decode_body(body: &[u8]) -> Option<BTreeMap<String, FileListing>> {
    let mut reader = Reader { rest: body };
    let mut folders = BTreeMap::new();
    while !reader.rest.is_empty() {
        let folder = reader.text()?;
        let count = u32::from_le_bytes(*reader.take()?);
        let files = (0..count).map(|_| reader.file()).collect::<Option<Vec<_>>>()?;
        folders.insert(folder, files.into());
    }
    Some(folders)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        let length = u32::from_le_bytes(*self.take()?) as usize;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn file(&mut self) -> Option<IndexedFile> {
        let path = self.text()?;
        let mut unsigned = || self.take().map(|bytes| u64::from_le_bytes(*bytes));
        let (size, inode, bytes) = (unsigned()?, unsigned()?, unsigned()?);
        let mut signed = || self.take().map(|bytes| i64::from_le_bytes(*bytes));
        let (mtime, ctime, hashed) = (signed()?, signed()?, signed()?);
        let digest = Digest::new(*self.take::<32>()?, bytes);
        Some(IndexedFile { path, stat: Stat { size, mtime, ctime, inode }, digest: digest.into(), hashed })
    }
}

#[cfg(test)]
mod tests {
    use std::fs as std_fs;
    use std::time::SystemTime;

    use super::*;

    /// Waits until a file's ctime is older than a tick of the clock before now.
    fn wait_until_settled(file: &Path) {
        while !Stat::of(&std_fs::metadata(file).unwrap()).is_settled_at(fs::now()) {
            std::thread::yield_now();
        }
    }

    /// Files that were last modified an hour ago cannot be racily clean.
    fn write_old(path: &Path, text: &str) {
        std_fs::write(path, text).unwrap();
        let hour_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
        std_fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }

    #[test]
    fn a_saved_index_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std_fs::create_dir(&data).unwrap();
        write_old(&data.join("a ü"), "1");
        write_old(&data.join("b"), "2");
        let mut index = StatIndex::load(folder.path());
        let first = index.folder(&data, 2).unwrap();
        index.save().unwrap();
        let again = StatIndex::load(folder.path());
        assert_eq!(again.folders, index.folders);
        assert_eq!((&first[0].path[..], first[0].digest), ("a ü", Digest::of(b"1").into()));
    }

    #[test]
    fn a_racily_clean_file_is_hashed_again() {
        let stat = Stat { size: 1, mtime: 5_000_000_000, ctime: 5_000_000_001, inode: 7 };
        let known = |stat, hashed| IndexedFile { path: "a".into(), stat, digest: Digest::of(b"1").into(), hashed };
        assert!(!known(stat, 5_000_000_002).holds_for(&stat), "written in the same tick");
        assert!(known(stat, 5_100_000_000).holds_for(&stat));
        assert!(!known(stat, 5_100_000_000).holds_for(&Stat { inode: 8, ..stat }));
        let coarse = Stat { ctime: 5_000_000_000, ..stat };
        assert!(
            !known(coarse, 5_100_000_000).holds_for(&coarse),
            "with timestamps in whole seconds, a tick is a second"
        );
        assert!(known(coarse, 7_100_000_000).holds_for(&coarse));
    }

    #[test]
    fn a_change_with_equal_size_and_mtime_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        write_old(&file, "1");
        let mut index = StatIndex::load(folder.path());
        assert_eq!(index.file(&file).unwrap(), Digest::of(b"1"));
        write_old(&file, "2");
        assert_eq!(index.file(&file).unwrap(), Digest::of(b"2"), "the ctime differs");
    }

    #[test]
    fn files_written_by_hamflow_are_not_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std_fs::create_dir(&data).unwrap();
        write_old(&data.join("a"), "1");
        write_old(&data.join("b"), "2");
        wait_until_settled(&data.join("b"));
        let mut index = StatIndex::load(folder.path());
        // A wrong digest shows that the file was not read.
        let path = |path: &str| RelativePath::new(path).unwrap();
        let digests = BTreeMap::from([(path("a"), Digest::of(b"x")), (path("b"), Digest::of(b"longer"))]);
        index.record_written(&data, &fs::list(&data, 1).unwrap(), fs::now(), &digests);
        let found = index.folder(&data, 1).unwrap();
        let digests: Vec<Digest> = found.iter().map(|known| known.digest.known().unwrap()).collect();
        assert_eq!(digests, [Digest::of(b"x"), Digest::of(b"2")], "a digest with another size is ignored");
        write_old(&data.join("a"), "3");
        assert_eq!(index.folder(&data, 1).unwrap()[0].digest, Digest::of(b"3"));
    }

    #[test]
    fn a_recorded_hash_is_used_while_the_file_is_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std_fs::create_dir(&data).unwrap();
        for name in ["a", "b", "c"] {
            write_old(&data.join(name), "1");
        }
        wait_until_settled(&data.join("c"));
        let mut index = StatIndex::load(folder.path());
        let since = fs::now();
        let listed = index.listing(&data, 1).unwrap();
        assert!(listed.iter().all(|known| known.digest == FileDigest::Unread { size: 1 }));
        std_fs::write(data.join("b"), "2").unwrap();
        for known in listed.iter() {
            index.record_hash(&data.join(&known.path), known, Digest::of(b"x"), since);
        }
        index.record_hash(&data.join("c"), &listed[2], Digest::of(b"longer"), since);
        let digests: Vec<Digest> =
            index.folder(&data, 1).unwrap().iter().map(|known| known.digest.known().unwrap()).collect();
        assert_eq!(digests, [Digest::of(b"x"), Digest::of(b"2"), Digest::of(b"x")]);
        assert!(index.recorded.is_empty(), "it was moved to the index");
    }

    #[test]
    fn a_damaged_index_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        write_old(&folder.path().join("a"), "1");
        let mut index = StatIndex::load(folder.path());
        index.file(&folder.path().join("a")).unwrap();
        index.save().unwrap();
        let path = folder.path().join("index");
        let mut bytes = std_fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std_fs::write(&path, bytes).unwrap();
        assert!(StatIndex::load(folder.path()).folders.is_empty());
    }
}
