//! The rows that are evaluated, and the view of the inputs that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Inputs, StageError, View};
use polars::prelude::DataFrame;

use crate::ml::examples::unnamed_class;
use crate::shard;
use crate::table;

/// The columns whose values make parts that are measured alone, where the table has them.
pub const ATTRIBUTES: [&str; 4] = ["sex", "age", "localization", "dx_type"];

/// What stands for a value that is not there.
const UNKNOWN: &str = "unknown";

/// A row to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The image.
    pub image_id: String,
    /// The lesion that it shows.
    pub lesion_id: String,
    /// The label of its class.
    pub label: String,
    /// The index of its class.
    pub class: usize,
    /// The split that it is in.
    pub split: String,
    /// The values of those of [`ATTRIBUTES`] that the table has; of ages the band.
    pub attributes: BTreeMap<&'static str, String>,
    /// Whether a program made the image.
    pub synthetic: bool,
}

/// Reads the rows of `splits` in the order of the table.
pub fn read(inputs: &Inputs, splits: &[String]) -> Result<Vec<Row>, StageError> {
    let frame = table::read(inputs.one("split")?.file()?, None)?;
    let [image_ids, lesion_ids, labels, names] =
        ["image_id", "lesion_id", "label", "split"].map(|column| table::required_strings(&frame, column));
    let indices = table::required_integers(&frame, "cell_type_idx")?;
    let attributes = attributes(&frame)?;
    let made = table::synthetic(&frame)?;
    let mut rows = Vec::new();
    for (place, ((((image_id, lesion_id), label), split), index)) in
        image_ids?.into_iter().zip(lesion_ids?).zip(labels?).zip(names?).zip(indices).enumerate()
    {
        if splits.contains(&split) {
            let class = usize::try_from(index).map_err(|_| {
                StageError::input(format!("`cell_type_idx` of image `{image_id}` is {index}, not the index of a class"))
            })?;
            let attributes = attributes.iter().map(|(name, values)| (*name, values[place].clone())).collect();
            rows.push(Row { image_id, lesion_id, label, class, split, attributes, synthetic: made[place] });
        }
    }
    Ok(rows)
}

/// The values of the attributes that the table has, by row.
fn attributes(frame: &DataFrame) -> Result<Vec<(&'static str, Vec<String>)>, StageError> {
    let there = ATTRIBUTES.into_iter().filter(|name| table::has_column(frame, name));
    there.map(|name| Ok((name, if name == "age" { age_bands(frame)? } else { values(frame, name)? }))).collect()
}

fn values(frame: &DataFrame, column: &str) -> Result<Vec<String>, StageError> {
    let values = table::labels(frame, column)?.into_iter();
    Ok(values.map(|value| value.unwrap_or_else(|| UNKNOWN.to_owned())).collect())
}

/// Ages that were filled in are as unknown as they were before.
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

/// What of the table and of the shards decides the result: the rows of `splits` and the digests of their tensors.
pub fn views(inputs: &Inputs, splits: &[String]) -> Result<Vec<View>, StageError> {
    let rows = read(inputs, splits)?;
    let index = shard::read_index(inputs.one("shards")?.member(shard::INDEX_NAME)?)?;
    let digests: BTreeMap<&str, &str> = index.iter().map(|row| (row.image_id.as_str(), row.digest.as_str())).collect();
    let (mut text, mut tensors) = (String::new(), String::new());
    for Row { image_id, lesion_id, label, class, split, attributes, synthetic } in &rows {
        let [image, lesion, label] = [image_id, lesion_id, label].map(|value| table::field(value));
        let _ = write!(text, "{image}\t{lesion}\t{label}\t{class}\t{split}");
        for (name, value) in attributes {
            let _ = write!(text, "\t{name}={}", table::field(value));
        }
        text.push_str(if *synthetic { "\tmade by a program\n" } else { "\n" });
        if let Some(digest) = digests.get(image_id.as_str()) {
            let _ = writeln!(tensors, "{image}\t{digest}");
        }
    }
    let of = splits.join(" and ");
    Ok(vec![
        View { name: format!("image, lesion, class, split and attributes of the {of} rows"), text },
        View { name: format!("tensors of the {of} rows"), text: tensors },
    ])
}

/// Fails where a row's class has another index in the table than in the model.
pub fn check_classes(rows: &[Row], labels: &[String]) -> Result<(), StageError> {
    let pairs: BTreeSet<(usize, &str)> = rows.iter().map(|row| (row.class, row.label.as_str())).collect();
    for (class, label) in pairs {
        // Nothing was learnt of a class that only test rows have, and its answers are wrong: that is to be measured.
        let unlearnt = unnamed_class(class).label;
        if labels.get(class).is_some_and(|of_model| of_model == label || *of_model == unlearnt) {
            continue;
        }
        let of_model = match labels.iter().position(|of_model| of_model == label) {
            Some(index) => format!("{index} in the model"),
            None => format!("not among the model's classes, `{}`", labels.join("`, `")),
        };
        return Err(StageError::input(format!("the class `{label}` is number {class} in the table, but {of_model}"))
            .hint(match class < labels.len() {
                true => "`model` and `split` must come from the same table of classes",
                false => "no row that the model was trained or chosen by was of it: another seed of `split`, or fewer `classes`, changes that",
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
    fn a_class_with_another_index_than_in_the_model_is_an_error() {
        let labels = ["akiec".to_owned(), "bcc".to_owned()];
        assert_eq!(check_classes(&[row("akiec", 0), row("bcc", 1)], &labels), Ok(()));
        let error = check_classes(&[row("bcc", 0)], &labels).unwrap_err();
        assert_eq!(error.message, "the class `bcc` is number 0 in the table, but 1 in the model");
        let error = check_classes(&[row("nv", 2)], &labels).unwrap_err();
        assert_eq!(
            error.message,
            "the class `nv` is number 2 in the table, but not among the model's classes, `akiec`, `bcc`"
        );
        assert!(error.hint.unwrap().starts_with("no row that the model was trained or chosen by"));
    }

    #[test]
    fn ages_fall_into_bands_and_filled_in_ones_into_none() {
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
