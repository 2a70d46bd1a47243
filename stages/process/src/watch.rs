//! What is observed of a program, and what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Which files are of interest. All paths are absolute and without symlinks.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Files below these folders are recorded one by one.
    pub roots: Vec<PathBuf>,
    /// What is not recorded, although it is below a root.
    pub except: Vec<PathBuf>,
}

/// What a program used, with all that it started.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The files and folders below the roots.
    pub uses: BTreeMap<PathBuf, Use>,
    /// The programs that were executed.
    pub programs: BTreeSet<PathBuf>,
    /// The other files that were opened for reading.
    pub others: BTreeSet<PathBuf>,
    /// Why nothing was observed.
    pub problem: Option<String>,
}

/// How a program used a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What was there at the first use.
    pub before: State,
    /// Whether the first use was to write.
    pub is_written_first: bool,
    /// Whether it was written to, created, replaced or removed.
    pub is_written: bool,
    /// Whether it was opened for reading, or executed.
    pub is_opened: bool,
    /// Whether its entries were listed.
    pub listed: Option<Listed>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// A regular file.
    File(Stamp),
    /// A folder.
    Folder,
    /// Something else, such as a device.
    Other,
}

/// What changes if a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The size in bytes.
    pub size: u64,
    /// The time of the last modification, in seconds and nanoseconds.
    pub modified: [i64; 2],
    /// The time of the last change of the inode.
    pub changed: [i64; 2],
    /// The number of the inode.
    pub inode: u64,
}

/// For what a folder was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listed {
    /// Python looked for modules: names of other files do not matter.
    Modules,
    /// Any name may matter.
    All,
}
