//! Remote caches: results shared between machines through an object store.
//!
//! ```text
//! cas/ab/HASH        a blob, named by the BLAKE3 hash of its bytes
//! pack/ab/HASH       many small blobs in one object
//! ac/SCOPE/ab/KEY    a signed result
//! tasks/PLACE/NAME   messages between a run and its nodes
//! ```
//!
//! Blobs are verified by their digests. Results must be signed by a key that may write to their scope ([`Envelope`]). A problem with a
//! remote causes a warning and cache misses, never a failed run ([`Remote`]).

#[cfg(feature = "cloud")]
mod azure;
mod backend;
#[cfg(feature = "cloud")]
mod client;
#[cfg(feature = "cloud")]
mod cloud;
mod directory;
mod envelope;
#[cfg(feature = "cloud")]
mod gcs;
mod hashing;
mod http;
mod mailbox;
mod pack;
#[cfg(feature = "cloud")]
mod s3;
mod transfer;
mod uploads;

use std::path::Path;

/// The variable that overrides `[cache.remote] scope`.
pub const SCOPE_VARIABLE: &str = "HAMFLOW_REMOTE_SCOPE";

/// An open remote, or what is wrong with its URL. The message contains no secrets.
pub type OpenResult = Result<Box<dyn Backend>, String>;

/// A kind of remote.
pub struct RemoteKind {
    /// The URL schemes.
    pub schemes: &'static [&'static str],
    /// An example URL, for messages.
    pub example: &'static str,
    /// Opens the remote at a URL. Relative paths are resolved against the given directory.
    pub open: fn(&str, &Path) -> OpenResult,
}

/// All kinds of remotes in this build.
pub const REMOTES: &[RemoteKind] = &[
    directory::KIND,
    http::KIND,
    #[cfg(feature = "cloud")]
    s3::KIND,
    #[cfg(feature = "cloud")]
    gcs::KIND,
    #[cfg(feature = "cloud")]
    azure::KIND,
];

/// Opens the remote at a URL, or at a directory (absolute or relative to `root`).
pub fn open(url: &str, root: &Path) -> OpenResult {
    let Some((scheme, _)) = url.split_once("://") else {
        return if url.is_empty() { Err("the URL is empty".to_owned()) } else { directory::open_path(url, root) };
    };
    if let Some(kind) = REMOTES.iter().find(|kind| kind.schemes.contains(&scheme)) {
        return (kind.open)(url, root);
    }
    if !cfg!(feature = "cloud") && ["s3", "gs", "az"].contains(&scheme) {
        return Err(format!("this build of hamflow does not support `{scheme}`; rebuild it with `--features cloud`"));
    }
    let known: Vec<String> = REMOTES.iter().map(|kind| format!("`{}`", kind.example)).collect();
    Err(format!("`{scheme}` is not a supported kind of remote; use one of {}", known.join(", ")))
}

/// All environment variables with this prefix and a non-empty value.
#[cfg(feature = "cloud")]
fn env_vars(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    let text =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
}

/// The value of an environment variable that is set and not empty.
fn env_var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub use backend::{Backend, RemoteError};
pub use envelope::Envelope;
pub use mailbox::{Mailbox, Place};
pub use pack::unpack;
pub use transfer::{Availability, Remote, for_each_parallel};
pub use uploads::Uploads;

pub use crate::policy::{KeyError, SigningKey, Trust, VerifyingKey, is_scope};
