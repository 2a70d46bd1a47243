//! Tensor shards: Arrow IPC files with one fixed-shape tensor per image, and their index.

mod index;
mod read;
mod write;

pub use index::{IndexRow, encode_index, read_index};
pub use read::ShardReader;
pub use write::{Dtype, ShardWriter, tensor_digest, tensor_hash};

/// The key in a shard's schema metadata that contains the preprocessing parameters as JSON.
pub const PREPROCESS_KEY: &str = "hamflow.preprocess";

/// The folder of the shards below the stage's output directory.
pub const FOLDER: &str = "shards";

/// The index's file name, in the same folder as the shards.
pub const INDEX_NAME: &str = "index.parquet";

/// The extension of a shard's file name.
const EXTENSION: &str = ".arrow";

const ID_COLUMN: &str = "image_id";
const TENSOR_COLUMN: &str = "image";

// The names that the Arrow format defines for these keys of a field's metadata.
const EXTENSION_NAME_KEY: &str = "ARROW:extension:name";
const EXTENSION_METADATA_KEY: &str = "ARROW:extension:metadata";
const TENSOR_EXTENSION: &str = "arrow.fixed_shape_tensor";

#[cfg(test)]
mod tests;
