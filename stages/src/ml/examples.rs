//! The rows of a split table that training may look at: those for training and for validation, never those for testing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hamflow_stage_api::{Input, StageError};
use serde::{Deserialize, Serialize};

use crate::split::SPLITS;
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
    /// Whether a program made images among them.
    pub synthetic: bool,
    /// The images of rows that were left out.
    left_out: Vec<String>,
}

/// What is read of a split table.
pub const COLUMNS: [&str; 5] = ["image_id", "label", "cell_type", "cell_type_idx", "split"];

/// A row before its class is looked up.
struct Row {
    image_id: String,
    label: String,
    cell_type: String,
    index: i64,
    role: Role,
}

/// Reads the training and validation rows, and whether a program made images of theirs; of a test row only that it is one.
fn read_rows(split: &Input) -> Result<(Vec<Row>, bool), StageError> {
    let frame = table::read_with(split.file()?, Some(&COLUMNS), &[table::DATASET])?;
    let made = table::synthetic(&frame)?;
    let mut synthetic = false;
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
        synthetic |= made[number];
        let missing = |column| StageError::input(format!("row {} of `{}` has no `{column}`", number + 1, split.name));
        rows.push(Row {
            image_id: ids[number].clone().ok_or_else(|| missing("image_id"))?,
            label: labels[number].clone().ok_or_else(|| missing("label"))?,
            cell_type: names[number].clone().ok_or_else(|| missing("cell_type"))?,
            index: indices[number].ok_or_else(|| missing("cell_type_idx"))?,
            role,
        });
    }
    Ok((rows, synthetic))
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
    let (rows, synthetic) = read_rows(split)?;
    if synthetic {
        text.push_str("made by a program\n");
    }
    for Row { image_id, label, cell_type, index, role } in rows {
        let role = match role {
            Role::Training => "train",
            Role::Validation => "validation",
        };
        let [image, label, cell_type] = [&image_id, &label, &cell_type].map(|value| table::field(value));
        writeln!(text, "{image}\t{label}\t{cell_type}\t{index}\t{role}").expect("a string takes everything");
        ids.insert(image_id);
    }
    Ok((text, ids))
}

/// More are a mistake in the table.
const MAX_CLASSES: usize = 10_000;

/// The class of an index that no training or validation row has: its name is among the test rows, if anywhere.
pub fn unnamed_class(index: usize) -> Class {
    Class { label: format!("class-{index}"), name: "a class without training and validation rows".to_owned() }
}

impl Examples {
    /// Reads a split table, without the rows whose image is not there. A class index without a row has an
    /// [unnamed](unnamed_class) class, which nothing is learnt of.
    pub fn read(split: &Input, is_there: impl Fn(&str) -> bool) -> Result<Self, StageError> {
        let (rows, synthetic) = read_rows(split)?;
        let mut classes: BTreeMap<usize, Class> = BTreeMap::new();
        for row in &rows {
            let class = Class { label: row.label.clone(), name: row.cell_type.clone() };
            let index = usize::try_from(row.index).ok().filter(|index| *index < MAX_CLASSES).ok_or_else(|| {
                let (image, index) = (&row.image_id, row.index);
                StageError::input(format!("image `{image}` has the class index {index}; they count from 0"))
            })?;
            let known = classes.entry(index).or_insert_with(|| class.clone());
            if *known != class {
                return Err(StageError::input(format!(
                    "image `{}` gives the class index {} to `{}` ({}), another row to `{}` ({})",
                    row.image_id, row.index, class.label, class.name, known.label, known.name
                )));
            }
        }
        let (rows, left_out): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| is_there(&row.image_id));
        if !rows.iter().any(|row| row.role == Role::Training) {
            return Err(StageError::input(format!("`{}` has no training row with an image", split.name)));
        }
        let count = classes.last_key_value().map_or(0, |(last, _)| last + 1);
        let example = |row: Row| Example {
            image_id: row.image_id,
            class: usize::try_from(row.index).expect("indices were checked to count from 0"),
            role: row.role,
        };
        Ok(Self {
            rows: rows.into_iter().map(example).collect(),
            classes: (0..count).map(|index| classes.remove(&index).unwrap_or_else(|| unnamed_class(index))).collect(),
            synthetic,
            left_out: left_out.into_iter().map(|row| row.image_id).collect(),
        })
    }

    /// The images of rows that were left out.
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
