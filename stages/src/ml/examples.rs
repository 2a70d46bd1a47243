//! The rows of a split table that training may look at: those for training and for validation, never those for testing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Input, StageError};
use serde::{Deserialize, Serialize};

use crate::{near_miss, table};

/// A class of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// The code, such as `nv`.
    pub label: String,
    /// The long name, such as `Melanocytic nevi`.
    pub name: String,
}

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weights are fitted to it.
    Training,
    /// Choices are made by it.
    Validation,
}

/// One image and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The image.
    pub image_id: String,
    /// The index of its class.
    pub class: usize,
    /// What it is for.
    pub role: Role,
}

/// The examples of a split table in the table's order, and their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examples {
    /// The examples.
    pub rows: Vec<Example>,
    /// The classes in the order of their indices.
    pub classes: Vec<Class>,
}

const COLUMNS: [&str; 5] = ["image_id", "label", "cell_type", "cell_type_idx", "split"];
const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// A row before its class is looked up.
struct Row {
    image_id: String,
    label: String,
    cell_type: String,
    index: i64,
    role: Role,
}

/// Reads the training and validation rows; of a test row only that it is one.
fn read_rows(split: &Input) -> Result<Vec<Row>, StageError> {
    let frame = table::read(split.file()?, Some(&COLUMNS))?;
    let text = |column| table::strings(&frame, column);
    let (ids, labels, names) = (text("image_id")?, text("label")?, text("cell_type")?);
    let indices = table::integers(&frame, "cell_type_idx")?;
    let mut rows = Vec::new();
    for (number, role) in text("split")?.into_iter().enumerate() {
        let role = match role.as_deref() {
            Some("train") => Role::Training,
            Some("validation") => Role::Validation,
            Some("test") => continue,
            other => return Err(unknown_split(split, number, other)),
        };
        let missing = |column| StageError::input(format!("row {} of `{}` has no `{column}`", number + 1, split.name));
        rows.push(Row {
            image_id: ids[number].clone().ok_or_else(|| missing("image_id"))?,
            label: labels[number].clone().ok_or_else(|| missing("label"))?,
            cell_type: names[number].clone().ok_or_else(|| missing("cell_type"))?,
            index: indices[number].ok_or_else(|| missing("cell_type_idx"))?,
            role,
        });
    }
    Ok(rows)
}

fn unknown_split(split: &Input, number: usize, value: Option<&str>) -> StageError {
    let value = value.unwrap_or_default();
    let error = StageError::input(format!("row {} of `{}` has the split `{value}`", number + 1, split.name));
    match near_miss::hint(value, SPLITS) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What training reads of a split table, a line per row, and the images of these rows.
pub fn view(split: &Input) -> Result<(String, BTreeSet<String>), StageError> {
    let (mut text, mut ids) = (String::new(), BTreeSet::new());
    for Row { image_id, label, cell_type, index, role } in read_rows(split)? {
        let role = match role {
            Role::Training => "train",
            Role::Validation => "validation",
        };
        writeln!(text, "{image_id}\t{label}\t{cell_type}\t{index}\t{role}").expect("a string takes everything");
        ids.insert(image_id);
    }
    Ok((text, ids))
}

impl Examples {
    /// Reads a split table. Class indices must be 0, 1, … without gaps, and every class must have a training row.
    pub fn read(split: &Input) -> Result<Self, StageError> {
        let rows = read_rows(split)?;
        let mut classes: BTreeMap<i64, Class> = BTreeMap::new();
        for row in &rows {
            let class = Class { label: row.label.clone(), name: row.cell_type.clone() };
            let known = classes.entry(row.index).or_insert_with(|| class.clone());
            if *known != class {
                return Err(StageError::input(format!(
                    "image `{}` gives the class index {} to `{}` ({}), another row to `{}` ({})",
                    row.image_id, row.index, class.label, class.name, known.label, known.name
                )));
            }
        }
        for (wanted, (index, class)) in (0..).zip(&classes) {
            if *index != wanted {
                return Err(StageError::input(format!(
                    "no training or validation row has the class index {wanted}, but `{}` has {index}",
                    class.label
                ))
                .hint("class indices count from 0 without gaps; is a class only among the test rows?"));
            }
            if !rows.iter().any(|row| row.index == *index && row.role == Role::Training) {
                return Err(StageError::input(format!("the class `{}` has no training row", class.label))
                    .hint("give the training split a larger fraction, or stratify it by class"));
            }
        }
        if classes.len() < 2 {
            return Err(StageError::input(format!("`{}` has fewer than two classes to tell apart", split.name)));
        }
        let example = |row: Row| Example {
            image_id: row.image_id,
            class: usize::try_from(row.index).expect("indices were checked to count from 0"),
            role: row.role,
        };
        Ok(Self { rows: rows.into_iter().map(example).collect(), classes: classes.into_values().collect() })
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
