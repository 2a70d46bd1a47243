//! Columns of a table as vectors; errors name the column and the row.

use hamflow_stage_api::{StageError, near_miss};
use polars::prelude::{Column, DataFrame, DataType, StringChunked};

use super::unknown::is_unknown;

/// Whether the table has a column of this name.
pub fn has_column(frame: &DataFrame, column: &str) -> bool {
    frame.get_column_index(column).is_some()
}

/// Whether the table has a column of this name with at least one known value.
pub fn has_values(frame: &DataFrame, column: &str) -> Result<bool, StageError> {
    Ok(has_column(frame, column)
        && match frame.column(column).map(|column| column.dtype().is_float()) {
            Ok(true) => floats(frame, column)?.iter().any(Option::is_some),
            _ => !is_missing(frame, column)? && known_labels(frame, column)?.iter().any(Option::is_some),
        })
}

/// The column with the source of an image, as in HAM10000's metadata.
pub const DATASET: &str = "dataset";

/// Its value for synthetic images.
pub const SYNTHETIC: &str = "synthetic";

/// Whether each row's image is marked as synthetic.
pub fn synthetic(frame: &DataFrame) -> Result<Vec<bool>, StageError> {
    // An unrelated column of this name is ignored.
    if !frame.column(DATASET).is_ok_and(|column| column.dtype() == &DataType::String) {
        return Ok(vec![false; frame.height()]);
    }
    Ok(strings(frame, DATASET)?.iter().map(|source| source.as_deref().is_some_and(is_synthetic)).collect())
}

/// Whether a value of the column [`DATASET`] marks a synthetic image.
pub fn is_synthetic(source: &str) -> bool {
    source.eq_ignore_ascii_case(SYNTHETIC)
}

/// Escapes a value as one field of a line, injectively.
pub fn field(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(['\\', '\t', '\n', '\r']) {
        return text.into();
    }
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r").into()
}

/// Fails if the table has no column of this name; the hint suggests the closest one.
pub fn require_column(frame: &DataFrame, column: &str) -> Result<(), StageError> {
    find(frame, column).map(|_| ())
}

/// A text column.
pub fn strings(frame: &DataFrame, column: &str) -> Result<Vec<Option<String>>, StageError> {
    Ok(texts(frame, column)?.iter().map(|value| value.map(str::to_owned)).collect())
}

/// A text column without copying its strings.
pub(super) fn texts<'a>(frame: &'a DataFrame, column: &str) -> Result<&'a StringChunked, StageError> {
    let found = typed(frame, column, "text", |kind| kind == &DataType::String)?;
    found.str().map_err(|error| unexpected(column, &error))
}

/// A column of numbers; integers are converted. NaN, which other programs write for missing values, becomes `None`.
pub fn floats(frame: &DataFrame, column: &str) -> Result<Vec<Option<f64>>, StageError> {
    if is_missing(frame, column)? {
        return Ok(vec![None; frame.height()]);
    }
    let found = typed(frame, column, "numbers", |kind| kind.is_primitive_numeric())?;
    let found = found.cast(&DataType::Float64).map_err(|error| unexpected(column, &error))?;
    let values = found.f64().map_err(|error| unexpected(column, &error))?;
    Ok(values.iter().map(|value| value.filter(|value| !value.is_nan())).collect())
}

/// A column of integers.
pub fn integers(frame: &DataFrame, column: &str) -> Result<Vec<Option<i64>>, StageError> {
    if is_missing(frame, column)? {
        return Ok(vec![None; frame.height()]);
    }
    let found = typed(frame, column, "integers", |kind| kind.is_integer())?;
    let found = found.strict_cast(&DataType::Int64).map_err(|error| unexpected(column, &error))?;
    let values = found.i64().map_err(|error| unexpected(column, &error))?;
    Ok(values.iter().collect())
}

