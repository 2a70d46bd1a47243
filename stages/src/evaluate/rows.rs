//! The evaluated rows, and the views of the inputs that they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Inputs, StageError, View};
use polars::prelude::DataFrame;

use crate::dataset::SPLITS;
use crate::ml::examples::{self, unnamed_class};
use crate::shard;
use crate::table;

/// The columns that define subgroups, if the table has values in them.
pub const ATTRIBUTES: [&str; 4] = ["sex", "age", "localization", "dx_type"];

/// The placeholder for missing values.
const UNKNOWN: &str = "unknown";

/// A row to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The image id.
    pub image_id: String,
    /// The lesion id.
    pub lesion_id: String,
    /// The class label.
    pub label: String,
    /// The class index.
    pub class: usize,
    /// The split.
    pub split: String,
    /// The values of the columns in [`ATTRIBUTES`] that have any; ages as bands.
    pub attributes: BTreeMap<&'static str, String>,
    /// Whether the image is synthetic.
    pub synthetic: bool,
}

/// Reads the rows of `splits` in table order. With a fold, its rows are the validation split, and all others outside the
/// test split the training split.
pub fn read(inputs: &Inputs, splits: &[String], fold: Option<u32>) -> Result<Vec<Row>, StageError> {
    let table = inputs.one("split")?;
    let frame = table::read(table.file()?, None)?;
    let folds = fold.map(|fold| examples::folds(&frame, fold, &table.name)).transpose()?;
    of_frame(&frame, splits, fold.zip(folds))
}

/// The rows of a table, with the fold of each row if there is one.
pub fn of_frame(
    frame: &DataFrame,
    splits: &[String],
    folds: Option<(u32, Vec<Option<u32>>)>,
) -> Result<Vec<Row>, StageError> {
    let [image_ids, labels, names] =
        ["image_id", "label", "split"].map(|column| table::required_strings(frame, column));
    let image_ids = image_ids?;
    let lesion_ids = table::groups(frame, "lesion_id", &image_ids)?.names;
    let indices = table::required_integers(frame, "cell_type_idx")?;
    let attributes = attributes(frame)?;
    let made = table::synthetic(frame)?;
    let mut rows = Vec::new();
    for (place, ((((image_id, lesion_id), label), split), index)) in
        image_ids.into_iter().zip(lesion_ids).zip(labels?).zip(names?).zip(indices).enumerate()
    {
        let split = match &folds {
            Some((fold, folds)) if split != "test" => {
                if folds[place] == Some(*fold) { "validation" } else { "train" }.to_owned()
            }
            _ => split,
        };
        if splits.contains(&split) {
            let class = usize::try_from(index).map_err(|_| {
                StageError::input(format!("`cell_type_idx` of image `{image_id}` must be a class index, not {index}"))
            })?;
            let attributes = attributes.iter().map(|(name, values)| (*name, values[place].clone())).collect();
            rows.push(Row { image_id, lesion_id, label, class, split, attributes, synthetic: made[place] });
        }
    }
    Ok(rows)
}

/// The values of the available attributes, by row.
fn attributes(frame: &DataFrame) -> Result<Vec<(&'static str, Vec<String>)>, StageError> {
    let mut found = Vec::new();
    for name in ATTRIBUTES {
        if table::has_values(frame, name)? {
            found.push((name, if name == "age" { age_bands(frame)? } else { values(frame, name)? }));
        }
    }
    Ok(found)
}

fn values(frame: &DataFrame, column: &str) -> Result<Vec<String>, StageError> {
    let values = table::known_labels(frame, column)?.into_iter();
    Ok(values.map(|value| value.unwrap_or_else(|| UNKNOWN.to_owned())).collect())
}

/// The age bands. Imputed ages count as unknown.
fn age_bands(frame: &DataFrame) -> Result<Vec<String>, StageError> {
    let ages = table::floats(frame, "age")?;
    let imputed = if table::has_column(frame, "age_imputed") {
        table::booleans(frame, "age_imputed")?
    } else {
        vec![None; ages.len()]
    };
    let band = |(age, imputed): (Option<f64>, Option<bool>)| match age.filter(|_| imputed != Some(true)) {
        None => UNKNOWN,
        Some(age) if age < 30.0 => "0 to 29",
        Some(age) if age < 45.0 => "30 to 44",
        Some(age) if age < 60.0 => "45 to 59",
        Some(age) if age < 75.0 => "60 to 74",
        Some(_) => "75 and over",
    };
    Ok(ages.into_iter().zip(imputed).map(|row| band(row).to_owned()).collect())
}

