//! The summary of the metadata.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::rows::Rows;
use crate::dataset::Class;
use crate::table::statistics::mean;

/// The data that is summarised.
pub struct Summary<'a> {
    /// The rows of the table.
    pub rows: &'a Rows,
    /// The classes in index order.
    pub classes: &'a [Class],
    /// The number of rows dropped for lack of an image.
    pub rows_dropped: usize,
    /// The number of images without a row.
    pub images_without_rows: usize,
}

impl Summary<'_> {
    /// The summary as JSON.
    pub fn to_json(&self) -> Value {
        let rows = self.rows;
        let lesions = rows.lesion_id.iter().collect::<BTreeSet<_>>().len();
        let classes: Vec<Value> = (0..)
            .zip(self.classes)
            .map(|(index, class)| {
                let of_class = || rows.class.iter().zip(&rows.lesion_id).filter(|(i, _)| **i == index);
                let lesions = of_class().map(|(_, lesion)| lesion).collect::<BTreeSet<_>>().len();
                let Class { label, name } = class;
                json!({"index": index, "label": label, "name": name, "rows": of_class().count(), "lesions": lesions})
            })
            .collect();
        let known = rows.age.iter().flatten().copied();
        json!({
            "rows": rows.len(),
            "lesions": lesions,
            "images_beyond_first_of_lesion": rows.len() - lesions,
            "rows_dropped": self.rows_dropped,
            "images_without_rows": self.images_without_rows,
            "rows_without_lesion": rows.without_lesion(),
            "unknown_words": rows.unknown_words(),
            "synthetic": rows.is_synthetic(),
            "classes": classes,
            "age": {
                "min": known.clone().reduce(f64::min),
                "max": known.reduce(f64::max),
                "mean": mean(&rows.age),
                "missing": nulls(&rows.age),
            },
            "nulls": {
                "lesion_id": 0,
                "image_id": 0,
                "dx": 0,
                "dx_type": nulls(&rows.dx_type),
                "age": nulls(&rows.age),
                "sex": nulls(&rows.sex),
                "localization": nulls(&rows.localization),
            },
            "counts": {
                "dx": counts(rows.class.iter().map(|&class| self.classes[class].label.as_str())),
                "dx_type": counts(rows.dx_type.iter().flatten().map(String::as_str)),
                "sex": counts(rows.sex.iter().flatten().map(String::as_str)),
                "localization": counts(rows.localization.iter().flatten().map(String::as_str)),
            },
        })
    }
}

fn nulls<T>(values: &[Option<T>]) -> usize {
    values.iter().filter(|value| value.is_none()).count()
}

fn counts<'a>(values: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts
}