/// A column of booleans.
pub fn booleans(frame: &DataFrame, column: &str) -> Result<Vec<Option<bool>>, StageError> {
    if is_missing(frame, column)? {
        return Ok(vec![None; frame.height()]);
    }
    let found = typed(frame, column, "booleans", |kind| kind == &DataType::Boolean)?;
    let values = found.bool().map_err(|error| unexpected(column, &error))?;
    Ok(values.iter().collect())
}

/// A column of names: text, or integers and booleans formatted as text.
pub fn labels(frame: &DataFrame, column: &str) -> Result<Vec<Option<String>>, StageError> {
    match find(frame, column)?.dtype() {
        DataType::Boolean => Ok(written(booleans(frame, column)?)),
        kind if kind.is_integer() => Ok(written(integers(frame, column)?)),
        _ => strings(frame, column),
    }
}

/// Any column, formatted as text.
pub(super) fn as_text(frame: &DataFrame, column: &str) -> Result<Vec<Option<String>>, StageError> {
    match find(frame, column)?.dtype() {
        kind if kind.is_float() => Ok(written(floats(frame, column)?)),
        _ => labels(frame, column),
    }
}

/// Like [`labels`], but words for unknown values count as missing. Not for classes, of which one may be called `unknown`.
pub fn known_labels(frame: &DataFrame, column: &str) -> Result<Vec<Option<String>>, StageError> {
    Ok(labels(frame, column)?.into_iter().map(|value| value.filter(|value| !is_unknown(value))).collect())
}

/// The names of groups whose rows belong together, such as lesions. A row without one is a group of its own, named after
/// its image.
pub fn groups(frame: &DataFrame, column: &str, image_ids: &[String]) -> Result<Groups, StageError> {
    let names = known_labels(frame, column)?;
    let unnamed = names.iter().filter(|name| name.is_none()).count();
    let named = names.into_iter().zip(image_ids);
    let names: Vec<String> = named.map(|(name, image)| name.unwrap_or_else(|| group_of_one(image))).collect();
    let alone = names.iter().zip(image_ids).filter(|(name, image)| **name == group_of_one(image)).count();
    Ok(Groups { names, unnamed, alone })
}

/// The groups of the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The name of each row's group.
    pub names: Vec<String>,
    /// The number of rows whose group the table does not have.
    pub unnamed: usize,
    /// The number of rows that are groups of their own because their group is not known: those, and the ones that
    /// `metadata` has named.
    pub alone: usize,
}

/// The warning about rows that are groups of their own; `None` if there are none.
pub fn warning_of_lone_rows(count: usize, column: &str) -> Option<String> {
    let rows = match count {
        0 => return None,
        1 => "1 row has".to_owned(),
        _ => format!("{count} rows have"),
    };
    Some(format!("{rows} no `{column}`: each counts as a group of its own"))
}

/// The name of a group that consists of one image.
pub fn group_of_one(image_id: &str) -> String {
    format!("lesion of {image_id}")
}

fn written<T: ToString>(values: Vec<Option<T>>) -> Vec<Option<String>> {
    values.into_iter().map(|value| value.map(|value| value.to_string())).collect()
}

/// A text column without nulls.
pub fn required_strings(frame: &DataFrame, column: &str) -> Result<Vec<String>, StageError> {
    required(strings(frame, column)?, column)
}

/// An integer column without nulls.
pub fn required_integers(frame: &DataFrame, column: &str) -> Result<Vec<i64>, StageError> {
    required(integers(frame, column)?, column)
}

fn required<T>(values: Vec<Option<T>>, column: &str) -> Result<Vec<T>, StageError> {
    let mut present = Vec::with_capacity(values.len());
    for (row, value) in values.into_iter().enumerate() {
        present.push(value.ok_or_else(|| {
            StageError::input(format!("column `{column}` has no value in row {} of the table", row + 1))
        })?);
    }
    Ok(present)
}

