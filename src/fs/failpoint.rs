//! Failpoints: places before and after each rename and each sync where a test can make the process crash.
//!
//! `HAMFLOW_FAILPOINT=NAME[:N]` kills the process at the N-th passage of that point, as a power cut or `kill -9` would, without
//! destructors. `HAMFLOW_FAILPOINTS_LOG=FILE` appends the name of every point that is passed. Without either, a point costs one
//! relaxed load.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::sys;

/// A step that a crash may separate from the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new file is on the disk.
    SyncNewFile,
    /// A staged file is on the disk.
    SyncStagedFile,
    /// Staged files are on the disk, with everything else on their file system.
    SyncFileSystem,
    /// A staged file or folder has its name.
    Rename,
    /// A staged file has its name in an open folder.
    RenameInFolder,
    /// A file from elsewhere has its name in an open folder.
    MoveIntoFolder,
    /// A file has one more name, in an open folder.
    Link,
    /// A complete folder is in `out/`.
    PlaceOutputFolder,
    /// A bundle is on the disk.
    SyncBundle,
    /// An object of a remote in a folder is on the disk, as far as it is written.
    SyncRemoteData,
    /// An object of a remote in a folder is on the disk.
    SyncRemoteObject,
    /// An object of a remote in a folder has its name.
    RenameRemoteObject,
}

/// Every step. Its points are its name followed by `.before` and `.after`.
pub const POINTS: [(Step, &str); 12] = [
    (Step::SyncNewFile, "sync-new-file"),
    (Step::SyncStagedFile, "sync-staged-file"),
    (Step::SyncFileSystem, "sync-file-system"),
    (Step::Rename, "rename"),
    (Step::RenameInFolder, "rename-in-folder"),
    (Step::MoveIntoFolder, "move-into-folder"),
    (Step::Link, "link"),
    (Step::PlaceOutputFolder, "place-output-folder"),
    (Step::SyncBundle, "sync-bundle"),
    (Step::SyncRemoteData, "sync-remote-data"),
    (Step::SyncRemoteObject, "sync-remote-object"),
    (Step::RenameRemoteObject, "rename-remote-object"),
];

/// Takes a step, between the points before and after it. The second one is passed only if the step succeeded.
pub fn around<T, E>(step: Step, take: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    pass(step, "before");
    let taken = take()?;
    pass(step, "after");
    Ok(taken)
}

const UNKNOWN: u8 = 0;
const INACTIVE: u8 = 1;
const ACTIVE: u8 = 2;

/// Whether the environment asks for anything.
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

fn pass(step: Step, side: &str) {
    if STATE.load(Ordering::Relaxed) != INACTIVE {
        pass_active(step, side);
    }
}

#[cold]
fn pass_active(step: Step, side: &str) {
    static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();
    let settings = SETTINGS.get_or_init(Settings::from_environment);
    STATE.store(if settings.is_some() { ACTIVE } else { INACTIVE }, Ordering::Relaxed);
    let Some(settings) = settings else { return };
    let name = POINTS.iter().find(|(listed, _)| *listed == step).map_or("", |(_, name)| *name);
    settings.pass(&format!("{name}.{side}"));
}

/// What the environment asks for.
struct Settings {
    /// Where passages are recorded.
    log: Option<File>,
    /// The point of the crash.
    point: String,
    /// The passage at which it crashes, from 1.
    crash_at: u64,
    passed: AtomicU64,
}

impl Settings {
    fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let log = variable("HAMFLOW_FAILPOINTS_LOG");
        let crash = variable("HAMFLOW_FAILPOINT");
        if log.is_none() && crash.is_none() {
            return None;
        }
        let crash = crash.unwrap_or_default();
        let (point, number) = crash.split_once(':').unwrap_or((&crash, "1"));
        Some(Self {
            log: log.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok()),
            point: point.to_owned(),
            crash_at: number.parse().unwrap_or(1),
            passed: AtomicU64::new(0),
        })
    }

    fn pass(&self, name: &str) {
        if let Some(mut log) = self.log.as_ref() {
            // One write, so that lines of several threads and processes do not mix.
            let _ = log.write_all(format!("{name}\n").as_bytes());
        }
        if name == self.point && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.crash_at {
            sys::kill_self();
        }
    }
}
