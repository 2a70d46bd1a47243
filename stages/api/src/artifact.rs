//! What flows along the edges of a pipeline: types of artifacts, the ports that take them, the outputs that make them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Says what an artifact is, so that a pipeline that cannot work is refused before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactType {
    /// One Parquet file.
    Table,
    /// One JSON file of counts and values for people and for the report.
    Summary,
    /// One JSON file: how the classes fall on the splits, and the proof that no group crosses.
    Balance,
    /// A folder of Arrow IPC files with `image_id` and a fixed-shape tensor per row.
    Shards,
    /// One Parquet file: for each image its shard, row and the digest of its tensor.
    Index,
    /// A folder: `model.safetensors` and `card.json`.
    Model,
    /// One JSON file: a row per epoch.
    History,
    /// One Parquet file: a row per image with its probabilities.
    Predictions,
    /// One JSON file of numbers, shown by `hamflow metrics`.
    Metrics,
    /// A folder of SVG files, each with its data beside it.
    Figures,
    /// One self-contained HTML file.
    Page,
    /// A CSV file in the layout of `HAM10000_metadata.csv`.
    Csv,
    /// A folder of images.
    Images,
    /// Any file.
    File,
    /// Any folder.
    Folder,
}

impl ArtifactType {
    /// Every type, in the order of the reference.
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

    /// The name, as it is written in `pipeline.toml`.
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

    /// Whether an artifact of this type is a folder rather than one file.
    pub const fn is_folder(self) -> bool {
        matches!(self, Self::Shards | Self::Model | Self::Figures | Self::Images | Self::Folder)
    }
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Says which part of an input decides the result, and so enters the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Every byte.
    Content,
    /// The names of a folder's files, never their bytes.
    Names,
    /// What [`Kind::views`](crate::Kind::views) says, and nothing else.
    View,
}

/// An input that a kind takes.
#[derive(Debug, Clone)]
pub struct Port {
    /// The key in `pipeline.toml` that names what is taken.
    pub name: String,
    /// The types of artifact that fit.
    pub accepts: Vec<ArtifactType>,
    /// Whether something declared under `[inputs]` fits.
    pub external: bool,
    /// Whether a stage without it is refused.
    pub required: bool,
    /// Whether a list of several is allowed.
    pub many: bool,
    /// What of it enters the key.
    pub access: Access,
    /// One sentence for the reference.
    pub doc: &'static str,
}

impl Port {
    /// A required artifact of one type, all of whose bytes count.
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

    /// May be left out.
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// May also be something from outside the pipeline.
    pub fn or_external(mut self) -> Self {
        self.external = true;
        self
    }

    /// May be a list.
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// Counts in the key as `access` says.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }
}

/// An artifact that a stage makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The artifact's name: `STAGE.NAME` in `pipeline.toml`.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,
    /// The file or folder below the stage's output directory, relative, with `/`.
    pub path: String,
    /// Whether the engine assembles it from the parts' files of the same path; [`Kind::merge`](crate::Kind::merge) never sees those bytes.
    #[serde(default)]
    pub from_parts: bool,
}

impl Output {
    /// An output that a stage writes as a whole.
    pub fn new(name: &str, artifact_type: ArtifactType, path: &str) -> Self {
        Self { name: name.to_owned(), artifact_type, path: path.to_owned(), from_parts: false }
    }

    /// An output that is the union of the parts' files.
    pub fn from_parts(mut self) -> Self {
        self.from_parts = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_written_by_its_name() {
        for artifact_type in ArtifactType::ALL {
            assert_eq!(serde_json::to_value(artifact_type).unwrap(), artifact_type.name());
        }
    }
}
