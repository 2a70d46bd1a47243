//! What flows along the edges of a pipeline: artifact types, input ports and outputs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of an artifact, checked before anything runs: a name, and whether the artifact is a folder.
///
/// The engine gives a meaning only to the types below. A stages package declares its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactType {
    name: &'static str,
    folder: bool,
}

impl ArtifactType {
    /// One Parquet file. Columns that stages name are checked before anything runs.
    pub const TABLE: Self = Self::file("table");
    /// One JSON file of numbers, printed by `hamflow metrics`.
    pub const METRICS: Self = Self::file("metrics");
    /// One self-contained HTML file, opened by `hamflow report`.
    pub const PAGE: Self = Self::file("page");
    /// Any file.
    pub const FILE: Self = Self::file("file");
    /// Any folder.
    pub const FOLDER: Self = Self::folder("folder");

    /// A type of single files.
    pub const fn file(name: &'static str) -> Self {
        Self { name, folder: false }
    }

    /// A type of folders.
    pub const fn folder(name: &'static str) -> Self {
        Self { name, folder: true }
    }

    /// The name used in `pipeline.toml` and in results.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether an artifact of this type is a folder rather than a single file.
    pub const fn is_folder(self) -> bool {
        self.folder
    }
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The place in a [`Page`](ArtifactType::PAGE) where the engine inserts the details of the run, which must not be part of an
/// artifact. Without it they are put at the top.
pub const RUN_DETAILS: &str = "<!--hamflow:run-->";

/// Which part of an input enters the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Every byte.
    Content,
    /// The names of a folder's files, but not their bytes.
    Names,
    /// Only the views that [`Views::project`](crate::Views::project) returns.
    View,
}

/// An input port of a kind.
#[derive(Debug, Clone)]
pub struct Port {
    /// The key under `inputs` in `pipeline.toml`.
    pub name: String,
    /// The artifact types that it accepts.
    pub accepts: Vec<ArtifactType>,
    /// Whether it accepts artifacts of every type.
    pub any: bool,
    /// Whether it also accepts an entry of `[inputs]`.
    pub external: bool,
    /// Whether the port must be connected.
    pub required: bool,
    /// The port that takes this one's place: exactly one of the two must be connected if this one is required.
    pub unless: Option<&'static str>,
    /// Whether it accepts a list of inputs.
    pub many: bool,
    /// Which part of the input enters the key.
    pub access: Access,
    /// One sentence for the reference documentation.
    pub doc: &'static str,
}

impl Port {
    /// A required port for one artifact type that keys on the full content.
    pub fn new(name: &str, accepts: ArtifactType, doc: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            accepts: vec![accepts],
            any: false,
            external: false,
            required: true,
            unless: None,
            many: false,
            access: Access::Content,
            doc,
        }
    }

    /// Whether it accepts artifacts of this type.
    pub fn takes(&self, artifact_type: ArtifactType) -> bool {
        self.any || self.accepts.contains(&artifact_type)
    }

    /// Accepts another artifact type, too.
    pub fn or(mut self, artifact_type: ArtifactType) -> Self {
        self.accepts.push(artifact_type);
        self
    }

    /// Makes the port optional.
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// Requires the port unless another one is connected, and rejects it beside that one.
    pub fn unless(mut self, other: &'static str) -> Self {
        self.unless = Some(other);
        self
    }

    /// Also accepts an entry of `[inputs]`.
    pub fn or_external(mut self) -> Self {
        self.external = true;
        self
    }

    /// Accepts a list of inputs.
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// Sets which part of the input enters the key.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }
}

/// An artifact that a stage produces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The artifact's name, referenced as `STAGE.NAME` in `pipeline.toml`.
    pub name: String,
    /// The artifact's type.
    pub artifact_type: ArtifactType,
    /// The file or folder, relative to the stage's output directory, with `/` as separator.
    pub path: String,
    /// Whether the engine assembles it from the parts' files of the same path. [`Parts::merge`](crate::Parts::merge) does not see
    /// those bytes.
    pub from_parts: bool,
    /// Whether it is a measurement of the machine, which differs between runs. A rebuild to verify a result does not compare it.
    pub measured: bool,
    /// Of metrics, the names of the number that stands for all of them; the first that exists is shown at the end of a run.
    pub headline: &'static [&'static str],
}

impl Output {
    /// An output that the stage writes itself.
    pub fn new(name: &str, artifact_type: ArtifactType, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            artifact_type,
            path: path.to_owned(),
            from_parts: false,
            measured: false,
            headline: &[],
        }
    }

    /// Names the number that stands for all metrics, such as `test.balanced_accuracy`; then those in its place.
    pub fn headline(mut self, names: &'static [&'static str]) -> Self {
        self.headline = names;
        self
    }

    /// Makes the output a measurement.
    pub fn measured(mut self) -> Self {
        self.measured = true;
        self
    }

    /// Makes the output the union of the parts' files.
    pub fn from_parts(mut self) -> Self {
        self.from_parts = true;
        self
    }
}
