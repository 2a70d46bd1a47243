//! The artifact types of the built-in kinds.

use hamflow_stage_api::ArtifactType;
use serde::{Deserialize, Deserializer, Serializer};

/// One JSON file of counts and values for people and for the report.
pub const SUMMARY: ArtifactType = ArtifactType::file("summary");
/// One JSON file: the class distribution over the splits, and the proof that no group spans two of them.
pub const BALANCE: ArtifactType = ArtifactType::file("balance");
/// A folder of Arrow IPC files with one row per image: `image_id` and a fixed-shape tensor.
pub const SHARDS: ArtifactType = ArtifactType::folder("shards");
/// One Parquet file: the shard, row and tensor digest of each image.
pub const INDEX: ArtifactType = ArtifactType::file("index");
/// A folder: `model.safetensors` and `card.json`.
pub const MODEL: ArtifactType = ArtifactType::folder("model");
/// One JSON file: one row per epoch.
pub const HISTORY: ArtifactType = ArtifactType::file("history");
/// One JSON file: the trials of a hyperparameter search.
pub const SEARCH: ArtifactType = ArtifactType::file("search");
/// One Parquet file: one row per image with its class probabilities.
pub const PREDICTIONS: ArtifactType = ArtifactType::file("predictions");
/// One JSON file: metrics of several models on the same rows.
pub const COMPARISON: ArtifactType = ArtifactType::file("comparison");
/// One JSON file: the measured time of a prediction of several models.
pub const LATENCY: ArtifactType = ArtifactType::file("latency");
/// A folder of SVG files, each next to a JSON file with its data.
pub const FIGURES: ArtifactType = ArtifactType::folder("figures");
/// A CSV file with the columns of `HAM10000_metadata.csv`.
pub const CSV: ArtifactType = ArtifactType::file("csv");
/// A folder of images.
pub const IMAGES: ArtifactType = ArtifactType::folder("images");

/// Every type that a `command` can declare, in documentation order.
pub const ALL: [ArtifactType; 18] = [
    ArtifactType::TABLE,
    SUMMARY,
    BALANCE,
    SHARDS,
    INDEX,
    MODEL,
    HISTORY,
    SEARCH,
    PREDICTIONS,
    ArtifactType::METRICS,
    COMPARISON,
    LATENCY,
    FIGURES,
    ArtifactType::PAGE,
    CSV,
    IMAGES,
    ArtifactType::FILE,
    ArtifactType::FOLDER,
];

/// The names of [`ALL`].
pub const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut index = 0;
    while index < ALL.len() {
        names[index] = ALL[index].name();
        index += 1;
    }
    names
};

/// Serialises a type as its name, for `#[serde(with = "artifact")]`.
pub fn serialize<S: Serializer>(artifact_type: &ArtifactType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(artifact_type.name())
}

/// Deserialises a type from its name, for `#[serde(with = "artifact")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ArtifactType, D::Error> {
    let name = String::deserialize(deserializer)?;
    let found = ALL.into_iter().find(|known| known.name() == name);
    found.ok_or_else(|| serde::de::Error::unknown_variant(&name, &NAMES))
}
