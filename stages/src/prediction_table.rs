//! The artifact `predictions`: a table with one row per image and its class probabilities.
//!
//! | column | content |
//! |---|---|
//! | `image_id` | the image |
//! | `probability_LABEL` | one per class; each row sums to 1 |
//! | `split`, `lesion_id` | texts; optional |
//! | `label`, `cell_type_idx` | the true class and its index; optional |
//!
//! `evaluate` writes all of them as Parquet. A program may write the required ones alone, also as CSV.

use std::collections::BTreeSet;

use hamflow_stage_api::{Input, StageError};

use crate::ml::examples::unnamed_class;
use crate::ml::metric::Scores;
use crate::table::Sheet;

const PROBABILITY: &str = "probability_";

/// The largest deviation of a sum of probabilities from 1. Programs that compute with 32 bits stay far below.
const SUM_TOLERANCE: f64 = 1e-3;

/// Below this deviation, probabilities are left as they are.
const EXACT: f64 = 1e-8;

/// The probabilities of a table, as any program may write it.
pub struct ProbabilityTable {
    input: String,
    sheet: Sheet,
    image: usize,
    /// The class labels, in the order of the columns.
    pub labels: Vec<String>,
    columns: Vec<usize>,
}

impl ProbabilityTable {
    /// Reads a table, Parquet or CSV.
    pub fn read(input: &Input) -> Result<Self, StageError> {
        let file = input.file()?;
        Self::parse(&input.name, &file.path, file.read()?)
    }

    /// Fails unless the bytes of the file `path` are a table with an image and valid probabilities in every row.
    pub fn check(path: &str, bytes: Vec<u8>) -> Result<(), StageError> {
        let table = Self::parse(path, path, bytes)?;
        (0..table.height()).try_for_each(|row| {
            table.image_id(row)?;
            table.probabilities(row).map(|_| ())
        })
    }

    fn parse(input: &str, path: &str, bytes: Vec<u8>) -> Result<Self, StageError> {
        let sheet = Sheet::read(path, bytes)?;
        let is_probability = |(_, name): &(usize, &String)| name.starts_with(PROBABILITY);
        let found = sheet.header.iter().enumerate().filter(is_probability);
        let (columns, labels): (Vec<usize>, Vec<String>) =
            found.map(|(column, name)| (column, name[PROBABILITY.len()..].to_owned())).unzip();
        if labels.len() < 2 {
            let has = if labels.is_empty() { "no column" } else { "only one column" };
            return Err(StageError::input(format!("`{input}` has {has} `{PROBABILITY}…`"))
                .hint("a predictions table has one column of probabilities per class, such as `probability_mel`"));
        }
        let image = sheet.column("image_id")?;
        Ok(Self { input: input.to_owned(), sheet, image, labels, columns })
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.sheet.height()
    }

    /// The image of a row.
    pub fn image_id(&self, row: usize) -> Result<&str, StageError> {
        match self.sheet.text(row, self.image) {
            "" => Err(self.error(row, &format!("{} has no `image_id`", self.sheet.row_name(row)))),
            image => Ok(image),
        }
    }

    /// The text of an optional column; `None` if the table does not have the column.
    pub fn text(&self, row: usize, column: &str) -> Result<Option<&str>, StageError> {
        Ok(self.sheet.optional_column(column)?.map(|column| self.sheet.text(row, column)))
    }

    /// The text of a column that must have one.
    fn required(&self, row: usize, column: &str) -> Result<&str, StageError> {
        let missing = || {
            StageError::input(format!("`{}` has no column `{column}`", self.input))
                .hint("connect the predictions to `evaluate`, and use its predictions")
        };
        match self.text(row, column)?.ok_or_else(missing)? {
            "" => Err(self.error(row, &format!("column `{column}` has no value in {}", self.sheet.row_name(row)))),
            text => Ok(text),
        }
    }

    /// An error about a row.
    pub fn error(&self, row: usize, message: &str) -> StageError {
        self.sheet.error(row, self.image, format!("`{}`: {message}", self.input))
    }

