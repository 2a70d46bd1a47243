//! Reads Parquet into a data frame.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchReader};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Float64Type, Int64Type};
use bytes::Bytes;
use hamflow_stage_api::{InputFile, StageError, near_miss};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use polars::prelude::{Column, DataFrame};

/// Reads a table, or some of its columns in the given order, after verifying the digest.
///
/// Without a list of columns, those of [unreadable](unreadable_columns) types are left out.
pub fn read(file: &InputFile, columns: Option<&[&str]>) -> Result<DataFrame, StageError> {
    read_with(file, columns, &[])
}

/// Reads some columns, and optional ones if they exist.
pub fn read_with(file: &InputFile, columns: Option<&[&str]>, optional: &[&str]) -> Result<DataFrame, StageError> {
    read_bytes(&file.path, file.read()?, columns, optional)
}

/// The same for the bytes of a file called `name`.
pub fn read_bytes(
    name: &str,
    bytes: Vec<u8>,
    columns: Option<&[&str]>,
    optional: &[&str],
) -> Result<DataFrame, StageError> {
    // The library panics on some damaged files.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(name, bytes, columns, optional)));
    decoded.unwrap_or_else(|_| Err(StageError::input(format!("`{name}` is a damaged Parquet file"))))
}

fn decode(name: &str, bytes: Vec<u8>, columns: Option<&[&str]>, optional: &[&str]) -> Result<DataFrame, StageError> {
    let damaged =
        |error: &dyn std::fmt::Display| StageError::input(format!("`{name}` is not a valid Parquet file: {error}"));
    let builder = open(bytes).map_err(|error| damaged(&error))?;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let (mask, wanted) = match columns {
        None => {
            let fields = builder.schema().fields().iter().enumerate();
            let (indices, wanted): (Vec<usize>, Vec<String>) = fields
                .filter(|(_, field)| target_type(field.data_type()).is_some())
                .map(|(index, field)| (index, field.name().clone()))
                .unzip();
            (ProjectionMask::roots(builder.parquet_schema(), indices), wanted)
        }
        Some(columns) => {
            let there = optional.iter().filter(|column| names.iter().any(|name| name == *column));
            let columns: Vec<&str> = columns.iter().chain(there).copied().collect();
            let mut indices = Vec::with_capacity(columns.len());
            for column in &columns {
                indices.push(names.iter().position(|name| name == column).ok_or_else(|| {
                    let mut error = StageError::input(format!("the table has no column `{column}`"));
                    error.hint = near_miss::hint(column, names.iter().map(String::as_str));
                    error
                })?);
            }
            let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
            (mask, columns.into_iter().map(str::to_owned).collect())
        }
    };
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let reader = builder.with_projection(mask).with_batch_size(1 << 16).build().map_err(|error| damaged(&error))?;
    // A table without rows has no batches, but its columns have types.
    let mut batches = vec![RecordBatch::new_empty(reader.schema())];
    for batch in reader {
        batches.push(batch.map_err(|error| damaged(&error))?);
    }
    let mut read: Vec<Column> = Vec::with_capacity(wanted.len());
    for name in wanted {
        match column(&name, &batches) {
            // Of columns with the same name, the first counts.
            Ok(_) if read.iter().any(|other| other.name().as_str() == name) => {}
            Ok(column) => read.push(column),
            Err(error) if columns.is_some() => return Err(error),
            // Nobody asked for this one.
            Err(_) => {}
        }
    }
    DataFrame::new(rows, read).map_err(|error| damaged(&error))
}

/// Opens a file; types of other programs that are not known here become those of Parquet.
fn open(bytes: Vec<u8>) -> parquet::errors::Result<ParquetRecordBatchReaderBuilder<Bytes>> {
    let bytes = Bytes::from(bytes);
    ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).or_else(|_| {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
    })
}

/// The columns of a Parquet file that no stage can read, such as lists and numbers that are too large, with the reason.
/// The error is the end of a sentence that begins with the file's name.
pub fn unreadable_columns(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    catch_unwind(|| find_unreadable_columns(bytes)).unwrap_or_else(|_| Err("it is a damaged Parquet file".to_owned()))
}

