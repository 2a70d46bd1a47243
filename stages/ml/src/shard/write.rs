//! Writes a shard.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt8Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Metadata, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use hamflow_stage_api::{OutputFile, StageError, Symlinks, open_regular};
use memmap2::MmapOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{EXTENSION_METADATA_KEY, EXTENSION_NAME_KEY, ID_COLUMN, PREPROCESS_KEY, TENSOR_COLUMN, TENSOR_EXTENSION};

/// The hash of a tensor's bytes.
pub fn tensor_hash(tensor: &[u8]) -> blake3::Hash {
    blake3::hash(tensor)
}

/// The digest of a tensor in the index: the BLAKE3 hash of its bytes in hexadecimal.
pub fn tensor_digest(tensor: &[u8]) -> String {
    tensor_hash(tensor).to_hex().to_string()
}

/// The element type of a shard's tensors.
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

/// Writes one shard, an Arrow IPC file, image by image. At most one tensor is in memory.
///
/// The bytes depend only on the rows, their order, the shape and the parameters.
#[derive(Debug)]
pub struct ShardWriter<'a> {
    file: OutputFile,
    layout: Layout,
    /// The images that the file has room for.
    image_ids: &'a [String],
    /// The number of images that were added or skipped so far.
    tried: usize,
    /// The indices of the images that were added.
    kept: Vec<usize>,
    /// The data around the tensors if no image is skipped.
    frame: Frame,
    floats: Vec<u8>,
}

impl<'a> ShardWriter<'a> {
    /// Creates a shard for tensors of `shape` (height, width, channels) of these images, with the preprocessing
    /// parameters `preprocess`.
    pub fn create(
        mut file: OutputFile,
        shape: [usize; 3],
        dtype: Dtype,
        preprocess: &Value,
        image_ids: &'a [String],
    ) -> Result<Self, StageError> {
        let layout = Layout { shape, dtype, preprocess: preprocess.to_string() };
        let frame = layout.frame(image_ids.iter())?;
        file.write_all(&frame.head).map_err(at(file.path()))?;
        Ok(Self {
            file,
            layout,
            image_ids,
            tried: 0,
            kept: Vec::with_capacity(image_ids.len()),
            frame,
            floats: Vec::new(),
        })
    }

    /// Adds the next image.
    pub fn push(&mut self, tensor: &[u8]) -> Result<(), StageError> {
        let written = match self.layout.dtype {
            Dtype::U8 => self.file.write_all(tensor),
            Dtype::F32 => {
                self.floats.clear();
                self.floats.extend(tensor.iter().flat_map(|value| (f32::from(*value) / 255.0).to_ne_bytes()));
                self.file.write_all(&self.floats)
            }
        };
        written.map_err(at(self.file.path()))?;
        self.kept.push(self.tried);
        self.tried += 1;
        Ok(())
    }

    /// Skips the next image.
    pub fn leave_out(&mut self) {
        self.tried += 1;
    }

    /// Finishes the file, which is rewritten if images were skipped.
    pub fn finish(mut self) -> Result<(), StageError> {
        let path = self.file.path().to_owned();
        if self.tried != self.image_ids.len() {
            let (tried, all) = (self.tried, self.image_ids.len());
            return Err(StageError::bug(format!("only {tried} of the {all} images of a shard were added or skipped")));
        }
        if self.kept.len() == self.image_ids.len() {
            self.file.write_all(&self.frame.tail).map_err(at(&path))?;
            return self.file.flush().map_err(at(&path));
        }
        self.file.flush().map_err(at(&path))?;
        // If images were skipped, the data before the tensors has a different length.
        let frame = self.layout.frame(self.kept.iter().map(|image| &self.image_ids[*image]))?;
        let whole = path.with_extension("whole");
        let copy = || {
            let mut from = open_regular(&path, Symlinks::Refuse)?;
            from.seek(SeekFrom::Start(self.frame.head.len() as u64))?;
            let mut to = File::create(&whole)?;
            to.write_all(&frame.head)?;
            std::io::copy(&mut from, &mut to)?;
            to.write_all(&frame.tail)?;
            std::fs::rename(&whole, &path)
        };
        copy().map_err(at(&path))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StageError {
    move |source| StageError::io("write", path, &source)
}

/// The properties that all shards of a stage share.
#[derive(Debug)]
struct Layout {
    shape: [usize; 3],
    dtype: Dtype,
    preprocess: String,
}

impl Layout {
    /// The number of elements per tensor.
    fn numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// The data around the tensors of these images.
    fn frame<'i>(&self, image_ids: impl ExactSizeIterator<Item = &'i String>) -> Result<Frame, StageError> {
        let bug = |error: &dyn std::fmt::Display| StageError::bug(format!("cannot encode a shard: {error}"));
        let width = match self.dtype {
            Dtype::U8 => size_of::<u8>(),
            Dtype::F32 => size_of::<f32>(),
        };
        let numbers = image_ids.len() * self.numbers();
        // These bytes are never read, so the kernel need not allocate them; a length of zero cannot be mapped.
        let room = (numbers * width).max(1);
        let blank = MmapOptions::new().len(room).no_reserve_swap().map_anon().map_err(|error| bug(&error))?;
        let blank = Buffer::from(Bytes::from_owner(blank)).slice_with_length(0, numbers * width);
        let mut target = Around { inside: blank.as_ptr(), frame: Frame::default(), behind: false };
        self.encode(&mut target, image_ids, blank).map_err(|error| bug(&error))?;
        if numbers > 0 && !target.behind {
            return Err(bug(&"the tensors were copied before they were written"));
        }
        Ok(target.frame)
    }

    fn encode<'i>(
        &self,
        target: &mut Around,
        image_ids: impl ExactSizeIterator<Item = &'i String>,
        tensors: Buffer,
    ) -> Result<(), ArrowError> {
        let schema = schema(self.shape, self.dtype, &self.preprocess)?;
        let DataType::FixedSizeList(item, size) = schema.field(1).data_type() else {
            unreachable!("the schema's second column is a list of fixed size");
        };
        let mut writer = FileWriter::try_new(target, &schema)?;
        if image_ids.len() > 0 {
            let values: ArrayRef = match self.dtype {
                Dtype::U8 => Arc::new(UInt8Array::new(ScalarBuffer::from(tensors), None)),
                Dtype::F32 => Arc::new(Float32Array::new(ScalarBuffer::from(tensors), None)),
            };
            let columns: [ArrayRef; 2] = [
                Arc::new(StringArray::from_iter_values(image_ids)),
                Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *size, values, None)?),
            ];
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns.into())?)?;
        }
        writer.finish()
    }
}

/// The data before and after the tensors of a shard.
#[derive(Debug, Default)]
struct Frame {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Keeps everything that is written, except for the bytes at one address.
struct Around {
    inside: *const u8,
    frame: Frame,
    behind: bool,
}

impl Write for Around {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.as_ptr() == self.inside {
            self.behind = true;
        } else {
            let side = if self.behind { &mut self.frame.tail } else { &mut self.frame.head };
            side.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
