//! The interface of object stores.

use std::io::{self, Read, Write};

/// An object store with names such as `cas/ab/abcd…`. Calls block and may be made from several threads.
pub trait Backend: Send + Sync {
    /// Writes an object to `sink`; returns false if it does not exist.
    fn get(&self, name: &str, sink: &mut dyn Write) -> Result<bool, RemoteError>;

    /// Whether an object of this size exists.
    fn has(&self, name: &str, size: u64) -> Result<bool, RemoteError>;

    /// Stores `size` bytes of `body` as an object, atomically for concurrent readers.
    fn put(&self, name: &str, body: &mut dyn Read, size: u64) -> Result<(), RemoteError>;

    /// The number of bytes sent by all calls, for backends that buffer bodies before sending them.
    fn sent(&self) -> u64 {
        0
    }

    /// The location, for messages; without secrets.
    fn location(&self) -> String;
}

/// A failed request to a remote.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The remote cannot be reached or does not answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// The remote refuses the request, for example for lack of permission.
    #[error("{0}")]
    Refused(String),
    /// The remote reports an internal error, which may be temporary.
    #[error("{0}")]
    Failed(String),
    /// An object does not match its digest or its signature.
    #[error("{0}")]
    Corrupt(String),
    /// The local disk failed.
    #[error("the local disk failed: {0}")]
    Local(#[source] io::Error),
}

/// The error for a failed write to a sink: the object is too large, or the local disk failed.
pub(super) fn sink_error(error: io::Error) -> RemoteError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => RemoteError::Corrupt("an object is larger than expected".to_owned()),
        _ => RemoteError::Local(error),
    }
}