fn find_unreadable_columns(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    let invalid = |error: &dyn std::fmt::Display| format!("it cannot be read as Parquet: {error}");
    let builder = open(bytes).map_err(|error| invalid(&error))?;
    let fields = builder.schema().fields().clone();
    let reader = builder.build().map_err(|error| invalid(&error))?;
    // Values may be compressed with a codec that is not supported.
    let mut batches = vec![RecordBatch::new_empty(reader.schema())];
    for batch in reader {
        batches.push(batch.map_err(|error| invalid(&error))?);
    }
    let mut unreadable = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let name = field.name();
        if fields[..index].iter().any(|other| other.name() == name) {
            unreadable.push(format!("`{name}` (there are several)"));
        } else if target_type(field.data_type()).is_none() {
            unreadable.push(format!("`{name}` ({})", field.data_type()));
        } else if let Err(error) = column(name, &batches) {
            unreadable.push(format!("`{name}` ({})", error.message));
        }
    }
    Ok(unreadable)
}

/// The type to which a column is converted, if its type is supported.
fn target_type(found: &ArrowType) -> Option<ArrowType> {
    match found {
        ArrowType::Dictionary(_, values) => target_type(values),
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View | ArrowType::Null => Some(ArrowType::Utf8),
        ArrowType::Date32 | ArrowType::Date64 | ArrowType::Timestamp(..) => Some(ArrowType::Utf8),
        ArrowType::Boolean => Some(ArrowType::Boolean),
        kind if kind.is_integer() => Some(ArrowType::Int64),
        kind if kind.is_floating() || kind.is_decimal() => Some(ArrowType::Float64),
        _ => None,
    }
}

fn column(name: &str, batches: &[RecordBatch]) -> Result<Column, StageError> {
    let arrays: Vec<&ArrayRef> = batches.iter().filter_map(|batch| batch.column_by_name(name)).collect();
    let found = arrays.first().map_or(&ArrowType::Null, |array| array.data_type());
    let target = target_type(found).ok_or_else(|| {
        StageError::input(format!("column `{name}` has the unsupported type {found}"))
            .hint("supported types are text, numbers, booleans and dates")
    })?;
    let mut texts: Vec<Option<&str>> = Vec::new();
    let mut wholes: Vec<Option<i64>> = Vec::new();
    let mut numbers: Vec<Option<f64>> = Vec::new();
    let mut booleans: Vec<Option<bool>> = Vec::new();
    let arrays = arrays.into_iter().map(|array| widen(name, array, &target)).collect::<Result<Vec<_>, _>>()?;
    for array in &arrays {
        match target {
            ArrowType::Utf8 => texts.extend(array.as_string::<i32>().iter()),
            ArrowType::Boolean => booleans.extend(array.as_boolean().iter()),
            ArrowType::Int64 => wholes.extend(array.as_primitive::<Int64Type>().iter()),
            _ => numbers.extend(array.as_primitive::<Float64Type>().iter()),
        }
    }
    Ok(match target {
        ArrowType::Utf8 => Column::new(name.into(), texts),
        ArrowType::Boolean => Column::new(name.into(), booleans),
        ArrowType::Int64 => Column::new(name.into(), wholes),
        _ => Column::new(name.into(), numbers),
    })
}

