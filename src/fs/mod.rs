//! Atomic file writes, reflink copies and sorted directory listings.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub mod failpoint;
mod folder;
mod relative;

use failpoint::{Step, around};
pub use folder::Folder;
use hamflow_stage_api::{ErrorCategory, StageError};
pub use hamflow_stage_api::{Symlinks, open_regular, open_with, read_regular, read_text};
pub use relative::{MAX_NAME, RelativePath, RelativePathError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sys;
pub use crate::sys::{create_new, may_read as is_readable, write_uncached};

/// Whether a write must survive a power cut before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk before the rename.
    Synced,
    /// Written back by the kernel at some later time; for data that can be recomputed.
    Relaxed,
}

/// A failed system call, with the path that it was about.
#[derive(Debug)]
pub struct FsError {
    /// The attempted action, such as `write` or `rename`.
    pub action: &'static str,
    /// The affected path.
    pub path: PathBuf,
    /// The error returned by the operating system.
    pub source: io::Error,
}

impl std::fmt::Display for FsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.action, self.path.display(), self.source)
    }
}

impl std::error::Error for FsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// How files get from the store to `out/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// Reflinks where the file system has them, else copies.
    #[default]
    Copy,
    /// Hard links, through which root can damage the store.
    Hard,
}

/// A failed system call of the engine, as a disk error.
pub fn disk_error(error: &FsError) -> StageError {
    let mut failed = StageError::io(error.action, &error.path, &error.source);
    failed.category = ErrorCategory::Disk;
    failed
}

/// Names the path and the action of a failed call.
pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FsError {
    let path = path.to_owned();
    move |source| FsError { action, path, source }
}

/// The name prefix of staged files, which are renamed once they are complete.
pub const STAGED_PREFIX: &str = ".tmp-";

/// A name that no other process uses at this time.
pub fn unique_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    format!("{STAGED_PREFIX}{}-{}-{nanos:08x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes the staged files of killed processes from `folder`, and nothing else: other processes may be writing there.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if writer(&entry.file_name().to_string_lossy()).is_some_and(|process| !sys::is_process_alive(process)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file or folder has a [name](unique_name) that marks it as staged.
pub fn is_staged(name: &str) -> bool {
    writer(name).is_some()
}

/// The process that gave a file one of our [names](unique_name).
fn writer(name: &str) -> Option<i32> {
    let (process, rest) = name.strip_prefix(STAGED_PREFIX)?.split_once('-')?;
    let (number, nanos) = rest.split_once('-')?;
    let is_ours = number.parse::<u64>().is_ok() && nanos.len() == 8 && u32::from_str_radix(nanos, 16).is_ok();
    process.parse().ok().filter(|_| is_ours)
}

/// Makes a folder and all above it.
pub fn create_dir(path: &Path) -> Result<(), FsError> {
    fs::create_dir_all(path).map_err(at("create", path))
}

/// Writes a file that appears whole or not at all, replacing what was there.
pub fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), FsError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let staged = folder.join(unique_name());
    let result = write_staged(&staged, bytes, durability).and_then(|()| rename(&staged, path));
    if result.is_err() {
        let _ = fs::remove_file(&staged);
    }
    result
}

/// Writes files of one file system atomically; all of them are synced before the first one is renamed.
pub fn write_all(files: &[(PathBuf, String)]) -> Result<(), FsError> {
    let staged: Vec<PathBuf> =
        files.iter().map(|(path, _)| path.parent().unwrap_or(Path::new(".")).join(unique_name())).collect();
    let write = || {
        for ((_, text), staged) in files.iter().zip(&staged) {
            write_staged(staged, text.as_bytes(), Durability::Relaxed)?;
        }
        sync_files(staged.iter().map(PathBuf::as_path))?;
        staged.iter().zip(files).try_for_each(|(staged, (path, _))| rename(staged, path))
    };
    let result = write();
    if result.is_err() {
        for staged in &staged {
            let _ = fs::remove_file(staged);
        }
    }
    result
}