    /// The probabilities of a row, in the order of the labels. They are divided by their sum if that is not quite 1.
    pub fn probabilities(&self, row: usize) -> Result<Vec<f64>, StageError> {
        let mut values = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let text = self.sheet.text(row, *column);
            let value = text.parse::<f64>().ok().filter(|value| value.is_nan() || (0.0..=1.0).contains(value));
            values.push(value.ok_or_else(|| {
                let (name, row_name) = (&self.sheet.header[*column], self.sheet.row_name(row));
                let found = if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
                let message = format!("`{}`: column `{name}` of {row_name} has {found}", self.input);
                let error =
                    self.sheet.error(row, *column, format!("{message}, expected a probability between 0 and 1"));
                match text.parse::<f64>() {
                    Ok(_) => error.hint("apply the softmax if the columns are logits"),
                    Err(_) => error.hint("each class needs a probability, also one of 0"),
                }
            })?);
        }
        let sum: f64 = values.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            let message = format!("the probabilities of {} sum to {sum:.4}, expected 1", self.sheet.row_name(row));
            return Err(self.error(row, &message).hint("each row needs one probability per class"));
        }
        if (sum - 1.0).abs() > EXACT {
            values.iter_mut().for_each(|value| *value /= sum);
        }
        Ok(values)
    }
}

/// The content of a predictions table that `evaluate` wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionTable {
    /// The class labels in index order.
    pub labels: Vec<String>,
    /// The rows, in table order.
    pub rows: Vec<PredictionRow>,
}

/// The prediction for an image.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionRow {
    /// The image id.
    pub image_id: String,
    /// The lesion id.
    pub lesion_id: String,
    /// The split.
    pub split: String,
    /// The label of the true class.
    pub label: String,
    /// The index of the true class.
    pub class: usize,
    /// The probability of each class.
    pub probabilities: Vec<f64>,
}

impl PredictionTable {
    /// The splits of the rows.
    pub fn splits(input: &Input) -> Result<BTreeSet<String>, StageError> {
        let table = ProbabilityTable::read(input)?;
        (0..table.height()).map(|row| Ok(table.required(row, "split")?.to_owned())).collect()
    }

    /// Reads the rows of some splits. An error names the input and the row.
    pub fn read(input: &Input, splits: &[String]) -> Result<Self, StageError> {
        let table = ProbabilityTable::read(input)?;
        let mut rows = Vec::new();
        for row in 0..table.height() {
            let split = table.required(row, "split")?.to_owned();
            if !splits.contains(&split) {
                continue;
            }
            let (image_id, label) = (table.image_id(row)?.to_owned(), table.required(row, "label")?.to_owned());
            // A class that only test rows have is not known to the model by its label.
            let is_class = |class: usize, own: &String| *own == label || *own == unnamed_class(class).label;
            let class = table.required(row, "cell_type_idx")?.parse::<usize>().ok();
            let class = class.filter(|class| table.labels.get(*class).is_some_and(|own| is_class(*class, own)));
            let class = class.ok_or_else(|| {
                let name = &input.name;
                StageError::input(format!(
                    "`{name}` has no class `{label}` among its probabilities at its index for image `{image_id}`"
                ))
            })?;
            let lesion_id = table.required(row, "lesion_id")?.to_owned();
            rows.push(PredictionRow {
                image_id,
                lesion_id,
                split,
                label,
                class,
                probabilities: table.probabilities(row)?,
            });
        }
        Ok(Self { labels: table.labels, rows })
    }

    /// The true classes and probabilities of all rows.
    pub fn scores(&self, input: &Input) -> Result<Scores, StageError> {
        let truth = self.rows.iter().map(|row| row.class).collect();
        let probabilities = self.rows.iter().map(|row| row.probabilities.clone()).collect();
        Scores::new(truth, probabilities, self.labels.len()).map_err(|error| {
            let image = self.rows.get(error.row).map_or("?", |row| row.image_id.as_str());
            StageError::input(format!("`{}`, image `{image}`: {}", input.name, error.problem))
        })
    }
}
