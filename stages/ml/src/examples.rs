//! The training and validation rows of a split table; never the test rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Input, StageError, near_miss};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{Class, SPLITS};
use crate::table;

/// The role of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Used to fit the weights.
    Training,
    /// Used for model selection.
    Validation,
}

/// An image and its class.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The image id.
    pub image_id: String,
    /// The class index.
    pub class: usize,
    /// The role.
    pub role: Role,
    /// The weight of its loss.
    pub weight: f64,
}

/// The examples of a split table in table order, and their classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// The examples.
    pub rows: Vec<Example>,
    /// The classes in index order.
    pub classes: Vec<Class>,
    /// Whether any of the images is synthetic.
    pub synthetic: bool,
    /// The image ids of skipped rows.
    left_out: Vec<String>,
}

/// The columns that are read.
pub const COLUMNS: [&str; 5] = ["image_id", "label", "cell_type", "cell_type_idx", "split"];

/// A row before its class index is validated.
struct Row {
    image_id: String,
    label: String,
    cell_type: String,
    index: i64,
    role: Role,
    weight: f64,
}

/// Weights of rows in the loss by the value of a column, such as the way of diagnosis (Gessert et al. 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowWeights {
    /// The column of the split table.
    pub column: String,
    /// The weight of each value; rows with other values have weight 1.
    pub values: BTreeMap<String, f64>,
}

/// The column of the folds of cross-validation.
pub const FOLD: &str = "fold";

/// How rows are chosen and weighted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// The weights of rows.
    pub weights: Option<&'a RowWeights>,
    /// The fold whose rows are for validation, while all other rows outside the test split are for training.
    pub fold: Option<u32>,
}

impl Selection<'_> {
    /// The columns that are read.
    pub fn columns(&self) -> Vec<&str> {
        let of_weights = self.weights.map(|weights| &weights.column[..]);
        let further = [of_weights, self.fold.map(|_| FOLD)].into_iter().flatten();
        COLUMNS.into_iter().chain(further.filter(|column| !COLUMNS.contains(column))).collect()
    }
}

/// For each row, its fold; `None` for test rows. An error if the column is missing or the fold has no rows.
pub fn folds(frame: &DataFrame, fold: u32, name: &str) -> Result<Vec<Option<u32>>, StageError> {
    let hint = "set `folds` of the split to 2 or more";
    if !table::has_column(frame, FOLD) {
        return Err(StageError::input(format!("`{name}` has no column `{FOLD}`")).hint(hint));
    }
    let folds: Vec<Option<u32>> =
        table::integers(frame, FOLD)?.into_iter().map(|fold| u32::try_from(fold?).ok()).collect();
    match folds.contains(&Some(fold)) {
        true => Ok(folds),
        false => Err(StageError::input(format!("`{name}` has no rows in fold {fold}"))
            .hint("folds are numbered from 0; `folds` of the split is their number")),
    }
}

/// Reads the training and validation rows, and whether any of them is synthetic. Of a test row, only its role is read.
fn read_rows(split: &Input, selection: Selection<'_>) -> Result<(Vec<Row>, bool), StageError> {
    let frame = table::read_with(split.file()?, Some(&selection.columns()), &[table::DATASET, FOLD])?;
    let folds = selection.fold.map(|fold| folds(&frame, fold, &split.name)).transpose()?;
    let made = table::synthetic(&frame)?;
    let mut synthetic = false;
    let text = |column| table::strings(&frame, column);
    let (ids, labels, names) = (text("image_id")?, text("label")?, text("cell_type")?);
    let indices = table::integers(&frame, "cell_type_idx")?;
    let weighted =
        selection.weights.map(|weights| Ok::<_, StageError>((text(&weights.column)?, weights))).transpose()?;
    let weight = |number: usize| {
        let (values, weights) = weighted.as_ref()?;
        weights.values.get(values[number].as_ref()?).copied()
    };
    let mut rows = Vec::new();
    for (number, role) in text("split")?.into_iter().enumerate() {
        let of_fold = folds.as_ref().map(|folds| match folds[number] == selection.fold {
            true => Role::Validation,
            false => Role::Training,
        });
        let role = match role.as_deref() {
            Some("train") => of_fold.unwrap_or(Role::Training),
            Some("validation") => of_fold.unwrap_or(Role::Validation),
            Some("test") => continue,
            other => return Err(unknown_split(split, number, other)),
        };
        synthetic |= made[number];
        let missing = |column| StageError::input(format!("row {} of `{}` has no `{column}`", number + 1, split.name));
        rows.push(Row {
            image_id: ids[number].clone().ok_or_else(|| missing("image_id"))?,
            label: labels[number].clone().ok_or_else(|| missing("label"))?,
            cell_type: names[number].clone().ok_or_else(|| missing("cell_type"))?,
            index: indices[number].ok_or_else(|| missing("cell_type_idx"))?,
            role,
            weight: weight(number).unwrap_or(1.0),
        });
    }
    Ok((rows, synthetic))
}

