//! The integration tests of hamflow, one module per topic.

mod ahead;
#[cfg(feature = "builtin")]
mod builtin;
#[cfg(feature = "builtin")]
mod bystanders;
mod cache;
mod cli;
#[cfg(feature = "cloud")]
mod clouds;
#[cfg(feature = "builtin")]
mod cluster;
mod crash;
#[cfg(feature = "builtin")]
mod datasets;
mod devices;
mod disks;
#[cfg(feature = "builtin")]
mod documents;
#[cfg(feature = "builtin")]
mod environments;
mod faults;
mod fuzz;
mod gc;
mod harness;
mod incremental;
mod layers;
mod messages;
#[cfg(feature = "builtin")]
mod migration;
#[cfg(feature = "builtin")]
mod nodes;
mod plan;
#[cfg(feature = "builtin")]
mod preprocess;
#[cfg(feature = "builtin")]
mod programs;
#[cfg(feature = "builtin")]
mod reads;
mod rebuild;
mod remote;
mod scheduling;
mod sealed;
#[cfg(feature = "builtin")]
mod search;
mod security;
mod serve;
#[cfg(feature = "builtin")]
mod terminal;
#[cfg(feature = "builtin")]
mod values;
