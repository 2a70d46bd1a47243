//! The promises of hamflow, a module each.

#[cfg(feature = "builtin")]
mod builtin;
mod cache;
mod cli;
mod disks;
#[cfg(feature = "builtin")]
mod documents;
mod faults;
mod harness;
mod incremental;
mod layers;
mod plan;
#[cfg(feature = "builtin")]
mod preprocess;
mod remote;
mod sealed;
