//! The promises of hamflow, a module each.

mod cache;
mod cli;
mod faults;
mod harness;
mod incremental;
mod layers;
mod plan;
