//! A hash map for millions of short texts, with a faster hash function than the standard library's.

use std::collections::HashMap;

/// A map. The order of its iteration must not affect any output.
pub type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// An empty map with room for `capacity` entries.
pub fn with_capacity<K, V>(capacity: usize) -> FastMap<K, V> {
    FastMap::with_capacity_and_hasher(capacity, foldhash::fast::RandomState::default())
}
