//! The summary of the metadata.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::role::Role;
use super::rows::{Rows, count_distinct};
use crate::dataset::Class;
use crate::table::statistics::mean;

/// The data that is summarised.
pub struct Summary<'a> {
    /// The name of the layout.
    pub layout: &'a str,
    /// The rows of the table.
    pub rows: &'a Rows<'a>,
    /// The classes in index order.
    pub classes: &'a [Class],
    /// The number of rows dropped for lack of an image.
    pub rows_dropped: usize,
    /// The number of rows that the parameters leave out.
    pub rows_excluded: usize,
    /// The number of images without a row.
    pub images_without_rows: usize,
}

/// The columns that a dataset may lack.
const OPTIONAL: [Role; 4] = [Role::DxType, Role::Age, Role::Sex, Role::Localization];

impl Summary<'_> {
    /// The summary as JSON.
    pub fn to_json(&self) -> Value {
        let rows = self.rows;
        let (lesion_of_row, lesions) = count_distinct(rows.lesions.ids.iter().map(AsRef::as_ref));
        json!({
            "layout": self.layout,
            "rows": rows.len(),
            "lesions": lesions,
            "images_beyond_first_of_lesion": rows.len() - lesions,
            "rows_dropped": self.rows_dropped,
            "rows_excluded": self.rows_excluded,
            "images_without_rows": self.images_without_rows,
            "rows_without_lesion": rows.lesions.alone,
            "smaller_copies": rows.lesions.copies,
            "groups": if rows.lesions.are_patients { "patients" } else { "lesions" },
            "unknown_words": rows.unknown,
            "synthetic": rows.is_synthetic(),
            "classes": self.class_counts(&lesion_of_row),
            "absent": OPTIONAL.into_iter().filter(|role| self.nulls(*role).is_none()).map(Role::name).collect::<Vec<_>>(),
            "age": self.ages(),
            "nulls": self.all_nulls(),
            "counts": self.counts(),
        })
    }

    fn class_counts(&self, lesion_of_row: &[u32]) -> Value {
        let mut pairs: Vec<(u32, u32)> = self.rows.class.iter().copied().zip(lesion_of_row.iter().copied()).collect();
        pairs.sort_unstable();
        let rows_of =
            |class: u32| pairs.partition_point(|pair| pair.0 <= class) - pairs.partition_point(|pair| pair.0 < class);
        let mut lesions_of = vec![0; self.classes.len()];
        for (class, _) in pairs.chunk_by(|a, b| a == b).map(|same| same[0]) {
            lesions_of[class as usize] += 1;
        }
        let each = (0u32..).zip(self.classes).zip(lesions_of).map(|((index, Class { label, name }), lesions)| {
            json!({"index": index, "label": label, "name": name, "rows": rows_of(index), "lesions": lesions})
        });
        each.collect()
    }

    /// The number of rows without a value of a column; `None` if the dataset does not have it.
    fn nulls(&self, role: Role) -> Option<usize> {
        match role {
            Role::Age => self.rows.age.as_ref().map(|ages| ages.iter().filter(|age| age.is_none()).count()),
            _ => self.rows.words.get(&role).map(|words| words.nulls()),
        }
    }

    fn all_nulls(&self) -> Value {
        let mut nulls: Map<String, Value> =
            ["lesion_id", "image_id", "dx"].map(|column| (column.to_owned(), json!(0))).into_iter().collect();
        for role in OPTIONAL {
            if let Some(count) = self.nulls(role) {
                nulls.insert(role.name().to_owned(), json!(count));
            }
        }
        Value::Object(nulls)
    }

    fn ages(&self) -> Value {
        let Some(ages) = &self.rows.age else { return Value::Null };
        let known = ages.iter().flatten().copied();
        json!({
            "min": known.clone().reduce(f64::min),
            "max": known.reduce(f64::max),
            "mean": mean(ages),
            "missing": self.nulls(Role::Age),
        })
    }

    fn counts(&self) -> Value {
        let mut of_class = vec![0usize; self.classes.len()];
        self.rows.class.iter().for_each(|class| of_class[*class as usize] += 1);
        let labels = self.classes.iter().map(|class| class.label.as_str());
        let dx: BTreeMap<&str, usize> = labels.zip(of_class).filter(|(_, count)| *count > 0).collect();
        let mut counts = Map::from_iter([("dx".to_owned(), json!(dx))]);
        for role in OPTIONAL.into_iter().filter(|role| *role != Role::Age) {
            if let Some(words) = self.rows.words.get(&role) {
                counts.insert(role.name().to_owned(), json!(words.occurring().collect::<BTreeMap<_, _>>()));
            }
        }
        Value::Object(counts)
    }
}
