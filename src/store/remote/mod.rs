//! Results that machines share: a place that keeps objects by name, and what makes them trustworthy.
//!
//! ```text
//! cas/ab/HASH        a blob, named by the BLAKE3 hash of its bytes
//! pack/ab/HASH       many small blobs in one object
//! ac/SCOPE/ab/KEY    a signed result
//! ```
//!
//! Blobs prove themselves by their names; results are believed where a key that may write to their scope has signed them
//! ([`Envelope`]). What is wrong with a place is a warning and a miss, never a failed run ([`Remote`]).

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
mod http;
mod key;
mod pack;
#[cfg(feature = "cloud")]
mod s3;
mod transfer;
mod uploads;

use std::path::Path;

/// The variable that overrides `[cache.remote] scope`.
pub const SCOPE_VARIABLE: &str = "HAMFLOW_REMOTE_SCOPE";

/// A place, or without any secret what is wrong with its URL.
pub type OpenResult = Result<Box<dyn Backend>, String>;

/// A kind of place.
pub struct RemoteKind {
    /// What stands before `://` in its URLs.
    pub schemes: &'static [&'static str],
    /// An example URL, for messages.
    pub example: &'static str,
    /// Opens the remote at a URL. Relative paths are resolved against the given directory.
    pub open: fn(&str, &Path) -> OpenResult,
}

/// Every kind of place that this build knows.
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

/// The place of a URL, or of a folder (absolute, or relative to `root`).
pub fn open(url: &str, root: &Path) -> OpenResult {
    let Some((scheme, _)) = url.split_once("://") else {
        return if url.is_empty() { Err("the URL is empty".to_owned()) } else { directory::open_path(url, root) };
    };
    if let Some(kind) = REMOTES.iter().find(|kind| kind.schemes.contains(&scheme)) {
        return (kind.open)(url, root);
    }
    if !cfg!(feature = "cloud") && ["s3", "gs", "az"].contains(&scheme) {
        return Err(format!("this hamflow was built without `{scheme}`; `--features cloud` builds it in"));
    }
    let known: Vec<String> = REMOTES.iter().map(|kind| format!("`{}`", kind.example)).collect();
    Err(format!("`{scheme}` is no kind of remote; there are {}", known.join(", ")))
}

/// All variables whose names begin so and whose values are not empty.
#[cfg(feature = "cloud")]
fn env_vars(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    let text =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
}

/// A variable of the environment that is set and not empty.
fn env_var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub use backend::{Backend, RemoteError};
pub use envelope::{Envelope, Trust, is_scope};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use pack::unpack;
pub use transfer::{Availability, Remote};
pub use uploads::Uploads;
