//! Makes the bytes of one shard.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt8Array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Metadata, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use hamflow_stage_api::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{EXTENSION_METADATA_KEY, EXTENSION_NAME_KEY, ID_COLUMN, PREPROCESS_KEY, TENSOR_COLUMN, TENSOR_EXTENSION};

/// The hash of a tensor's bytes.
pub fn tensor_hash(tensor: &[u8]) -> blake3::Hash {
    blake3::hash(tensor)
}

/// The name of a tensor's bytes in the index: their BLAKE3 hash in hexadecimal.
pub fn tensor_digest(tensor: &[u8]) -> String {
    tensor_hash(tensor).to_hex().to_string()
}

/// The numbers of a shard's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Bytes, 0 to 255.
    #[default]
    U8,
    /// Floats, 0 to 1: the bytes divided by 255.
    F32,
}

impl Dtype {
    fn data_type(self) -> DataType {
        match self {
            Self::U8 => DataType::UInt8,
            Self::F32 => DataType::Float32,
        }
    }
}

/// Gathers the images of one shard and encodes them as an Arrow IPC file.
///
/// The bytes depend on nothing but the rows, their order, the shape and the parameters.
#[derive(Debug)]
pub struct ShardWriter {
    shape: [usize; 3],
    dtype: Dtype,
    preprocess: String,
    /// All image ids, one behind the other, and where each ends.
    ids: String,
    ends: Vec<i32>,
    tensors: Vec<u8>,
}

impl ShardWriter {
    /// Starts a shard of tensors of `shape` (height, width, channels), made with the parameters `preprocess`.
    pub fn new(shape: [usize; 3], dtype: Dtype, preprocess: &Value) -> Self {
        Self {
            shape,
            dtype,
            preprocess: preprocess.to_string(),
            ids: String::new(),
            ends: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Reserves memory for images of these ids.
    pub fn reserve(&mut self, image_ids: &[String]) {
        self.ids.reserve(image_ids.iter().map(String::len).sum());
        self.ends.reserve(image_ids.len());
        self.tensors.reserve_exact(image_ids.len() * self.shape.iter().product::<usize>());
    }

    /// Adds one image, whose tensor `make` writes in its place: the shape's number of bytes, 0 at first. Where that fails,
    /// nothing is added. Returns the tensor.
    pub fn push<E>(&mut self, image_id: &str, make: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<&[u8], E> {
        let start = self.tensors.len();
        self.tensors.resize(start + self.shape.iter().product::<usize>(), 0);
        if let Err(error) = make(&mut self.tensors[start..]) {
            self.tensors.truncate(start);
            return Err(error);
        }
        self.ids.push_str(image_id);
        self.ends.push(i32::try_from(self.ids.len()).expect("the ids of a shard are shorter than 2 GiB"));
        Ok(&self.tensors[start..])
    }

    /// The number of images so far.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Encodes the shard.
    pub fn finish(self) -> Result<Vec<u8>, StageError> {
        let mut bytes = Vec::with_capacity(self.tensors.len() + self.ids.len() + 64 * self.rows() + 4096);
        self.encode(&mut bytes).map_err(|error| StageError::bug(format!("a shard cannot be encoded: {error}")))?;
        Ok(bytes)
    }

    /// Encodes the shard into a file.
    pub fn write(self, path: &Path) -> Result<(), StageError> {
        let io = |source| StageError::io("write", path, &source);
        let mut file = BufWriter::new(Pieces(File::create(path).map_err(io)?));
        match self.encode(&mut file) {
            Err(ArrowError::IoError(_, source)) => Err(io(source)),
            Err(error) => Err(StageError::bug(format!("a shard cannot be encoded: {error}"))),
            Ok(()) => file.flush().map_err(io),
        }
    }

    fn encode(self, target: &mut impl Write) -> Result<(), ArrowError> {
        let Self { shape, dtype, preprocess, ids, ends, tensors } = self;
        let schema = schema(shape, dtype, &preprocess)?;
        let DataType::FixedSizeList(item, size) = schema.field(1).data_type() else {
            unreachable!("the schema's second column is a list of fixed size");
        };
        let mut writer = FileWriter::try_new(target, &schema)?;
        if !ends.is_empty() {
            let values: ArrayRef = match dtype {
                Dtype::U8 => Arc::new(UInt8Array::new(ScalarBuffer::from(Buffer::from_vec(tensors)), None)),
                Dtype::F32 => Arc::new(Float32Array::from_iter_values(tensors.iter().map(|v| f32::from(*v) / 255.0))),
            };
            let offsets = OffsetBuffer::new(std::iter::once(0).chain(ends).collect());
            let columns: [ArrayRef; 2] = [
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(ids.into_bytes()), None)?),
                Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *size, values, None)?),
            ];
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns.into())?)?;
        }
        writer.finish()
    }
}

/// A file that takes a little at a time.
///
/// For many megabytes at once Linux looks for memory in large blocks, and those are what a virtual machine may have returned to
/// its host: getting them back costs ten times what copying does.
struct Pieces(File);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(128 * 1024)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn schema(shape: [usize; 3], dtype: Dtype, preprocess: &str) -> Result<SchemaRef, ArrowError> {
    let size = i32::try_from(shape.iter().product::<usize>())
        .map_err(|_| ArrowError::InvalidArgumentError(format!("tensors of {shape:?} are too large")))?;
    let extension = json!({ "dim_names": ["height", "width", "channel"], "shape": shape });
    let tensor = Field::new(
        TENSOR_COLUMN,
        DataType::FixedSizeList(Arc::new(Field::new("item", dtype.data_type(), false)), size),
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