fn widen(name: &str, array: &ArrayRef, target: &ArrowType) -> Result<ArrayRef, StageError> {
    let failed = |error| StageError::input(format!("cannot read column `{name}`: {error}"));
    let in_utc = match array.data_type() {
        // Without a database of time zones, only times in UTC can be written.
        ArrowType::Timestamp(unit, Some(_)) => {
            Some(cast(array, &ArrowType::Timestamp(*unit, Some("+00:00".into()))).map_err(failed)?)
        }
        _ => None,
    };
    let widened = cast(in_utc.as_ref().unwrap_or(array), target).map_err(failed)?;
    // A failed cast gives null, which must not be mistaken for a missing value.
    if widened.logical_null_count() != array.logical_null_count() {
        return Err(StageError::input(format!("column `{name}` contains integers of more than 63 bits")));
    }
    Ok(widened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::file;

    // # pyarrow 25.0, pandas 3.0; run in this folder.
    // import datetime, decimal, pyarrow as pa, pyarrow.parquet as pq
    // utc = datetime.timezone.utc
    // for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
    //     pq.write_table(pa.table({
    //         "name": ["a", None, "c"],
    //         "when": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5)] * 3, pa.timestamp("us")),
    //         "there": pa.array([datetime.datetime(2020, 1, 2, 3, tzinfo=utc)] * 3, pa.timestamp("ms", "Europe/Vienna")),
    //         "day": [datetime.date(2020, 1, 2)] * 3,
    //         "cost": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-2.50")], pa.decimal128(5, 2)),
    //         "list": [[1, 2]] * 3,
    //         "bytes": [b"\xff"] * 3,
    //         "span": pa.array([1] * 3, pa.duration("s")),
    //     }), f"fixtures/{codec}.parquet", compression=codec)
    macro_rules! fixture {
        ($codec:literal) => {
            include_bytes!(concat!("fixtures/", $codec, ".parquet")).as_slice()
        };
    }

    // pq.write_table(pa.table([["a", "b"], pa.array([1, 2**64 - 1], pa.uint64()), [1, 2], [3, 4]],
    //                         names=["name", "hash", "twice", "twice"]), "fixtures/odd.parquet")
    // Found by fuzzing: the dictionary of a column is missing.
    #[test]
    fn a_damaged_file_that_the_library_panics_on_is_an_error() {
        let bytes = include_bytes!("../../../../fuzz/seeds/parquet/without-dictionary").as_slice();
        let error = read_bytes("t.parquet", bytes.to_vec(), None, &[]).unwrap_err();
        assert_eq!(error.message, "`t.parquet` is a damaged Parquet file");
        assert!(unreadable_columns(bytes.to_vec()).is_err());
    }

    #[test]
    fn columns_that_nobody_reads_never_refuse_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = fixture!("odd");
        let written = file(folder.path(), "table.parquet", bytes);
        let frame = read(&written, None).unwrap();
        assert_eq!(frame.get_column_names_owned(), ["name", "twice"]);
        assert_eq!(crate::table::integers(&frame, "twice").unwrap(), [Some(1), Some(2)]);
        assert!(read(&written, Some(&["hash"])).unwrap_err().message.contains("integers of more than 63 bits"));
        let unreadable = unreadable_columns(bytes.to_vec()).unwrap();
        assert_eq!(unreadable.len(), 2, "{unreadable:?}");
        assert!(unreadable[0].starts_with("`hash` (column `hash` contains integers"), "{unreadable:?}");
        assert_eq!(unreadable[1], "`twice` (there are several)");
    }

    #[test]
    fn tables_of_every_codec_are_read_without_the_columns_of_other_types() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [
            fixture!("none"),
            fixture!("snappy"),
            fixture!("gzip"),
            fixture!("brotli"),
            fixture!("lz4"),
            fixture!("zstd"),
        ] {
            let written = file(folder.path(), "table.parquet", bytes);
            let frame = read(&written, None).unwrap();
            assert_eq!(frame.get_column_names_owned(), ["name", "when", "there", "day", "cost"]);
            let texts = |column: &str| crate::table::strings(&frame, column).unwrap();
            assert_eq!(texts("name"), [Some("a".to_owned()), None, Some("c".to_owned())]);
            assert_eq!(texts("when")[0].as_deref(), Some("2020-01-02T03:04:05"));
            assert_eq!(texts("there")[0].as_deref(), Some("2020-01-02T03:00:00Z"));
            assert_eq!(texts("day")[0].as_deref(), Some("2020-01-02"));
            assert_eq!(crate::table::floats(&frame, "cost").unwrap(), [Some(1.25), None, Some(-2.5)]);
            let error = read(&written, Some(&["list"])).unwrap_err();
            assert!(error.message.contains("column `list` has the unsupported type List"), "{error}");
            let unreadable = unreadable_columns(bytes.to_vec()).unwrap();
            assert_eq!(unreadable.len(), 3, "{unreadable:?}");
            assert!(unreadable[0].starts_with("`list` (List"), "{unreadable:?}");
        }
    }
}
