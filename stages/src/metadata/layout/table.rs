//! Any table with a row per image, whose columns the parameter `columns` names.

use hamflow_stage_api::StageError;

use super::super::cases::{Cases, Cells, Diagnoses};
use super::super::role::Role;
use super::{COLUMNS, Layout, Source};

/// The layout.
pub const LAYOUT: Layout = Layout {
    name: "table",
    summary: "any CSV or Parquet table whose columns `columns` names",
    columns: COLUMNS,
    classes: None,
    fits: |source| !source.params.columns.is_empty() && !source.sheets.is_empty(),
    read,
};

/// Reads the table that has a column of classes, joined with the others.
pub fn read<'a>(layout: &'static Layout, source: &Source<'a>) -> Result<Cases<'a>, StageError> {
    let mut main = None;
    for sheet in source.sheets {
        if layout.find(Role::Dx, sheet, source.params)?.is_some() {
            main = main.or(Some(sheet));
        }
    }
    let Some(main) = main.or(source.sheets.first()) else { return Err(layout.no_table()) };
    let ids = Cells::new(main, layout.required(Role::ImageId, main, source.params)?);
    let diagnoses = Diagnoses::of(Cells::new(main, layout.required(Role::Dx, main, source.params)?));
    layout.cases(source, ids, diagnoses)
}
