//! How much of the cache is kept for later.

use std::time::Duration;

/// Limits on the unreferenced results that are kept for later; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all blobs.
    pub max_bytes: Option<u64>,
    /// The time since the last use.
    pub max_age: Option<Duration>,
}

impl Default for Limits {
    /// 20 GB and 30 days.
    fn default() -> Self {
        Self { max_bytes: Some(20_000_000_000), max_age: Some(Duration::from_secs(30 * 24 * 60 * 60)) }
    }
}
