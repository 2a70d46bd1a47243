//! hamflow runs dataflow pipelines incrementally, from a dataset to a trained, evaluated and explained classifier.
//!
//! The layers, each importing only what stands left of it:
//! `sys` → `digest`, `threads`, `fs`, `policy` → `config` → `store` → `out` → `graph` → `lock` → `plan` → `exec` → `ui` → `cli`.

pub mod cli;
pub mod config;
pub mod digest;
pub mod exec;
pub mod fs;
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
pub mod lock;
pub mod out;
pub mod plan;
pub mod policy;
pub mod store;
pub mod sys;
pub mod threads;
pub mod ui;
