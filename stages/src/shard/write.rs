//! Makes the bytes of one shard.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray, UInt8Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Metadata, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use hamflow_stage_api::StageError;
use serde_json::{Value, json};

use super::{EXTENSION_METADATA_KEY, EXTENSION_NAME_KEY, ID_COLUMN, PREPROCESS_KEY, TENSOR_COLUMN, TENSOR_EXTENSION};

/// The name of a tensor's bytes in the index: their BLAKE3 hash in hexadecimal.
pub fn tensor_digest(tensor: &[u8]) -> String {
    blake3::hash(tensor).to_hex().to_string()
}

/// Gathers the images of one shard and encodes them as an Arrow IPC file.
///
/// The bytes depend on nothing but the rows, their order, the shape and the parameters.
#[derive(Debug)]
pub struct ShardWriter {
    shape: [usize; 3],
    preprocess: String,
    ids: Vec<String>,
    tensors: Vec<u8>,
}

impl ShardWriter {
    /// Starts a shard of tensors of `shape` (height, width, channels), made with the parameters `preprocess`.
    pub fn new(shape: [usize; 3], preprocess: &Value) -> Self {
        Self { shape, preprocess: preprocess.to_string(), ids: Vec::new(), tensors: Vec::new() }
    }

    /// Reserves memory for `rows` more images.
    pub fn reserve(&mut self, rows: usize) {
        self.ids.reserve(rows);
        self.tensors.reserve_exact(rows * self.shape.iter().product::<usize>());
    }

    /// Adds one image; `tensor` must have the shape's number of bytes.
    pub fn push(&mut self, image_id: &str, tensor: &[u8]) {
        assert_eq!(tensor.len(), self.shape.iter().product::<usize>(), "a tensor has its shard's shape");
        self.ids.push(image_id.to_owned());
        self.tensors.extend_from_slice(tensor);
    }

    /// The number of images so far.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Encodes the shard.
    pub fn finish(self) -> Result<Vec<u8>, StageError> {
        self.encode().map_err(|error| StageError::bug(format!("a shard cannot be encoded: {error}")))
    }

    fn encode(self) -> Result<Vec<u8>, ArrowError> {
        let Self { shape, preprocess, ids, tensors } = self;
        let schema = schema(shape, &preprocess)?;
        let DataType::FixedSizeList(item, size) = schema.field(1).data_type() else {
            unreachable!("the schema's second column is a list of fixed size");
        };
        let mut bytes = Vec::with_capacity(tensors.len() + 64 * ids.len() + 4096);
        let mut writer = FileWriter::try_new(&mut bytes, &schema)?;
        if !ids.is_empty() {
            let values = UInt8Array::new(ScalarBuffer::from(Buffer::from_vec(tensors)), None);
            let columns: [ArrayRef; 2] = [
                Arc::new(StringArray::from(ids)),
                Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *size, Arc::new(values), None)?),
            ];
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns.into())?)?;
        }
        writer.finish()?;
        drop(writer);
        Ok(bytes)
    }
}

fn schema(shape: [usize; 3], preprocess: &str) -> Result<SchemaRef, ArrowError> {
    let size = i32::try_from(shape.iter().product::<usize>())
        .map_err(|_| ArrowError::InvalidArgumentError(format!("tensors of {shape:?} are too large")))?;
    let extension = json!({ "dim_names": ["height", "width", "channel"], "shape": shape });
    let tensor = Field::new(
        TENSOR_COLUMN,
        DataType::FixedSizeList(Arc::new(Field::new("item", DataType::UInt8, false)), size),
        false,
    )
    .with_metadata(
        Metadata::default()
            .with(EXTENSION_NAME_KEY, TENSOR_EXTENSION)
            .with(EXTENSION_METADATA_KEY, extension.to_string()),
    );
    let fields = vec![Field::new(ID_COLUMN, DataType::Utf8, false), tensor];
    Ok(Arc::new(Schema::new(fields).with_metadata(Metadata::default().with(PREPROCESS_KEY, preprocess))))
}
