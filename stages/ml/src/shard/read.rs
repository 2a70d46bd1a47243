//! Reads tensors from memory-mapped shards without copying.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeListArray, RecordBatch, StringArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, UInt8Type};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{root_as_footer, root_as_message};
use hamflow_stage_api::{Input, InputFile, StageError, Symlinks, open_regular};
use memmap2::Mmap;
use rayon::prelude::*;
use serde_json::Value;

use super::{EXTENSION, EXTENSION_METADATA_KEY, ID_COLUMN, PREPROCESS_KEY, TENSOR_COLUMN};

/// The tensors of a folder of shards by image id.
///
/// The shards are mapped into memory, and their digests are verified once when they are opened. If a file is
/// truncated afterwards, the process that reads it is killed, which the engine reports as a crash of that stage.
#[derive(Debug)]
pub struct ShardReader {
    name: String,
    shape: [usize; 3],
    preprocess: Value,
    shards: Vec<Batch>,
    /// Sorted by image id: the id, the index of its batch, and its row there.
    rows: Vec<(String, u32, u32)>,
}

#[derive(Debug)]
struct Batch {
    ids: StringArray,
    tensors: FixedSizeListArray,
}

struct Shard {
    shape: [usize; 3],
    preprocess: Value,
    batches: Vec<Batch>,
}

impl ShardReader {
    /// Maps and verifies every shard of `input`.
    pub fn open(input: &Input) -> Result<Self, StageError> {
        let files: Vec<&InputFile> = input.files.iter().filter(|file| file.path.ends_with(EXTENSION)).collect();
        let opened: Vec<Shard> = files.par_iter().map(|file| Shard::open(file)).collect::<Result<_, _>>()?;
        let Some(first) = opened.first() else {
            return Err(StageError::input(format!("`{}` has no shards", input.name)));
        };
        let (shape, preprocess) = (first.shape, first.preprocess.clone());
        let mut reader = Self { name: input.name.clone(), shape, preprocess, shards: Vec::new(), rows: Vec::new() };
        for (shard, file) in opened.into_iter().zip(files) {
            if shard.shape != shape || shard.preprocess != reader.preprocess {
                return Err(StageError::input(format!(
                    "shard `{}` of `{}` has different preprocessing parameters than the first shard",
                    file.path, input.name
                )));
            }
            for batch in shard.batches {
                let index = u32::try_from(reader.shards.len()).expect("there are fewer than 2^32 batches");
                let ids = batch.ids.iter().flatten().zip(0u32..);
                reader.rows.extend(ids.map(|(id, row)| (id.to_owned(), index, row)));
                reader.shards.push(batch);
            }
        }
        reader.rows.sort_unstable();
        if let Some(pair) = reader.rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(StageError::input(format!("duplicate image `{}` in `{}`", pair[0].0, input.name)));
        }
        Ok(reader)
    }

    /// The tensor of one image: height × width × channel bytes, row by row.
    pub fn tensor(&self, image_id: &str) -> Result<&[u8], StageError> {
        let found = self.rows.binary_search_by(|(id, ..)| id.as_str().cmp(image_id));
        let position = found.map_err(|_| {
            StageError::input(format!("image `{image_id}` is not in the shards of `{}`", self.name))
                .hint("the shards must have been made from the same table; quarantined images have no tensor")
        })?;
        let (_, batch, row) = self.rows[position];
        let tensors = &self.shards[batch as usize].tensors;
        let size = self.shape.iter().product::<usize>();
        let start = tensors.value_offset_at(row as usize);
        Ok(&tensors.values().as_primitive::<UInt8Type>().values()[start..start + size])
    }

    /// Whether the image has a tensor.
    pub fn contains(&self, image_id: &str) -> bool {
        self.rows.binary_search_by(|(id, ..)| id.as_str().cmp(image_id)).is_ok()
    }

    /// The image ids, sorted.
    pub fn image_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rows.iter().map(|(id, ..)| id.as_str())
    }

    /// Whether `bytes` are a shard. For fuzzing.
    pub fn is_shard(bytes: &[u8]) -> bool {
        Shard::decode(&Buffer::from(bytes)).is_ok()
    }

    /// The shape: height, width, channels.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The preprocessing parameters of the images.
    pub fn preprocess(&self) -> &Value {
        &self.preprocess
    }
}

impl Shard {
    fn open(file: &InputFile) -> Result<Self, StageError> {
        let bytes = map(file)?;
        file.check(&bytes)?;
        Self::decode(&bytes)
            .map_err(|error| StageError::input(format!("`{}` is not a valid shard: {error}", file.path)))
    }

    fn decode(bytes: &Buffer) -> Result<Self, ArrowError> {
        // The library panics on some damaged files.
        let decoded = catch_unwind(AssertUnwindSafe(|| Self::decode_unguarded(bytes)));
        decoded.unwrap_or_else(|_| Err(ArrowError::ParseError("it is damaged".to_owned())))
    }