fn write_staged(staged: &Path, bytes: &[u8], durability: Durability) -> Result<(), FsError> {
    let folder = staged.parent().unwrap_or(Path::new("."));
    let mut file = match create_new(staged) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir(folder)?;
            create_new(staged)
        }
        other => other,
    }
    .map_err(at("create", staged))?;
    file.write_all(bytes).map_err(at("write", staged))?;
    if durability == Durability::Synced {
        around(Step::SyncNewFile, || file.sync_all()).map_err(at("sync", staged))?;
    }
    Ok(())
}

/// Renames within one file system.
pub fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    let rename = || around(Step::Rename, || fs::rename(from, to));
    match rename() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {
            create_dir(to.parent().unwrap_or(Path::new(".")))?;
            rename().map_err(at("rename", from))
        }
        other => other.map_err(at("rename", from)),
    }
}

/// Reflinks `from` to `to` atomically; returns false if the file system does not support that.
pub fn share(from: &Path, to: &Path) -> Result<bool, FsError> {
    let (folder, name) = parent_and_name(to)?;
    folder.share(from, name)
}

/// Writes a file at `path` atomically. `write` gets the staged file and its temporary path, and returns whether to keep it.
pub fn fill(path: &Path, write: impl FnOnce(&mut File, &Path) -> Result<bool, FsError>) -> Result<bool, FsError> {
    let (folder, name) = parent_and_name(path)?;
    folder.fill(name, write)
}

/// The parent folder of a file, created if it is missing, and the file's name.
fn parent_and_name(path: &Path) -> Result<(Folder, &str), FsError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(OsStr::to_str).ok_or_else(|| at("write", path)(invalid("not a file name")))?;
    create_dir(folder)?;
    Ok((Folder::open(folder)?, name))
}

/// Maximum number of attempts to delete a folder that another process still writes to, [`REST`] apart.
const TRIES: usize = 100;

/// The delay between two attempts.
const REST: Duration = Duration::from_millis(20);

/// Removes a folder with everything in it, or a file; a missing path is not an error. The workers of a killed run exit by
/// themselves, but until then they may create files in a folder that is being deleted.
pub fn remove(path: &Path) -> Result<(), FsError> {
    let remove = || match fs::symlink_metadata(path)? {
        metadata if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    let mut result = remove();
    if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        // Some programs leave read-only folders behind, such as module caches.
        open_folders(path);
        result = remove();
    }
    for _ in 1..TRIES {
        if !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty) {
            break;
        }
        std::thread::sleep(REST);
        result = remove();
    }
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(at("remove", path)),
    }
}

/// Makes a folder and its subfolders writable by their owner, as far as possible.
fn open_folders(path: &Path) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if !is_folder || fs::set_permissions(path, sys::permissions(0o700)).is_err() {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_folders(&entry.path());
    }
}

/// The metadata of a file that shows whether its bytes may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds.
    pub mtime: i64,
    /// Time of the last change to the inode in nanoseconds.
    pub ctime: i64,
    /// The inode's number.
    pub inode: u64,
}

impl Stat {
    /// Reads it off the metadata.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            mtime: sys::modified_nanos(metadata),
            ctime: sys::changed_nanos(metadata),
            inode: sys::inode(metadata),
        }
    }

    /// Whether a file with this stat that was read at `when` (nanoseconds since 1970) cannot have changed since without
    /// its times showing it.
    pub fn is_settled_at(&self, when: i64) -> bool {
        // Where times are whole seconds, the file system knows no finer ones (ext4 with small inodes, HFS+; FAT counts in twos).
        let tick = if self.ctime % 1_000_000_000 == 0 { COARSE_TICK_NANOS } else { TICK_NANOS };
        self.mtime.max(self.ctime) < when - tick
    }
}

