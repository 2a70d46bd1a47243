//! The table of kinds: a new kind is one file and one line here.

use hamflow_stage_api::Kind;

/// Every built-in kind, in the order of the reference.
pub const KINDS: &[&dyn Kind] = &[&crate::train::Train];
