//! The inputs of a stage: names, digests and locations of the bytes.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Digest, FileDigest, StageError, Symlinks, open_regular, read_regular, sys};

/// One file of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The index of the containing folder, if the input is a list of folders; otherwise 0.
    pub root: u32,
    /// The path below that folder with `/` as separator; for a single file, its name.
    pub path: String,
    /// The digest that the key contains; [unread](FileDigest::Unread) if the file has not been hashed and the part that reads it
    /// must report the digest ([`ReadAhead`]).
    pub digest: FileDigest,
    /// The file to read: in the store, or in the user's data directory.
    pub source: PathBuf,
}

impl InputFile {
    /// Reads the whole file and verifies its digest.
    pub fn read(&self) -> Result<Vec<u8>, StageError> {
        let bytes = read_regular(&self.source, Symlinks::Follow)
            .map_err(|source| StageError::io("read", &self.source, &source))?;
        self.check(&bytes)?;
        Ok(bytes)
    }

    /// Verifies bytes that were read or mapped from [`source`](Self::source) against the digest in the key.
    pub fn check(&self, bytes: &[u8]) -> Result<(), StageError> {
        if self.digest == Digest::of(bytes) { Ok(()) } else { Err(self.changed()) }
    }

    /// The digest, of a file that was hashed before the stage began.
    pub fn known_digest(&self) -> Result<Digest, StageError> {
        self.digest.known().ok_or_else(|| StageError::bug(format!("`{}` was not hashed", self.source.display())))
    }

    fn changed(&self) -> StageError {
        StageError::input_changed(&self.source)
    }
}

/// Maximum number of files that are opened ahead: enough to keep a disk busy, far below the limit on open files.
const OPEN_AHEAD: usize = 8;

/// Reads files in order, each once, including files without a digest.
///
/// It announces the next files to the kernel (`posix_fadvise(2)`, `WILLNEED`), so that the disk fetches them while the caller
/// processes the current one.
#[derive(Debug)]
pub struct ReadAhead<'a> {
    files: std::slice::Iter<'a, InputFile>,
    opened: VecDeque<Opened<'a>>,
}

impl<'a> ReadAhead<'a> {
    /// Starts before the first of `files`.
    pub fn new(files: &'a [InputFile]) -> Self {
        Self { files: files.iter(), opened: VecDeque::with_capacity(OPEN_AHEAD) }
    }
}

impl<'a> Iterator for ReadAhead<'a> {
    type Item = Opened<'a>;

    fn next(&mut self) -> Option<Opened<'a>> {
        while self.opened.len() < OPEN_AHEAD
            && let Some(file) = self.files.next()
        {
            self.opened.push_back(Opened { file, opened: open_ahead(file) });
        }
        self.opened.pop_front()
    }
}

/// The next file to read.
#[derive(Debug)]
pub struct Opened<'a> {
    file: &'a InputFile,
    opened: io::Result<File>,
}

impl<'a> Opened<'a> {
    /// Reads the file into a reusable buffer. Returns the file and the digest of the bytes, which is verified if the key has one.
    pub fn read(self, bytes: &mut Vec<u8>) -> Result<(&'a InputFile, Digest), StageError> {
        let Self { file, opened } = self;
        bytes.clear();
        opened
            .and_then(|mut opened| opened.read_to_end(bytes))
            .map_err(|source| StageError::io("read", &file.source, &source))?;
        let digest = Digest::of(bytes);
        let known = file.digest.is_unread() || file.digest == digest;
        if known { Ok((file, digest)) } else { Err(file.changed()) }
    }
}

/// Opens a file and announces that all of it will be read soon.
fn open_ahead(file: &InputFile) -> io::Result<File> {
    let opened = open_regular(&file.source, Symlinks::Follow)?;
    // This is only advice. A file system that ignores it reads the file on demand.
    sys::advise_will_read(&opened);
    Ok(opened)
}

/// An input of a stage: an artifact of another stage, or a file or folders from outside the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The reference in the pipeline, e.g. `inputs.images` or `split.table`.
    pub name: String,
    /// Whether it is an artifact of another stage.
    pub is_artifact: bool,
    /// The matrix axis values that distinguish gathered stages, e.g. `[("lr", "0.001")]`.
    pub labels: Vec<(String, String)>,
    /// The digest of the file or tree; [unread](FileDigest::Unread) for a file that has not been hashed.
    pub digest: FileDigest,
    /// The files, sorted by `(root, path)`; exactly one for a single file.
    pub files: Vec<InputFile>,
    /// Whether it is a folder or a list of folders rather than a single file.
    pub folder: bool,
    /// The file or folder as one path, for programs that take paths. Set for `command` jobs and for single files.
    pub path: Option<PathBuf>,
}

