//! Predictions that are pooled from several tables, such as the out-of-fold predictions of a cross-validation.

use std::collections::BTreeMap;

use hamflow_stage_api::{Input, StageContext, StageError};

use super::rows::{self, Row};
use super::{EvaluateParams, Predicted};
use crate::dataset::SPLITS;
use crate::prediction_table::{PredictionRow, PredictionTable};

/// Reads the predictions of all tables. A row's split is that of its prediction; its attributes come from `split`.
pub fn read(tables: &[Input], params: &EvaluateParams, context: &StageContext<'_>) -> Result<Predicted, StageError> {
    let known = rows::read(context.inputs(), &SPLITS.map(str::to_owned), None)?;
    let by_image: BTreeMap<&str, &Row> = known.iter().map(|row| (row.image_id.as_str(), row)).collect();
    let mut pool = Pool { by_image: &by_image, predicted: BTreeMap::new(), labels: Vec::new() };
    for table in tables {
        pool.add(table, &params.splits)?;
    }
    let (mut rows, mut probabilities) = (Vec::new(), Vec::new());
    // In the order of the table, whatever the order of the predictions is.
    for row in &known {
        if let Some((_, prediction)) = pool.predicted.get(row.image_id.as_str()) {
            rows.push(Row { split: prediction.split.clone(), ..row.clone() });
            probabilities.push(prediction.probabilities.clone());
        }
    }
    if let Some(split) = params.splits.iter().find(|split| rows.iter().all(|row| row.split != **split)) {
        let message = format!("`predictions` have no rows of the split `{split}`");
        return Err(StageError::input(message).hint("evaluate that split, or leave it out of `splits`"));
    }
    let left_out = missing(&known, &pool, &params.splits);
    for note in left_out.values() {
        context.warn(note.clone());
    }
    Ok(Predicted { rows, probabilities, labels: pool.labels, left_out })
}

/// The predictions that were read.
struct Pool<'a> {
    by_image: &'a BTreeMap<&'a str, &'a Row>,
    /// By image id, the name of the table and the prediction.
    predicted: BTreeMap<String, (String, PredictionRow)>,
    labels: Vec<String>,
}

impl Pool<'_> {
    fn add(&mut self, input: &Input, splits: &[String]) -> Result<(), StageError> {
        let table = PredictionTable::read(input, splits)?;
        // Checks that the probabilities are probabilities.
        table.scores(input)?;
        if self.labels.is_empty() {
            self.labels.clone_from(&table.labels);
        }
        if self.labels != table.labels {
            let [ours, theirs] = [&self.labels, &table.labels].map(|labels| labels.join("`, `"));
            return Err(StageError::input(format!(
                "the classes of `{}` are `{theirs}`, but the classes of the tables before it are `{ours}`",
                input.name
            )));
        }
        for row in table.rows {
            self.check(&row, input)?;
            let (image, split) = (row.image_id.clone(), row.split.clone());
            if let Some((other, _)) = self.predicted.insert(image.clone(), (input.name.clone(), row)) {
                let error = format!("image `{image}` has two predictions, in `{other}` and in `{}`", input.name);
                return Err(StageError::input(error).hint(match split.as_str() {
                    "test" => "every fold predicts the test rows: set `splits = [\"validation\"]`, or evaluate an `ensemble` of the models on them",
                    _ => "predictions to pool must come from different folds",
                }));
            }
        }
        Ok(())
    }

    /// Fails if the image is not in the table, or with another class.
    fn check(&self, row: &PredictionRow, input: &Input) -> Result<(), StageError> {
        let hint = "`predictions` and `split` must come from the same data";
        let image = &row.image_id;
        let Some(known) = self.by_image.get(image.as_str()) else {
            let error = format!("image `{image}` of `{}` is not in the table `split`", input.name);
            return Err(StageError::input(error).hint(hint));
        };
        match (known.class, &known.label) == (row.class, &row.label) {
            true => Ok(()),
            false => Err(StageError::input(format!(
                "image `{image}` has class `{}` in `{}`, but `{}` in the table `split`",
                row.label, input.name, known.label
            ))
            .hint(hint)),
        }
    }
}

/// Notes about rows that have no prediction. The validation rows of folds are all rows outside the test split.
fn missing(known: &[Row], pool: &Pool<'_>, splits: &[String]) -> BTreeMap<String, String> {
    let is_of_folds = known
        .iter()
        .filter(|row| row.split == "train")
        .any(|row| pool.predicted.get(&row.image_id).is_some_and(|(_, prediction)| prediction.split == "validation"));
    let mut notes = BTreeMap::new();
    for split in splits {
        let belongs = |row: &&Row| match &split[..] {
            "validation" if is_of_folds => row.split != "test",
            _ => row.split == *split,
        };
        let without: Vec<&Row> =
            known.iter().filter(belongs).filter(|row| !pool.predicted.contains_key(&row.image_id)).collect();
        if let Some(first) = without.first() {
            let count = without.len();
            let note = format!("skipped {count} rows of `{split}` without a prediction (first: `{}`)", first.image_id);
            notes.insert(split.clone(), note);
        }
    }
    notes
}