/// A change within this time of the reading may carry the same time stamp: kernels stamp files by their tick.
const TICK_NANOS: i64 = 20_000_000;

/// The same where times are whole seconds.
const COARSE_TICK_NANOS: i64 = 2_000_000_000;

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A file found below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path below the folder, with `/`.
    pub path: String,
    /// What the system says of it.
    pub stat: Stat,
}

/// An entry of a folder that a listing leaves out, so that things beside the data do not matter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` ({reason})", path.replace('\n', "\\n"))]
pub struct Skipped {
    /// Its path below the folder.
    pub path: String,
    /// Why it is left out.
    pub reason: SkipReason,
}

/// Why a listing leaves an entry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// A symlink whose target does not exist, or that leads to itself.
    #[error("broken symlink")]
    BrokenSymlink,
    /// A symlink to a folder that contains it.
    #[error("symlink to a parent folder")]
    SymlinkLoop,
    /// A name that listings cannot hold.
    #[error("name is not one line of UTF-8")]
    InvalidName,
    /// A folder that this user may not list.
    #[error("unreadable folder")]
    Unreadable,
    /// A socket, a pipe or a device.
    #[error("not a regular file")]
    Special,
}

/// All files below `folder`, sorted by path, without those that are [`Skipped`]. Symlinks are followed.
///
/// Asking the system about many files is what takes time, so that is done on `threads` threads.
pub fn list(folder: &Path, threads: usize) -> Result<Vec<Listed>, FsError> {
    list_with_skipped(folder, threads).map(|(files, _)| files)
}

/// Like [`list`], with the entries that were left out.
pub fn list_with_skipped(folder: &Path, threads: usize) -> Result<(Vec<Listed>, Vec<Skipped>), FsError> {
    listed(folder, threads, look_at)
}

/// Like [`list`], but for a folder that users and their programs write to: symlinks, unreadable folders, and entries
/// whose names are not a single line of UTF-8 are skipped.
pub fn list_usual(folder: &Path, threads: usize) -> Result<Vec<Listed>, FsError> {
    listed(folder, threads, |entry, prefix| {
        let found = entry.file_type();
        let is_closed = || found.as_ref().is_ok_and(fs::FileType::is_dir) && !sys::may_list(&entry.path());
        let usual = one_line(&entry.file_name()).is_some()
            && !found.as_ref().is_ok_and(fs::FileType::is_symlink)
            && !is_closed();
        if usual { look_at(entry, prefix) } else { Ok(Found::Other) }
    })
    .map(|(files, _)| files)
}

/// All entries except folders below a folder owned by hamflow. Symlinks and special files, which do not belong there, are listed with
/// their own metadata, not that of their targets.
pub fn list_own(folder: &Path) -> Result<Vec<Listed>, FsError> {
    listed(folder, 1, |entry, prefix| {
        let file_name = entry.file_name();
        let (Some(name), Ok(metadata)) = (one_line(&file_name), entry.metadata()) else { return Ok(Found::Other) };
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        Ok(match metadata.is_dir() {
            true if sys::may_list(&entry.path()) => Found::Folder(entry.path(), path),
            true => Found::Other,
            false => Found::File(Listed { path, stat: Stat::of(&metadata) }),
        })
    })
    .map(|(files, _)| files)
}

fn listed(folder: &Path, threads: usize, look: impl Look) -> Result<(Vec<Listed>, Vec<Skipped>), FsError> {
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    let mut above = folders_above(folder);
    list_into(folder, "", &mut above, threads, (&mut files, &mut skipped), look)?;
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok((files, skipped))
}

/// The folders that contain this one: a symlink to any of them would never end.
fn folders_above(folder: &Path) -> Vec<sys::FileId> {
    let canonical = folder.canonicalize().unwrap_or_default();
    let above = canonical.ancestors().skip(1).filter_map(|folder| fs::metadata(folder).ok());
    above.map(|metadata| sys::file_id(&metadata)).collect()
}

