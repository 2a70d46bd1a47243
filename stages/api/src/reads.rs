//! Files that a program used without a declaration.

use serde::{Deserialize, Serialize};

/// What of a file a program depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadKind {
    /// The content of a file, or that it is not there.
    Content,
    /// The names in a folder.
    Names,
    /// The names in a folder that can be modules of Python.
    Modules,
    /// Whether there is a file or a folder.
    Presence,
}

impl ReadKind {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Names => "names",
            Self::Modules => "modules",
            Self::Presence => "presence",
        }
    }

    /// The inverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Content, Self::Names, Self::Modules, Self::Presence].into_iter().find(|kind| kind.name() == name)
    }
}

/// What identifies the state of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// The size in bytes.
    pub size: u64,
    /// The time of the last modification in nanoseconds.
    pub modified: i64,
    /// The number of the inode.
    pub inode: u64,
}

/// A use of a file or folder that no input declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeclaredRead {
    /// The path: relative to the project, or below `~/`, or absolute.
    pub path: String,
    /// What the program depends on.
    pub kind: ReadKind,
    /// The state of the file when it was first used; `None` if it was not a file, or if the program changed it.
    pub stamp: Option<FileStamp>,
    /// Whether nothing was there.
    pub was_absent: bool,
    /// Whether the command names the file, so that users know of it.
    pub is_named: bool,
}

/// What happens if a program reads a file of the project that no input declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Undeclared {
    /// The file is an input from then on.
    #[default]
    Track,
    /// The file is an input from then on, with a warning in every run of the stage.
    Warn,
    /// The stage fails.
    Error,
    /// Programs are not observed: only declared inputs count.
    Off,
}