fn find<'a>(frame: &'a DataFrame, column: &str) -> Result<&'a Column, StageError> {
    frame.column(column).map_err(|_| {
        let mut error = StageError::input(format!("the table has no column `{column}`"));
        error.hint = near_miss::hint(column, frame.columns().iter().map(|column| column.name().as_str()));
        error
    })
}

/// Whether a column has rows but no value, so that its type says nothing.
fn is_missing(frame: &DataFrame, column: &str) -> Result<bool, StageError> {
    let found = find(frame, column)?;
    Ok(!found.is_empty() && found.null_count() == found.len())
}

fn typed<'a>(
    frame: &'a DataFrame,
    column: &str,
    wanted: &str,
    fits: impl Fn(&DataType) -> bool,
) -> Result<&'a Column, StageError> {
    let found = find(frame, column)?;
    if fits(found.dtype()) {
        return Ok(found);
    }
    let holds = match found.dtype() {
        DataType::String => "text".to_owned(),
        DataType::Boolean => "booleans".to_owned(),
        kind if kind.is_integer() => "integers".to_owned(),
        kind if kind.is_float() => "numbers".to_owned(),
        kind => format!("`{kind}`"),
    };
    Err(StageError::input(format!("column `{column}` contains {holds}, expected {wanted}")))
}

fn unexpected(column: &str, error: &polars::prelude::PolarsError) -> StageError {
    StageError::input(format!("cannot read column `{column}`: {error}"))
}

#[cfg(test)]
mod tests {
    use polars::prelude::df;

    use super::*;

    fn table() -> DataFrame {
        df!("image_id" => ["a", "b"], "age" => [Some(1.5), None], "n" => [Some(1i64), None]).unwrap()
    }

    #[test]
    fn columns_come_back_as_vectors() {
        assert_eq!(strings(&table(), "image_id").unwrap(), [Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!(floats(&table(), "age").unwrap(), [Some(1.5), None]);
        assert_eq!(integers(&table(), "n").unwrap(), [Some(1), None]);
        assert_eq!(floats(&table(), "n").unwrap(), [Some(1.0), None]);
        assert_eq!(required_strings(&table(), "image_id").unwrap(), ["a", "b"]);
        assert_eq!(labels(&table(), "n").unwrap(), [Some("1".to_owned()), None]);
        let nothing = df!("x" => [None::<&str>, None]).unwrap();
        assert_eq!(floats(&nothing, "x").unwrap(), [None, None]);
        assert_eq!(booleans(&nothing, "x").unwrap(), [None, None]);
    }

    #[test]
    fn unknown_groups_are_groups_of_their_own() {
        let table = df!("lesion_id" => [Some("unknown"), Some("l1"), None, Some("NA"), Some("l1")]).unwrap();
        let images = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let Groups { names, unnamed, alone } = groups(&table, "lesion_id", &images).unwrap();
        assert_eq!(names, ["lesion of a", "l1", "lesion of c", "lesion of d", "l1"]);
        assert_eq!((unnamed, alone), (3, 3));
        let named = df!("lesion_id" => names.clone()).unwrap();
        let again = groups(&named, "lesion_id", &images).unwrap();
        assert_eq!((again.names, again.unnamed, again.alone), (names, 0, 3));
        assert_eq!(labels(&table, "lesion_id").unwrap()[0].as_deref(), Some("unknown"), "it may be a class");
        assert_eq!(known_labels(&table, "lesion_id").unwrap()[0], None);
    }

    #[test]
    fn an_unknown_column_is_reported_with_the_closest_name() {
        let error = strings(&table(), "imageid").unwrap_err();
        assert_eq!(error.message, "the table has no column `imageid`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `image_id`?"));
    }

    #[test]
    fn wrong_types_and_missing_values_are_errors() {
        let error = floats(&table(), "image_id").unwrap_err();
        assert_eq!(error.message, "column `image_id` contains text, expected numbers");
        let error = required_integers(&table(), "n").unwrap_err();
        assert_eq!(error.message, "column `n` has no value in row 2 of the table");
    }
}
