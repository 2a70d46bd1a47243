//! Tables: Parquet in and out, and the columns of a data frame as plain vectors.
//!
//! A table has columns of four types: text, whole numbers (64 bits), numbers (64 bits) and booleans; every column may have
//! nulls. Narrower types that another program wrote are widened on reading.

mod column;
mod csv;
mod parquet_read;
mod parquet_write;
pub mod statistics;

pub use column::{
    DATASET, SYNTHETIC, booleans, field, floats, has_column, integers, labels, require_column, required_integers,
    required_strings, strings, synthetic,
};
pub use csv::{Csv, Field, Row};
pub use parquet_read::{read, read_with};
pub use parquet_write::write;

use hamflow_stage_api::StageError;
use polars::prelude::{Column, DataFrame};

/// Puts columns together to a table; they must have different names and one length.
pub fn frame(columns: Vec<Column>) -> Result<DataFrame, StageError> {
    DataFrame::new_infer_height(columns)
        .map_err(|error| StageError::bug(format!("columns do not make a table: {error}")))
}

/// Adds a column at the end, or replaces the one of the same name in its place.
pub fn with_column(frame: &mut DataFrame, column: Column) -> Result<(), StageError> {
    match frame.with_column(column) {
        Ok(_) => Ok(()),
        Err(error) => Err(StageError::bug(format!("a column does not fit its table: {error}"))),
    }
}
