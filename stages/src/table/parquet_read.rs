//! Reads Parquet into a data frame.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchReader};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Float64Type, Int64Type};
use bytes::Bytes;
use hamflow_stage_api::{InputFile, StageError, near_miss};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use polars::prelude::{Column, DataFrame};

/// Reads a table, or some of its columns in the given order, after verifying the digest.
pub fn read(file: &InputFile, columns: Option<&[&str]>) -> Result<DataFrame, StageError> {
    read_with(file, columns, &[])
}

/// Reads some columns, and optional ones if they exist.
pub fn read_with(file: &InputFile, columns: Option<&[&str]>, optional: &[&str]) -> Result<DataFrame, StageError> {
    let bytes = Bytes::from(file.read()?);
    let damaged = |error: &dyn std::fmt::Display| {
        StageError::input(format!("`{}` is not a valid Parquet file: {error}", file.path))
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| damaged(&error))?;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let (mask, wanted) = match columns {
        None => (ProjectionMask::all(), names.clone()),
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
    let columns = wanted.iter().map(|name| column(name, &batches)).collect::<Result<Vec<_>, _>>()?;
    DataFrame::new(rows, columns).map_err(|error| damaged(&error))
}

fn column(name: &str, batches: &[RecordBatch]) -> Result<Column, StageError> {
    let arrays: Vec<&ArrayRef> = batches.iter().filter_map(|batch| batch.column_by_name(name)).collect();
    let found = arrays.first().map_or(&ArrowType::Null, |array| array.data_type());
    let kind = match found {
        ArrowType::Dictionary(_, values) => values.as_ref(),
        kind => kind,
    };
    let target = match kind {
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View | ArrowType::Null => ArrowType::Utf8,
        ArrowType::Boolean => ArrowType::Boolean,
        kind if kind.is_integer() => ArrowType::Int64,
        kind if kind.is_floating() => ArrowType::Float64,
        kind => {
            return Err(StageError::input(format!("column `{name}` has the unsupported type {kind}"))
                .hint("supported types are text, integers, floats and booleans"));
        }
    };
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
    let widened =
        cast(array, target).map_err(|error| StageError::input(format!("cannot read column `{name}`: {error}")))?;
    // A failed cast gives null, which must not be mistaken for a missing value.
    if widened.logical_null_count() != array.logical_null_count() {
        return Err(StageError::input(format!("column `{name}` contains integers of more than 63 bits")));
    }
    Ok(widened)
}
