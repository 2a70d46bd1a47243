//! Snapshots of the messages for invalid pipelines.

mod cache;
mod file;
mod matrix;
mod overlay;
mod stage;

/// Two stages that are right.
const HEAD: &str = "\
[inputs]
rows = \"rows.csv\"
[stages.source]
csv = \"inputs.rows\"
[stages.pack]
table = \"source\"
";
