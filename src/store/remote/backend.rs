//! What a place for shared objects can do, and how it fails.

use std::fmt;
use std::io::{self, Read, Write};

/// A place that keeps objects by name, such as `cas/ab/abcd…`. Calls block; several threads call at the same time.
pub trait Backend: Send + Sync {
    /// Writes the object to `sink`; false where it is not there.
    fn get(&self, name: &str, sink: &mut dyn Write) -> Result<bool, RemoteError>;

    /// Whether the object is there with this size.
    fn has(&self, name: &str, size: u64) -> Result<bool, RemoteError>;

    /// Keeps `size` bytes of `body` as the object; whoever reads at the same time sees all of it or nothing.
    fn put(&self, name: &str, body: &mut dyn Read, size: u64) -> Result<(), RemoteError>;

    /// The bytes that all calls have sent so far, where those that a body gave do not show it.
    fn sent(&self) -> u64 {
        0
    }

    /// Where it is, for messages: without any secret.
    fn place(&self) -> String;
}

/// Why a place did not do what it was asked to.
#[derive(Debug)]
pub enum RemoteError {
    /// It cannot be reached, or does not answer in time.
    Unreachable(String),
    /// It does not let us.
    Refused(String),
    /// It answers that it has a problem, which may pass.
    Failed(String),
    /// What it gave is not what its name or its signature says.
    Corrupt(String),
    /// The local disk failed.
    Local(io::Error),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(what) | Self::Refused(what) | Self::Failed(what) | Self::Corrupt(what) => {
                f.write_str(what)
            }
            Self::Local(error) => write!(f, "the local disk failed: {error}"),
        }
    }
}

impl std::error::Error for RemoteError {}

/// What it means that a sink takes no more: there was too much, or the disk failed.
pub(super) fn sink_error(error: io::Error) -> RemoteError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => RemoteError::Corrupt("an object has more bytes than it should".to_owned()),
        _ => RemoteError::Local(error),
    }
}
