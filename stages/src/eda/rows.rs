//! The explored rows.

use std::collections::BTreeMap;

use hamflow_stage_api::{Input, StageError};

use crate::table;

/// The placeholder for missing values.
pub const UNKNOWN: &str = "unknown";

/// The explored columns of the table.
pub struct Rows {
    /// The image ids.
    pub image_ids: Vec<String>,
    /// The lesion ids.
    pub lesion_ids: Vec<String>,
    /// The class indices.
    pub classes: Vec<usize>,
    /// Labels and names of the classes, in index order.
    pub names: Vec<(String, String)>,
    /// The sex of the patient; missing values are `unknown`. `None` if the dataset does not have it, as for those below.
    pub sexes: Option<Vec<String>>,
    /// The method of diagnosis; missing values are `unknown`.
    pub ways: Option<Vec<String>>,
    /// The body site; missing values are `unknown`.
    pub sites: Option<Vec<String>>,
    /// The age in years.
    pub ages: Option<Vec<Option<f64>>>,
}

/// The columns that are read.
pub const COLUMNS: [&str; 5] = ["image_id", "lesion_id", "label", "cell_type", "cell_type_idx"];

/// The columns that a table may lack, or have without values.
const OPTIONAL: [&str; 4] = ["sex", "dx_type", "localization", "age"];

impl Rows {
    /// Reads the columns; a missing column is an error.
    pub fn read(input: &Input) -> Result<Self, StageError> {
        let frame = table::read_with(input.file()?, Some(&COLUMNS), &OPTIONAL)?;
        let texts = |column: &str| table::required_strings(&frame, column);
        let named = |column: &str| -> Result<Option<Vec<String>>, StageError> {
            if !table::has_values(&frame, column)? {
                return Ok(None);
            }
            let values = table::known_labels(&frame, column)?.into_iter();
            Ok(Some(values.map(|value| value.unwrap_or_else(|| UNKNOWN.to_owned())).collect()))
        };
        let image_ids = texts("image_id")?;
        let indices = table::required_integers(&frame, "cell_type_idx")?;
        let classes: Vec<usize> = indices
            .iter()
            .zip(&image_ids)
            .map(|(index, image_id)| {
                usize::try_from(*index).map_err(|_| {
                    StageError::input(format!(
                        "`cell_type_idx` of image `{image_id}` must be a class index, not {index}"
                    ))
                })
            })
            .collect::<Result<_, _>>()?;
        let mut names: BTreeMap<usize, (String, String)> = BTreeMap::new();
        for ((class, label), name) in classes.iter().zip(texts("label")?).zip(texts("cell_type")?) {
            names.entry(*class).or_insert((label, name));
        }
        let count = names.keys().next_back().map_or(0, |last| last + 1);
        let name =
            |class: usize| names.get(&class).cloned().unwrap_or_else(|| (format!("class {class}"), String::new()));
        Ok(Self {
            lesion_ids: table::groups(&frame, "lesion_id", &image_ids)?.names,
            names: (0..count).map(name).collect(),
            sexes: named("sex")?,
            ways: named("dx_type")?,
            sites: named("localization")?,
            ages: table::has_values(&frame, "age")?.then(|| table::floats(&frame, "age")).transpose()?,
            image_ids,
            classes,
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.image_ids.len()
    }

    /// The index of each lesion's first row, in table order.
    pub fn first_of_lesions(&self) -> Vec<usize> {
        let mut seen = std::collections::BTreeSet::new();
        (0..self.len()).filter(|place| seen.insert(&self.lesion_ids[*place])).collect()
    }
}

/// The distinct values, most frequent first, `unknown` last; ties by name.
pub fn by_frequency(values: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut order: Vec<(&str, usize)> = counts.into_iter().collect();
    order.sort_by(|a, b| (a.0 == UNKNOWN).cmp(&(b.0 == UNKNOWN)).then(b.1.cmp(&a.1)).then(a.0.cmp(b.0)));
    order.into_iter().map(|(value, _)| value.to_owned()).collect()
}
