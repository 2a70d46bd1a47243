//! What flows along the edges of a pipeline: artifact types, input ports and outputs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of an artifact, checked before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactType {
    /// One Parquet file.
    Table,
    /// One JSON file of counts and values for people and for the report.
    Summary,
    /// One JSON file: the class distribution over the splits, and the proof that no group spans two of them.
    Balance,
    /// A folder of Arrow IPC files with one row per image: `image_id` and a fixed-shape tensor.
    Shards,
    /// One Parquet file: the shard, row and tensor digest of each image.
    Index,
    /// A folder: `model.safetensors` and `card.json`.
    Model,
    /// One JSON file: one row per epoch.
    History,
    /// One Parquet file: one row per image with its class probabilities.
    Predictions,
    /// One JSON file of numbers, printed by `hamflow metrics`.
    Metrics,
    /// A folder of SVG files, each next to a JSON file with its data.
    Figures,
    /// One self-contained HTML file.
    Page,
    /// A CSV file with the columns of `HAM10000_metadata.csv`.
    Csv,
    /// A folder of images.
    Images,
    /// Any file.
    File,
    /// Any folder.
    Folder,
}

impl ArtifactType {
    /// Every type, in documentation order.
    pub const ALL: [Self; 15] = [
        Self::Table,
        Self::Summary,
        Self::Balance,
        Self::Shards,
        Self::Index,
        Self::Model,
        Self::History,
        Self::Predictions,
        Self::Metrics,
        Self::Figures,
        Self::Page,
        Self::Csv,
        Self::Images,
        Self::File,
        Self::Folder,
    ];

    /// The name used in `pipeline.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Summary => "summary",
            Self::Balance => "balance",
            Self::Shards => "shards",
            Self::Index => "index",
            Self::Model => "model",
            Self::History => "history",
            Self::Predictions => "predictions",
            Self::Metrics => "metrics",
            Self::Figures => "figures",
            Self::Page => "page",
            Self::Csv => "csv",
            Self::Images => "images",
            Self::File => "file",
            Self::Folder => "folder",
        }
    }

    /// Whether an artifact of this type is a folder rather than a single file.
    pub const fn is_folder(self) -> bool {
        matches!(self, Self::Shards | Self::Model | Self::Figures | Self::Images | Self::Folder)
    }
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The place in a [`Page`](ArtifactType::Page) where the engine inserts the details of the run, which must not be part of an
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
    /// Whether it also accepts an entry of `[inputs]`.
    pub external: bool,
    /// Whether the port must be connected.
    pub required: bool,
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
            external: false,
            required: true,
            many: false,
            access: Access::Content,
            doc,
        }
    }

    /// Makes the port optional.
    pub fn optional(mut self) -> Self {
        self.required = false;
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The artifact's name, referenced as `STAGE.NAME` in `pipeline.toml`.
    pub name: String,
    /// The artifact's type.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,
    /// The file or folder, relative to the stage's output directory, with `/` as separator.
    pub path: String,
    /// Whether the engine assembles it from the parts' files of the same path. [`Parts::merge`](crate::Parts::merge) does not see
    /// those bytes.
    #[serde(default)]
    pub from_parts: bool,
}

impl Output {
    /// An output that the stage writes itself.
    pub fn new(name: &str, artifact_type: ArtifactType, path: &str) -> Self {
        Self { name: name.to_owned(), artifact_type, path: path.to_owned(), from_parts: false }
    }

    /// Makes the output the union of the parts' files.
    pub fn from_parts(mut self) -> Self {
        self.from_parts = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_serialises_as_its_name() {
        for artifact_type in ArtifactType::ALL {
            assert_eq!(serde_json::to_value(artifact_type).unwrap(), artifact_type.name());
        }
    }
}
