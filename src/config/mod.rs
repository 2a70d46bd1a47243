//! Reads `pipeline.toml` into a [`Pipeline`]: every name known, every parameter checked, every default filled in.
//!
//! 1. The text becomes a tree of values with spans (`value`).
//! 2. Files of parameters are read (`params_file`). A profile and `--set` change that tree (`overlay`); a span tells the file, the profile and the command line apart.
//! 3. serde reads the tree into one struct per section (`sections`), which also derives the JSON Schema (`schema`).
//! 4. Stages get their kinds (`template`) and their combinations (`matrix`).
//!
//! Every mistake on the way is collected, so that one look shows them all (`diagnostic`).

mod axis;
mod de;
mod diagnostic;
mod field_schema;
mod foreach;
mod json;
mod known_kinds;
mod load;
mod matched_files;
mod matrix;
mod overlay;
mod params_file;
mod pipeline;
mod port_reader;
pub(crate) mod ports;
mod quantity;
mod reader;
mod reference;
mod schema;
mod sections;
mod spanned;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod value;
pub(crate) mod yaml;

pub use diagnostic::{Diagnostic, Location, Origin, Sources, Span};
pub(crate) use diagnostic::{Mistake, Mistakes};
pub use load::{load, locate};
pub use matched_files::{MatchedFiles, matched_names};
pub use pipeline::{Kinds, Overrides, Pipeline, Reference, Stage};
pub use quantity::{parse_age, parse_size};
pub use reference::{ReferenceTarget, Selection};
pub use schema::{json_schema, of_every_stage};
pub use sections::{
    CacheOptions, Cpus, DEFAULT_CACHE_DIR, ExecutorKind, ExecutorOptions, InputDeclaration, LOCAL, LinkMode, Needs,
    RemoteOptions, Requests, TransportKind,
};
pub(crate) use value::{Entry, Node, Table, Value};