    fn decode_unguarded(bytes: &Buffer) -> Result<Self, ArrowError> {
        let corrupt = |what: &str| ArrowError::ParseError(what.to_owned());
        let trailer = bytes.len().checked_sub(10).ok_or_else(|| corrupt("it is too short"))?;
        let ending = bytes[trailer..].try_into().expect("the slice has ten bytes");
        let start = trailer.checked_sub(read_footer_length(ending)?).ok_or_else(|| corrupt("it is too short"))?;
        let footer = root_as_footer(&bytes[start..trailer]).map_err(|error| corrupt(&error.to_string()))?;
        let schema = try_fb_to_schema(footer.schema().ok_or_else(|| corrupt("it has no schema"))?)?;
        let no_bytes = "it has no column `image` of u8 tensors (set `dtype = \"u8\"` in `preprocess`)";
        let shape = tensor_shape(&schema).ok_or_else(|| corrupt(no_bytes))?;
        let preprocess = schema.metadata().get(PREPROCESS_KEY);
        let preprocess = preprocess.and_then(|text| serde_json::from_str(text).ok());
        let preprocess = preprocess.ok_or_else(|| corrupt("it has no preprocessing parameters"))?;
        let widths: Option<Vec<usize>> = schema
            .fields()
            .iter()
            .map(|field| buffer_widths(field.data_type()))
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat());
        let widths = widths.ok_or_else(|| corrupt("it has a column of an unexpected type"))?;
        let decoder = FileDecoder::new(Arc::new(schema), footer.version());
        let mut batches = Vec::new();
        for block in footer.recordBatches().iter().flatten() {
            let range = usize::try_from(block.offset())
                .ok()
                .zip(usize::try_from(block.bodyLength()).ok().zip(usize::try_from(block.metaDataLength()).ok()));
            let (offset, (body, head)) = range.ok_or_else(|| corrupt("a block has an invalid offset"))?;
            let length = body
                .checked_add(head)
                .filter(|length| offset.checked_add(*length).is_some_and(|end| end <= bytes.len()));
            let length = length.ok_or_else(|| corrupt("a block extends beyond the end of the file"))?;
            let block_bytes = bytes.slice_with_length(offset, length);
            if !has_valid_buffers(&block_bytes, head, body, &widths) {
                return Err(corrupt("a block has an invalid buffer"));
            }
            if let Some(batch) = decoder.read_record_batch(block, &block_bytes)? {
                batches.push(Batch::new(&batch).ok_or_else(|| corrupt("it has unexpected columns"))?);
            }
        }
        Ok(Self { shape, preprocess, batches })
    }
}

/// The size in bytes of a value in each buffer of a column (Arrow columnar format, *Buffer listing for each layout*);
/// `None` for types that no shard has.
fn buffer_widths(data_type: &DataType) -> Option<Vec<usize>> {
    Some(match data_type {
        DataType::Utf8 | DataType::Binary => vec![1, 4, 1],
        DataType::LargeUtf8 | DataType::LargeBinary => vec![1, 8, 1],
        DataType::Boolean | DataType::FixedSizeBinary(_) => vec![1, 1],
        DataType::FixedSizeList(item, _) => [vec![1], buffer_widths(item.data_type())?].concat(),
        DataType::List(item) => [vec![1, 4], buffer_widths(item.data_type())?].concat(),
        other => vec![1, other.primitive_width()?],
    })
}

/// Whether all buffers of a block lie in its body and hold whole values. arrow panics otherwise.
fn has_valid_buffers(block: &[u8], head: usize, body: usize, widths: &[usize]) -> bool {
    // A marker and the length of the message are in front of it; the marker is missing in files of old versions.
    let start = if block.starts_with(&[0xff; 4]) { 8 } else { 4 };
    let message = block.get(start..head).and_then(|bytes| root_as_message(bytes).ok());
    let Some(batch) = message.and_then(|message| message.header_as_record_batch()) else { return false };
    let Some(buffers) = batch.buffers().filter(|buffers| buffers.len() == widths.len()) else { return false };
    buffers.iter().zip(widths).all(|(buffer, width)| {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        range.is_some_and(|(offset, length)| {
            let is_inside = offset.checked_add(length).is_some_and(|end| end <= body);
            is_inside && offset.is_multiple_of(8) && length.is_multiple_of(*width)
        })
    })
}

impl Batch {
    fn new(batch: &RecordBatch) -> Option<Self> {
        let ids = batch.column_by_name(ID_COLUMN)?.as_string_opt::<i32>()?.clone();
        let tensors = batch.column_by_name(TENSOR_COLUMN)?.as_fixed_size_list_opt()?.clone();
        (ids.null_count() == 0 && tensors.null_count() == 0).then_some(Self { ids, tensors })
    }
}

/// The shape that a shard's schema declares, if it matches the column's type.
fn tensor_shape(schema: &Schema) -> Option<[usize; 3]> {
    let field = schema.field_with_name(TENSOR_COLUMN).ok()?;
    let DataType::FixedSizeList(item, size) = field.data_type() else { return None };
    let extension: Value = serde_json::from_str(field.metadata().get(EXTENSION_METADATA_KEY)?).ok()?;
    let shape: [usize; 3] = serde_json::from_value(extension.get("shape")?.clone()).ok()?;
    let length = shape.iter().try_fold(1, |length: usize, side| length.checked_mul(*side));
    let fits = usize::try_from(*size).is_ok_and(|size| size > 0 && length == Some(size));
    (fits && *item.data_type() == DataType::UInt8).then_some(shape)
}

/// Maps a file, so that unused tensors are not read again.
fn map(file: &InputFile) -> Result<Buffer, StageError> {
    let io = |source| StageError::io("read", &file.source, &source);
    let handle = open_regular(&file.source, Symlinks::Follow).map_err(io)?;
    // An empty file cannot be mapped.
    if handle.metadata().map_err(io)?.len() == 0 {
        return Ok(Buffer::default());
    }
    // SAFETY: the store never writes to a blob in place, and `Buffer` only hands out shared bytes. Truncation by
    // other programs is documented on `ShardReader`.
    let map = unsafe { Mmap::map(&handle) }.map_err(io)?;
    let (start, length) = (NonNull::from(&map[..]).cast::<u8>(), map.len());
    // SAFETY: `start` and `length` describe the mapping, which lives as long as its owner, the second `Arc`.
    Ok(unsafe { Buffer::from_custom_allocation(start, length, Arc::new(map)) })
}