fn unknown_split(split: &Input, number: usize, value: Option<&str>) -> StageError {
    let value = value.unwrap_or_default();
    let error = StageError::input(format!("row {} of `{}` has the unknown split `{value}`", number + 1, split.name));
    match near_miss::hint(value, SPLITS) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The canonical text of what training reads from a split table, one line per row, and the image ids of these rows.
pub fn view(split: &Input, selection: Selection<'_>) -> Result<(String, BTreeSet<String>), StageError> {
    let (mut text, mut ids) = (String::new(), BTreeSet::new());
    let (rows, synthetic) = read_rows(split, selection)?;
    if synthetic {
        text.push_str("made by a program\n");
    }
    for Row { image_id, label, cell_type, index, role, weight } in rows {
        let role = match role {
            Role::Training => "train",
            Role::Validation => "validation",
        };
        let [image, label, cell_type] = [&image_id, &label, &cell_type].map(|value| table::field(value));
        write!(text, "{image}\t{label}\t{cell_type}\t{index}\t{role}").expect("writing to a string cannot fail");
        if weight != 1.0 {
            write!(text, "\t{weight}").expect("writing to a string cannot fail");
        }
        text.push('\n');
        ids.insert(image_id);
    }
    Ok((text, ids))
}

/// Maximum number of classes; a higher index indicates a corrupt table.
const MAX_CLASSES: usize = 10_000;

/// The placeholder for a class index without training and validation rows; the test rows, which may have its name,
/// are not read.
pub fn unnamed_class(index: usize) -> Class {
    Class { label: format!("class-{index}"), name: "a class without training and validation rows".to_owned() }
}

impl Examples {
    /// Reads a split table, skipping rows whose image is missing. A class index without rows gets a
    /// [placeholder](unnamed_class) class.
    pub fn read(split: &Input, selection: Selection<'_>, is_there: impl Fn(&str) -> bool) -> Result<Self, StageError> {
        let (rows, synthetic) = read_rows(split, selection)?;
        let mut classes: BTreeMap<usize, Class> = BTreeMap::new();
        for row in &rows {
            let class = Class { label: row.label.clone(), name: row.cell_type.clone() };
            let index = usize::try_from(row.index).ok().filter(|index| *index < MAX_CLASSES).ok_or_else(|| {
                let (image, index) = (&row.image_id, row.index);
                StageError::input(format!("image `{image}` has the invalid class index {index}"))
            })?;
            let known = classes.entry(index).or_insert_with(|| class.clone());
            if *known != class {
                return Err(StageError::input(format!(
                    "image `{}` assigns class index {} to `{}` ({}), but another row assigns it to `{}` ({})",
                    row.image_id, row.index, class.label, class.name, known.label, known.name
                )));
            }
        }
        let (rows, left_out): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| is_there(&row.image_id));
        if !rows.iter().any(|row| row.role == Role::Training) {
            return Err(StageError::input(format!("`{}` has no training rows with an image", split.name)));
        }
        let count = classes.last_key_value().map_or(0, |(last, _)| last + 1);
        let example = |row: Row| Example {
            image_id: row.image_id,
            class: usize::try_from(row.index).expect("indices were checked to be non-negative"),
            role: row.role,
            weight: row.weight,
        };
        Ok(Self {
            rows: rows.into_iter().map(example).collect(),
            classes: (0..count).map(|index| classes.remove(&index).unwrap_or_else(|| unnamed_class(index))).collect(),
            synthetic,
            left_out: left_out.into_iter().map(|row| row.image_id).collect(),
        })
    }

    /// The image ids of skipped rows.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The labels of the classes without training rows.
    pub fn classes_without_examples(&self) -> Vec<&str> {
        let indices = (0..self.classes.len()).filter(|class| self.count(*class, Role::Training) == 0);
        indices.map(|class| self.classes[class].label.as_str()).collect()
    }

    /// The examples of one role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Example> {
        self.rows.iter().filter(move |row| row.role == role)
    }

    /// The number of examples of a class in one role.
    pub fn count(&self, class: usize, role: Role) -> usize {
        self.of(role).filter(|example| example.class == class).count()
    }
}
