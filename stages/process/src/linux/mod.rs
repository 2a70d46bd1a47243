//! What Linux has: orphans are adopted, so that none is left behind, and programs are observed.

mod descendants;
mod landlock;
mod trace;

pub use descendants::{adopt_orphans, end_descendants, end_orphans};
pub use landlock::{can_isolate, isolate};
pub use trace::{Observation, can_observe, unobserved};
