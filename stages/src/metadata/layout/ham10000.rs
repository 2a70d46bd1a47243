//! The layout of HAM10000 (Tschandl et al. 2018): one table with a row per image.

use super::super::declared;
use super::{COLUMNS, Layout, Source, table};

/// The layout.
pub const LAYOUT: Layout = Layout {
    name: "ham10000",
    summary: "a table with the columns of `HAM10000_metadata.csv`, of which only `image_id` and `dx` are needed",
    columns: COLUMNS,
    classes: Some(declared::ham10000),
    fits,
    read: table::read,
};

fn fits(source: &Source<'_>) -> bool {
    let has_both = |sheet: &crate::table::Sheet| sheet.find("image_id").is_some() && sheet.find("dx").is_some();
    source.params.columns.is_empty() && source.sheets.iter().any(has_both)
}
