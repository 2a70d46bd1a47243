//! The rows that are evaluated, and the view of the inputs that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Inputs, StageError, View};

use crate::shard;
use crate::table;

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
}

/// Reads the rows of `splits` in the order of the table.
pub fn read(inputs: &Inputs, splits: &[String]) -> Result<Vec<Row>, StageError> {
    let columns = ["image_id", "lesion_id", "label", "cell_type_idx", "split"];
    let frame = table::read(inputs.one("split")?.file()?, Some(&columns))?;
    let [image_ids, lesion_ids, labels, names] =
        ["image_id", "lesion_id", "label", "split"].map(|column| table::required_strings(&frame, column));
    let indices = table::required_integers(&frame, "cell_type_idx")?;
    let mut rows = Vec::new();
    for ((((image_id, lesion_id), label), split), index) in
        image_ids?.into_iter().zip(lesion_ids?).zip(labels?).zip(names?).zip(indices)
    {
        if splits.contains(&split) {
            let class = usize::try_from(index).map_err(|_| {
                StageError::input(format!("`cell_type_idx` of image `{image_id}` is {index}, not the index of a class"))
            })?;
            rows.push(Row { image_id, lesion_id, label, class, split });
        }
    }
    Ok(rows)
}

/// What of the table and of the shards decides the result: the rows of `splits` and the digests of their tensors.
pub fn views(inputs: &Inputs, splits: &[String]) -> Result<Vec<View>, StageError> {
    let rows = read(inputs, splits)?;
    let index = shard::read_index(inputs.one("shards")?.member(shard::INDEX_NAME)?)?;
    let digests: BTreeMap<&str, &str> = index.iter().map(|row| (row.image_id.as_str(), row.digest.as_str())).collect();
    let (mut table, mut tensors) = (String::new(), String::new());
    for Row { image_id, lesion_id, label, class, split } in &rows {
        let _ = writeln!(table, "{image_id}\t{lesion_id}\t{label}\t{class}\t{split}");
        if let Some(digest) = digests.get(image_id.as_str()) {
            let _ = writeln!(tensors, "{image_id}\t{digest}");
        }
    }
    let of = splits.join(" and ");
    Ok(vec![
        View { name: format!("image, lesion, class and split of the {of} rows"), text: table },
        View { name: format!("tensors of the {of} rows"), text: tensors },
    ])
}

/// Fails where a row's class has another index in the table than in the model.
pub fn check_classes(rows: &[Row], labels: &[String]) -> Result<(), StageError> {
    let pairs: BTreeSet<(usize, &str)> = rows.iter().map(|row| (row.class, row.label.as_str())).collect();
    for (class, label) in pairs {
        if labels.get(class).is_some_and(|of_model| of_model == label) {
            continue;
        }
        let of_model = match labels.iter().position(|of_model| of_model == label) {
            Some(index) => format!("{index} in the model"),
            None => format!("not among the model's classes, `{}`", labels.join("`, `")),
        };
        return Err(StageError::input(format!("the class `{label}` is number {class} in the table, but {of_model}"))
            .hint("`model` and `split` must come from the same table of classes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, class: usize) -> Row {
        let [image_id, lesion_id, split] = ["i", "l", "test"].map(str::to_owned);
        Row { image_id, lesion_id, label: label.to_owned(), class, split }
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
    }
}
