//! Tensor shards: Arrow IPC files with one fixed-shape tensor per image, and the index beside them.

mod index;
mod read;
mod write;

pub use index::{IndexRow, encode_index, read_index};
pub use read::ShardReader;
pub use write::{Dtype, ShardWriter, tensor_digest, tensor_hash};

/// The key in a shard's schema metadata that holds the parameters of its preprocessing as JSON.
pub const PREPROCESS_KEY: &str = "hamflow.preprocess";

/// The folder of the shards below the output directory of the stage that makes them.
pub const FOLDER: &str = "shards";

/// The index's file name; it lies in the same folder as the shards.
pub const INDEX_NAME: &str = "index.parquet";

/// The ending of a shard's file name.
const EXTENSION: &str = ".arrow";

const ID_COLUMN: &str = "image_id";
const TENSOR_COLUMN: &str = "image";

// The names that Arrow's format gives to these keys of a field's metadata.
const EXTENSION_NAME_KEY: &str = "ARROW:extension:name";
const EXTENSION_METADATA_KEY: &str = "ARROW:extension:metadata";
const TENSOR_EXTENSION: &str = "arrow.fixed_shape_tensor";

#[cfg(test)]
mod tests;
