//! The index of the shards: the location and digest of each image's tensor.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use hamflow_stage_api::{InputFile, StageError};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// The location of one image's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// The image id.
    pub image_id: String,
    /// The file name of its shard.
    pub shard: String,
    /// Its row in the shard, 0-based.
    pub row: u32,
    /// The BLAKE3 hash of the image's bytes (0 to 255, regardless of the dtype), in hexadecimal.
    pub digest: String,
}

/// Encodes the index as a Parquet file, in the order of `rows`.
pub fn encode_index(rows: &[IndexRow]) -> Result<Vec<u8>, StageError> {
    encode(rows).map_err(|error| StageError::bug(format!("cannot encode the shard index: {error}")))
}

fn encode(rows: &[IndexRow]) -> Result<Vec<u8>, ParquetError> {
    let text =
        |value: fn(&IndexRow) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(value))) as ArrayRef;
    let columns = vec![
        text(|row| &row.image_id),
        text(|row| &row.shard),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.row)))),
        text(|row| &row.digest),
    ];
    let schema = Arc::new(Schema::new(vec![
        Field::new("image_id", DataType::Utf8, false),
        Field::new("shard", DataType::Utf8, false),
        Field::new("row", DataType::Int64, false),
        Field::new("digest", DataType::Utf8, false),
    ]));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties))?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.close()?;
    Ok(bytes)
}

/// Reads an index and verifies its digest.
pub fn read_index(file: &InputFile) -> Result<Vec<IndexRow>, StageError> {
    let bytes = file.read()?;
    decode(bytes).map_err(|error| StageError::input(format!("`{}` is not a valid shard index: {error}", file.path)))
}

fn decode(bytes: Vec<u8>) -> Result<Vec<IndexRow>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?.build()?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch?;
        let column = |name: &str, wanted: &DataType| {
            let column = batch.column_by_name(name).filter(|column| column.data_type() == wanted);
            let column = column.filter(|column| column.null_count() == 0);
            column.ok_or_else(|| ParquetError::General(format!("no column `{name}` of {wanted}")))
        };
        let image_ids = column("image_id", &DataType::Utf8)?.as_string::<i32>();
        let shards = column("shard", &DataType::Utf8)?.as_string::<i32>();
        let numbers = column("row", &DataType::Int64)?.as_primitive::<Int64Type>();
        let digests = column("digest", &DataType::Utf8)?.as_string::<i32>();
        for i in 0..batch.num_rows() {
            let row = numbers.value(i);
            rows.push(IndexRow {
                image_id: image_ids.value(i).to_owned(),
                shard: shards.value(i).to_owned(),
                row: u32::try_from(row).map_err(|_| ParquetError::General(format!("invalid row {row}")))?,
                digest: digests.value(i).to_owned(),
            });
        }
    }
    Ok(rows)
}