/// Looks at an entry of a folder with this path.
trait Look: Fn(&fs::DirEntry, &str) -> Result<Found, FsError> + Copy + Sync {}

impl<T: Fn(&fs::DirEntry, &str) -> Result<Found, FsError> + Copy + Sync> Look for T {}

/// Deeper than any dataset.
const DEEPEST: usize = 64;

/// Fewer entries than this are not worth a thread.
const ENTRIES_PER_THREAD: usize = 256;

enum Found {
    File(Listed),
    Folder(PathBuf, String),
    Skipped(Skipped),
    Other,
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

fn list_into(
    folder: &Path,
    prefix: &str,
    above: &mut Vec<sys::FileId>,
    threads: usize,
    (files, skipped): (&mut Vec<Listed>, &mut Vec<Skipped>),
    look_at: impl Look,
) -> Result<(), FsError> {
    let id = fs::metadata(folder).map(|metadata| sys::file_id(&metadata)).map_err(at("list", folder))?;
    if above.contains(&id) {
        skipped.push(Skipped { path: prefix.to_owned(), reason: SkipReason::SymlinkLoop });
        return Ok(());
    }
    if prefix.split('/').count() > DEEPEST {
        return Err(at("list", folder)(invalid("more than 64 folders deep")));
    }
    let entries: Vec<fs::DirEntry> = fs::read_dir(folder).and_then(Iterator::collect).map_err(at("list", folder))?;
    let share = entries.len().div_ceil(threads.max(1)).max(ENTRIES_PER_THREAD);
    let look = |entries: &[fs::DirEntry]| -> Result<Vec<Found>, FsError> {
        entries.iter().map(|entry| look_at(entry, prefix)).collect()
    };
    let looked = std::thread::scope(|scope| {
        let (first, rest) = entries.split_at(share.min(entries.len()));
        let helpers: Vec<_> = rest.chunks(share).map(|entries| scope.spawn(move || look(entries))).collect();
        let mut looked = vec![look(first)];
        looked.extend(helpers.into_iter().map(|helper| helper.join().expect("looking at files does not panic")));
        looked
    });
    above.push(id);
    for entry in looked.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        match entry {
            Found::File(listed) => files.push(listed),
            Found::Folder(folder, path) => {
                list_into(&folder, &path, above, threads, (&mut *files, &mut *skipped), look_at)?;
            }
            Found::Skipped(entry) => skipped.push(entry),
            Found::Other => {}
        }
    }
    above.pop();
    Ok(())
}

/// A name that listings can hold.
fn one_line(name: &OsStr) -> Option<&str> {
    name.to_str().filter(|name| !name.contains('\n'))
}

fn look_at(entry: &fs::DirEntry, prefix: &str) -> Result<Found, FsError> {
    let file_name = entry.file_name();
    let below = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    let skipped = |path: String, reason| Ok(Found::Skipped(Skipped { path, reason }));
    let Some(name) = one_line(&file_name) else {
        return skipped(below(&file_name.to_string_lossy()), SkipReason::InvalidName);
    };
    let path = below(name);
    let file_type = entry.file_type().map_err(|error| at("read", &entry.path())(error))?;
    // `entry.metadata` asks relative to the open folder, which is quicker but does not follow symlinks.
    let metadata = if file_type.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() };
    let metadata = match metadata {
        Err(error) if file_type.is_symlink() && sys::is_broken_symlink(&error) => {
            return skipped(path, SkipReason::BrokenSymlink);
        }
        other => other.map_err(|error| at("read", &entry.path())(error))?,
    };
    if metadata.is_dir() {
        let full = entry.path();
        if !sys::may_list(&full) {
            return skipped(path, SkipReason::Unreadable);
        }
        Ok(Found::Folder(full, path))
    } else if metadata.is_file() {
        Ok(Found::File(Listed { path, stat: Stat::of(&metadata) }))
    } else {
        skipped(path, SkipReason::Special)
    }
}