impl Input {
    /// The file of a single-file input; an error for a folder.
    pub fn file(&self) -> Result<&InputFile, StageError> {
        match (&self.files[..], self.folder) {
            ([file], false) => Ok(file),
            _ => Err(StageError::input(format!("`{}` is a folder; expected a single file", self.name))),
        }
    }

    /// The file at `path` below a folder, such as `model.safetensors`.
    pub fn member(&self, path: &str) -> Result<&InputFile, StageError> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .ok_or_else(|| StageError::input(format!("`{}` has no file `{path}`", self.name)))
    }
}

/// The inputs of a job by port. A port that accepts a list may have several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs(pub BTreeMap<String, Vec<Input>>);

impl Inputs {
    /// The input of a required port.
    pub fn one(&self, port: &str) -> Result<&Input, StageError> {
        self.optional(port).ok_or_else(|| StageError::bug(format!("the port `{port}` has no input")))
    }

    /// The input of an optional port.
    pub fn optional(&self, port: &str) -> Option<&Input> {
        self.0.get(port).and_then(|inputs| inputs.first())
    }

    /// All inputs of a port.
    pub fn all(&self, port: &str) -> &[Input] {
        self.0.get(port).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// `n` files, each filled with its repeated index.
    fn files(folder: &Path, n: usize) -> Vec<InputFile> {
        let file = |i: usize| {
            let (source, bytes) = (folder.join(i.to_string()), format!("{i} ").repeat(100_000));
            fs::write(&source, &bytes).unwrap();
            let digest = if i.is_multiple_of(2) {
                FileDigest::Unread { size: bytes.len() as u64 }
            } else {
                Digest::of(bytes.as_bytes()).into()
            };
            InputFile { root: 0, path: i.to_string(), digest, source }
        };
        (0..n).map(file).collect()
    }

    #[cfg(target_os = "linux")]
    fn open_below(folder: &Path) -> usize {
        let held =
            fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        held.filter(|file| file.starts_with(folder)).count()
    }

    #[test]
    fn files_and_errors_come_in_order_and_few_files_are_open_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 20);
        fs::write(&files[15].source, "other bytes").unwrap();
        fs::remove_file(&files[17].source).unwrap();
        let (mut ahead, mut bytes) = (ReadAhead::new(&files), Vec::new());
        for (i, file) in files.iter().enumerate() {
            let read = ahead.next().unwrap().read(&mut bytes);
            #[cfg(target_os = "linux")]
            assert_eq!(open_below(folder.path()), (OPEN_AHEAD - 1).min(19 - i) - usize::from((10..17).contains(&i)));
            match i {
                15 => assert_eq!(read.unwrap_err(), StageError::input_changed(&file.source)),
                17 => assert!(read.unwrap_err().message.contains(&file.source.display().to_string())),
                _ => {
                    assert_eq!(read.unwrap(), (file, Digest::of(&bytes)));
                    assert!(bytes.starts_with(format!("{i} {i}").as_bytes()));
                }
            }
        }
        assert!(ahead.next().is_none());
    }

    /// Whether the whole file is in the page cache (`mincore(2)`).
    #[cfg(all(target_os = "linux", not(hamflow_portable)))]
    fn is_cached(path: &Path) -> bool {
        let file = File::open(path).unwrap();
        // SAFETY: nothing writes to the file while it is mapped.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        // SAFETY: `sysconf` only reads a value.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let mut pages = vec![0u8; map.len().div_ceil(page)];
        // SAFETY: the range is mapped, and the vector has one byte per page.
        let asked = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), pages.as_mut_ptr()) };
        assert_eq!(asked, 0, "{}", io::Error::last_os_error());
        pages.iter().all(|page| page & 1 == 1)
    }

    #[cfg(all(target_os = "linux", not(hamflow_portable)))]
    #[test]
    #[ignore = "needs an evictable page cache"]
    fn the_next_files_are_prefetched_while_one_is_processed() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), OPEN_AHEAD + 1);
        for file in &files {
            let opened = File::open(&file.source).unwrap();
            opened.sync_all().unwrap();
            rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        let is_evicted = files.iter().all(|file| !is_cached(&file.source));
        assert!(is_evicted, "files in {} cannot be evicted from the page cache", folder.path().display());
        let mut ahead = ReadAhead::new(&files);
        ahead.next().unwrap().read(&mut Vec::new()).unwrap();
        let (next, later) = files[1..].split_at(OPEN_AHEAD - 1);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !next.iter().all(|file| is_cached(&file.source)) {
            assert!(std::time::Instant::now() < until, "no file was prefetched");
            std::thread::yield_now();
        }
        assert!(!is_cached(&later[0].source), "a file beyond the read-ahead limit was prefetched");
    }
}
