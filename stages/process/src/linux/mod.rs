//! What Linux has: orphans that are adopted, so that none is left behind.

mod descendants;

pub use descendants::{adopt_orphans, end_descendants, end_orphans};
