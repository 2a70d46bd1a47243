//! Tables: Parquet input and output, and the columns of a data frame as plain vectors.
//!
//! A table has columns of four types, all nullable: text, 64-bit integers, 64-bit floats and booleans. Narrower types
//! of other programs are widened on reading.

mod column;
mod csv;
mod fields;
mod parquet_read;
mod parquet_write;
mod sheet;
pub mod statistics;
mod unknown;

pub use column::{
    DATASET, Groups, SYNTHETIC, booleans, field, floats, group_of_one, groups, has_column, has_values, integers,
    is_synthetic, known_labels, labels, require_column, required_integers, required_strings, strings, synthetic,
    warning_of_lone_rows,
};
pub use parquet_read::{read, read_bytes, read_with, unreadable_columns};
pub use parquet_write::write;
pub use sheet::{Sheet, Source};
pub use unknown::is_unknown;

use hamflow_stage_api::StageError;
use polars::prelude::{Column, DataFrame};

/// Builds a table from columns, which must have distinct names and the same length.
pub fn frame(columns: Vec<Column>) -> Result<DataFrame, StageError> {
    DataFrame::new_infer_height(columns)
        .map_err(|error| StageError::bug(format!("cannot build a table from the columns: {error}")))
}

/// Appends a column, or replaces the one of the same name in place.
pub fn with_column(frame: &mut DataFrame, column: Column) -> Result<(), StageError> {
    match frame.with_column(column) {
        Ok(_) => Ok(()),
        Err(error) => Err(StageError::bug(format!("cannot add a column to the table: {error}"))),
    }
}
