//! Predictions of several models for the same rows.

use std::collections::BTreeMap;

use hamflow_stage_api::{Input, StageError};

use crate::ml::metric::Scores;
use crate::prediction_table::PredictionTable;

/// The predictions of all models for the same rows.
pub struct PairedPredictions {
    /// The class labels in index order.
    pub labels: Vec<String>,
    /// The lesion of each row.
    pub lesions: Vec<String>,
    /// The scores of each model, in the order of `lesions`.
    pub scores: Vec<Scores>,
}

impl PairedPredictions {
    /// Reads the rows of a split and brings their rows into the order of the first.
    pub fn read(split: &str, inputs: &[Input]) -> Result<Self, StageError> {
        let splits = &[split.to_owned()];
        let tables: Vec<PredictionTable> =
            inputs.iter().map(|input| PredictionTable::read(input, splits)).collect::<Result<_, _>>()?;
        let (Some(first), Some(reference)) = (tables.first(), inputs.first()) else {
            return Err(StageError::input("a comparison needs the predictions of at least one model"));
        };
        if first.rows.is_empty() {
            let message = format!("`{}` has no predictions of the split `{}`", reference.name, split);
            return Err(StageError::input(message).hint("evaluate that split, or set `split`"));
        }
        let images: Vec<&str> = first.rows.iter().map(|row| row.image_id.as_str()).collect();
        let lesions = first.rows.iter().map(|row| row.lesion_id.clone()).collect();
        let mut scores = Vec::new();
        for (input, table) in inputs.iter().zip(&tables) {
            let table = in_order(table, &images, first, [&input.name, &reference.name])?;
            scores.push(table.scores(input)?);
        }
        Ok(Self { labels: first.labels.clone(), lesions, scores })
    }
}

/// The rows of a table in the order of `images`. Fails unless both tables have the same images, classes and labels.
fn in_order(
    table: &PredictionTable,
    images: &[&str],
    first: &PredictionTable,
    [name, reference]: [&str; 2],
) -> Result<PredictionTable, StageError> {
    if table.labels != first.labels {
        let (of, others) = (table.labels.join("`, `"), first.labels.join("`, `"));
        return Err(StageError::input(format!("`{name}` has the classes `{of}`, but `{reference}` has `{others}`")));
    }
    let mut by_image = BTreeMap::new();
    for row in &table.rows {
        if by_image.insert(row.image_id.as_str(), row).is_some() {
            return Err(StageError::input(format!("`{name}` has two predictions for image `{}`", row.image_id)));
        }
    }
    let other_rows = |image: &str, [with, without]: [&str; 2]| {
        StageError::input(format!("`{with}` has a prediction for image `{image}`, but `{without}` has none"))
            .hint("evaluate all models on the same split")
    };
    let mut rows = Vec::with_capacity(images.len());
    for (image, expected) in images.iter().zip(&first.rows) {
        let row = by_image.remove(image).ok_or_else(|| other_rows(image, [reference, name]))?;
        if row.class != expected.class {
            let (class, other) = (&row.label, &expected.label);
            let message = format!("image `{image}` is `{class}` in `{name}`, but `{other}` in `{reference}`");
            return Err(StageError::input(message));
        }
        rows.push(row.clone());
    }
    match by_image.keys().next() {
        Some(image) => Err(other_rows(image, [name, reference])),
        None => Ok(PredictionTable { labels: table.labels.clone(), rows }),
    }
}
