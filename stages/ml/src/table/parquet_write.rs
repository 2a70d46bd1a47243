//! Writes a data frame as Parquet, with equal bytes for equal content.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use hamflow_stage_api::StageError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use polars::prelude::{Column, DataFrame, DataType};

use super::column::{booleans, floats, integers, texts};

/// Writes a table. Version, compression, row groups and the writer's name are fixed, so that equal content gives
/// equal bytes.
pub fn write(frame: &DataFrame) -> Result<Vec<u8>, StageError> {
    let mut fields = Vec::with_capacity(frame.width());
    let mut arrays = Vec::with_capacity(frame.width());
    for column in frame.columns() {
        let array = array(frame, column)?;
        // Always nullable: the schema must not depend on whether a value happens to be missing.
        fields.push(Field::new(column.name().as_str(), array.data_type().clone(), true));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let failed = |error: &dyn std::fmt::Display| StageError::bug(format!("cannot write the table: {error}"));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|error| failed(&error))?;
    let properties = WriterProperties::builder()
        // Not the library's own name and version: an update that does not change the data must not change the bytes.
        .set_created_by("hamflow".to_owned())
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(1 << 20))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(|error| failed(&error))?;
    writer.write(&batch).map_err(|error| failed(&error))?;
    writer.close().map_err(|error| failed(&error))?;
    Ok(bytes)
}

fn array(frame: &DataFrame, column: &Column) -> Result<ArrayRef, StageError> {
    let name = column.name().as_str();
    Ok(match column.dtype() {
        DataType::String => Arc::new(texts(frame, name)?.iter().collect::<StringArray>()),
        DataType::Boolean => Arc::new(BooleanArray::from(booleans(frame, name)?)),
        kind if kind.is_integer() => Arc::new(Int64Array::from(integers(frame, name)?)),
        kind if kind.is_float() => Arc::new(Float64Array::from(floats(frame, name)?)),
        kind => return Err(StageError::bug(format!("unsupported type {kind} of column `{name}`"))),
    })
}

#[cfg(test)]
mod tests {
    use hamflow_stage_api::Digest;
    use polars::prelude::df;

    use super::*;
    use crate::table::read;
    use crate::test_support::file;

    fn table() -> DataFrame {
        df!(
            "image_id" => ["ISIC_1", "ISIC_2", "ISIC_3"],
            "age" => [Some(80.0), None, Some(0.1)],
            "folder" => [0i64, 1, 1],
            "age_imputed" => [Some(true), Some(false), None],
            "sex" => [None, Some("unknown"), Some("männlich")]
        )
        .unwrap()
    }

    #[test]
    fn a_table_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let written = file(folder.path(), "table.parquet", &write(&table()).unwrap());
        assert!(read(&written, None).unwrap().equals_missing(&table()));
        let some = read(&written, Some(&["folder", "image_id"])).unwrap();
        assert!(some.equals_missing(&table().select(["folder", "image_id"]).unwrap()));
    }

    // The digest was recorded after pyarrow and polars had opened these bytes and shown the table above.
    #[test]
    fn equal_tables_have_equal_bytes() {
        let bytes = write(&table()).unwrap();
        assert_eq!(bytes, write(&table()).unwrap());
        assert_eq!(Digest::of(&bytes).short(), "f4ed583d2768");
    }

    // pl.DataFrame({"image_id": ["ISIC_1", "ISIC_2", "ISIC_3"], "age": [80.0, None, 0.1]}).write_parquet(…), polars 2.1.0,
    // which compresses with zstd.
    #[test]
    fn files_written_by_polars_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let written = file(folder.path(), "table.parquet", include_bytes!("fixtures/polars-zstd.parquet"));
        let expected = table().select(["image_id", "age"]).unwrap();
        assert!(read(&written, None).unwrap().equals_missing(&expected));
    }

    #[test]
    fn a_table_without_rows_keeps_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        let empty = table().head(Some(0));
        let written = file(folder.path(), "table.parquet", &write(&empty).unwrap());
        assert!(read(&written, None).unwrap().equals_missing(&empty));
    }

    #[test]
    fn invalid_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let written = file(folder.path(), "table.parquet", &write(&table()).unwrap());
        let error = read(&written, Some(&["ages"])).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean `age`?"));

        let other = file(folder.path(), "other.parquet", b"PAR1 not really");
        assert!(read(&other, None).unwrap_err().message.contains("`other.parquet` is not a valid Parquet file"));

        std::fs::write(&written.source, b"changed").unwrap();
        assert_eq!(read(&written, None).unwrap_err().category, hamflow_stage_api::ErrorCategory::InputChanged);
    }
}