/// The views that determine the result: the rows of `splits` and the digests of their tensors.
pub fn views(inputs: &Inputs, splits: &[String], fold: Option<u32>) -> Result<Vec<View>, StageError> {
    let rows = read(inputs, splits, fold)?;
    let index = shard::read_index(inputs.one("shards")?.member(shard::INDEX_NAME)?)?;
    let digests: BTreeMap<&str, &str> = index.iter().map(|row| (row.image_id.as_str(), row.digest.as_str())).collect();
    let mut tensors = String::new();
    for row in &rows {
        if let Some(digest) = digests.get(row.image_id.as_str()) {
            let _ = writeln!(tensors, "{}\t{digest}", table::field(&row.image_id));
        }
    }
    let of = splits.join(" and ");
    Ok(vec![
        View { name: format!("image, lesion, class, split and attributes of the {of} rows"), text: text(&rows) },
        View { name: format!("tensors of the {of} rows"), text: tensors },
    ])
}

/// The views that determine the result of pooled predictions, beside those: the rows of every split.
pub fn pooled_views(inputs: &Inputs) -> Result<Vec<View>, StageError> {
    let rows = read(inputs, &SPLITS.map(str::to_owned), None)?;
    Ok(vec![View { name: "image, lesion, class, split and attributes of the rows".to_owned(), text: text(&rows) }])
}

/// One line per row.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for Row { image_id, lesion_id, label, class, split, attributes, synthetic } in rows {
        let [image, lesion, label] = [image_id, lesion_id, label].map(|value| table::field(value));
        let _ = write!(text, "{image}\t{lesion}\t{label}\t{class}\t{split}");
        for (name, value) in attributes {
            let _ = write!(text, "\t{name}={}", table::field(value));
        }
        text.push_str(if *synthetic { "\tmade by a program\n" } else { "\n" });
    }
    text
}

/// Fails if a class has a different index in the table than in the model.
pub fn check_classes(rows: &[Row], labels: &[String]) -> Result<(), StageError> {
    let pairs: BTreeSet<(usize, &str)> = rows.iter().map(|row| (row.class, row.label.as_str())).collect();
    for (class, label) in pairs {
        // The model was not trained on classes that only occur in test rows. Its predictions for them are wrong, and
        // are measured as such.
        let unnamed = unnamed_class(class).label;
        if labels.get(class).is_some_and(|of_model| of_model == label || *of_model == unnamed) {
            continue;
        }
        let of_model = match labels.iter().position(|of_model| of_model == label) {
            Some(index) => format!("{index} in the model"),
            None => format!("not among the model's classes, `{}`", labels.join("`, `")),
        };
        return Err(StageError::input(format!("class `{label}` has index {class} in the table, but {of_model}"))
            .hint(match class < labels.len() {
                true => "`model` and `split` must come from the same table of classes",
                false => "no training or validation row has this class: change the seed of `split`, or remove it from `classes`",
            }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polars::prelude::Column;

    use super::*;

    fn row(label: &str, class: usize) -> Row {
        let [image_id, lesion_id, split] = ["i", "l", "test"].map(str::to_owned);
        Row {
            image_id,
            lesion_id,
            label: label.to_owned(),
            class,
            split,
            attributes: BTreeMap::new(),
            synthetic: false,
        }
    }

    #[test]
    fn a_class_whose_index_differs_from_the_model_is_an_error() {
        let labels = ["akiec".to_owned(), "bcc".to_owned()];
        assert_eq!(check_classes(&[row("akiec", 0), row("bcc", 1)], &labels), Ok(()));
        let error = check_classes(&[row("bcc", 0)], &labels).unwrap_err();
        assert_eq!(error.message, "class `bcc` has index 0 in the table, but 1 in the model");
        let error = check_classes(&[row("nv", 2)], &labels).unwrap_err();
        assert_eq!(
            error.message,
            "class `nv` has index 2 in the table, but not among the model's classes, `akiec`, `bcc`"
        );
        assert!(error.hint.unwrap().starts_with("no training or validation row has this class"));
    }

    #[test]
    fn ages_are_put_into_bands_except_imputed_ones() {
        let ages =
            Column::new("age".into(), vec![Some(0.0), Some(29.5), Some(30.0), Some(85.0), Some(f64::NAN), Some(51.9)]);
        let imputed = Column::new("age_imputed".into(), vec![false, false, false, false, false, true]);
        let sexes = Column::new("sex".into(), vec![Some("female"), None, Some("male"), None, None, None]);
        let frame = table::frame(vec![ages, imputed, sexes]).unwrap();
        let found = attributes(&frame).unwrap();
        assert_eq!(
            found[0],
            ("sex", ["female", "unknown", "male", "unknown", "unknown", "unknown"].map(str::to_owned).to_vec())
        );
        let bands = ["0 to 29", "0 to 29", "30 to 44", "75 and over", "unknown", "unknown"];
        assert_eq!(found[1], ("age", bands.map(str::to_owned).to_vec()));
        assert_eq!(found.len(), 2);
    }
}