/// More files than this are synced by one call for the whole file system, where supported.
const SYNC_ONE_BY_ONE: usize = 4;

/// Puts files of one file system on the disk.
pub fn sync_files<'a>(paths: impl ExactSizeIterator<Item = &'a Path>) -> Result<(), FsError> {
    let mut paths = paths.peekable();
    if paths.len() > SYNC_ONE_BY_ONE
        && let Some(first) = paths.peek()
    {
        let folder = first.parent().unwrap_or(Path::new("."));
        let handle = File::open(folder).map_err(at("open", folder))?;
        if around(Step::SyncFileSystem, || sys::sync_file_system(&handle)).map_err(at("sync", folder))? {
            return Ok(());
        }
    }
    paths.try_for_each(sync_file)
}

/// Puts one file on the disk.
fn sync_file(path: &Path) -> Result<(), FsError> {
    let file = open_regular(path, Symlinks::Refuse).map_err(at("sync", path))?;
    around(Step::SyncStagedFile, || file.sync_all()).map_err(at("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_and_follows_symlinked_folders() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("z.txt"), "z").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/é 1.txt"), "x").unwrap();
        fs::write(folder.path().join("a.txt"), "y").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("c")).unwrap();
        let paths: Vec<_> = list(folder.path(), 2).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["a.txt", "b/é 1.txt", "c/z.txt"]);
    }

    #[test]
    fn what_is_no_file_or_folder_of_the_data_is_skipped_with_a_reason() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/file"), "x").unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"Kopie \xfc")), "x").unwrap();
        fs::write(at("two\nlines"), "x").unwrap();
        sys::make_fifo(&at("pipe"));
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (target, link) in
            [("..", "sub/up"), (".", "here"), ("self", "self"), ("/nonexistent/annex", "gone"), ("sub", "twin")]
        {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let (files, skipped) = list_with_skipped(folder.path(), 2).unwrap();
        assert_eq!(files.into_iter().map(|file| file.path).collect::<Vec<_>>(), ["sub/file", "twin/file"]);
        let skipped: Vec<String> = skipped.iter().map(ToString::to_string).collect();
        let expected = [
            "`Kopie \u{fffd}` (name is not one line of UTF-8)",
            "`gone` (broken symlink)",
            "`here` (symlink to a parent folder)",
            "`pipe` (not a regular file)",
            "`self` (broken symlink)",
            "`socket` (not a regular file)",
            "`sub/up` (symlink to a parent folder)",
            "`twin/up` (symlink to a parent folder)",
            r"`two\nlines` (name is not one line of UTF-8)",
        ];
        assert_eq!(skipped, expected);
    }

    #[test]
    fn a_circle_of_two_symlinks_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        std::os::unix::fs::symlink(&b, a.join("to_b")).unwrap();
        std::os::unix::fs::symlink(&a, b.join("to_a")).unwrap();
        let (files, skipped) = list_with_skipped(folder.path(), 1).unwrap();
        assert!(files.is_empty() && skipped.len() == 2, "{skipped:?}");
    }

    #[test]
    fn a_folder_with_a_concurrent_writer_is_removed_once_the_writer_ends() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::create_dir(&target).unwrap();
        std::thread::scope(|scope| {
            let write = || {
                for number in 0..20_000 {
                    // Once the folder itself is gone, nothing comes into it any more.
                    if fs::write(target.join(number.to_string()), "x").is_err() {
                        return;
                    }
                }
            };
            let writers = [scope.spawn(write), scope.spawn(write)];
            while fs::read_dir(&target).unwrap().count() < 100 {
                std::thread::yield_now();
            }
            remove(&target).unwrap();
            for writer in writers {
                writer.join().unwrap();
            }
        });
        assert!(!target.exists());
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("target/x"), "x").unwrap();
        assert!(write(&folder.path().join("target"), b"bytes", Durability::Relaxed).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
