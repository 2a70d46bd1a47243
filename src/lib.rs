//! hamflow runs dataflow pipelines incrementally, from a dataset to a trained, evaluated and explained classifier.
//!
//! The layers; each imports only those to its left:
//! `digest`, `threads`, `fs` → `store` → `config` → `graph` → `lock` → `plan` → `exec` → `ui` → `cli`.

pub mod cli;
pub mod config;
pub mod digest;
pub mod exec;
pub mod fs;
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
pub mod lock;
pub mod plan;
pub mod store;
pub mod threads;
pub mod ui;
