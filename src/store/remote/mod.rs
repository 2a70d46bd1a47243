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

mod backend;
mod directory;
mod envelope;
mod http;
mod pack;
mod transfer;
mod uploads;

/// The variable that overrides `[cache.remote] scope`.
pub const SCOPE_VARIABLE: &str = "HAMFLOW_REMOTE_SCOPE";

pub use backend::{Backend, RemoteError, open};
pub use envelope::{Envelope, KeyError, SigningKey, Trust, VerifyingKey, is_scope};
pub use transfer::{Presence, Remote};
pub use uploads::Uploads;
