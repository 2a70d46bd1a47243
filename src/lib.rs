//! hamflow: runs dataflow pipelines incrementally, from a dataset to a trained, evaluated, explained classifier.
//!
//! The layers, each importing only what stands left of it:
//! `digest`, `fs` → `store` → `config` → `graph` → `plan` → `exec`, `lock` → `ui` → `cli`.

pub mod config;
pub mod digest;
pub mod fs;
pub mod graph;
pub mod lock;
pub mod plan;
pub mod store;
