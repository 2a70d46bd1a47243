//! What users decide about the cache: how much is kept, and whose results are trusted.

mod key;
mod retention;
mod trust;

pub use key::{KeyError, SharedSecret, SigningKey, VerifyingKey};
pub use retention::Limits;
pub use trust::{Trust, is_scope};
