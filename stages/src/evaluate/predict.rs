//! Predictions of the rows by the model.

use std::collections::BTreeMap;

use hamflow_stage_api::{StageContext, StageError};

use super::external::External;
use super::params::EvaluateParams;
use super::population::Colours;
use super::rows::{self, Row};
use crate::ml::classifier::Classifier;
use crate::shard::ShardReader;

/// Rows with their predictions, before those are measured.
#[derive(Default)]
pub struct Predicted {
    /// The rows.
    pub rows: Vec<Row>,
    /// The probability of each class, by row.
    pub probabilities: Vec<Vec<f64>>,
    /// The class labels in index order.
    pub labels: Vec<String>,
    /// By split, a note about rows without a prediction.
    pub left_out: BTreeMap<String, String>,
    /// The colours of the images by split; empty unless there is an external test set.
    pub colours: BTreeMap<String, Colours>,
}

/// Predicts the rows with the model, and those of the external test set if there is one.
pub fn predict(params: &EvaluateParams, context: &StageContext<'_>) -> Result<Predicted, StageError> {
    let mut classifier = Classifier::load(context.input("model")?)?;
    classifier.compute_on(params.choice(), |note| context.note(note), |why| context.warn(why))?;
    let shards = ShardReader::open(context.input("shards")?)?;
    classifier.require_its_images(&shards)?;
    check_folds(&classifier, &params.splits)?;
    let labels: Vec<String> = classifier.classes().iter().map(|class| class.label.clone()).collect();
    let rows = rows::read(context.inputs(), &params.splits, classifier.card().training.fold)?;
    rows::check_classes(&rows, &labels)?;
    let mut predicted = Predicted { labels, ..Predicted::default() };
    let external = External::of(context.inputs())?;
    let mut jobs = vec![predicted.keep_there(rows, shards, context)?];
    if let Some(external) = &external {
        let shards = ShardReader::open(external.shards()?)?;
        classifier.require_its_images(&shards)?;
        jobs.push(predicted.keep_there(external.rows(&predicted.labels)?, shards, context)?);
    }
    let total = jobs.iter().map(|(rows, _)| rows.len() as u64).sum();
    for (rows, shards) in &jobs {
        for batch in rows.chunks(params.batch_size) {
            let images = batch.iter().map(|row| shards.tensor(&row.image_id)).collect::<Result<Vec<&[u8]>, _>>()?;
            predicted.probabilities.extend(classifier.probabilities(&images, params.tta, context.threads())?);
            if external.is_some() {
                for (row, image) in batch.iter().zip(images) {
                    predicted.colours.entry(row.split.clone()).or_default().add(image);
                }
            }
            context.progress(predicted.probabilities.len() as u64, total, "images", "");
        }
    }
    predicted.rows = jobs.into_iter().flat_map(|(rows, _)| rows).collect();
    Ok(predicted)
}

/// Rejects splits whose rows some members of an ensemble were trained on.
fn check_folds(classifier: &Classifier, splits: &[String]) -> Result<(), StageError> {
    let seen = splits.iter().find(|split| *split != "test");
    match seen.filter(|_| !classifier.card().training.folds.is_empty()) {
        None => Ok(()),
        Some(split) => Err(StageError::input(format!(
            "the members of the ensemble were trained on different folds, so rows of `{split}` were for training in some of them"
        ))
        .hint("set `splits = [\"test\"]`")),
    }
}

impl Predicted {
    /// Drops rows without an image in the shards (quarantined) and warns about them. An error if no row is left.
    fn keep_there(
        &mut self,
        rows: Vec<Row>,
        shards: ShardReader,
        context: &StageContext<'_>,
    ) -> Result<(Vec<Row>, ShardReader), StageError> {
        let (kept, missing): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| shards.contains(&row.image_id));
        if let (true, Some(first)) = (kept.is_empty(), missing.first()) {
            return Err(StageError::input(format!(
                "the shards contain none of the images to evaluate (first: `{}`)",
                first.image_id
            ))
            .hint("`shards` and `split` must come from the same data"));
        }
        let mut by_split: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for row in missing {
            by_split.entry(row.split).or_insert((0, row.image_id)).0 += 1;
        }
        for (split, (count, first)) in by_split {
            let note = format!("skipped {count} rows of `{split}` without an image in the shards (first: `{first}`)");
            context.warn(note.clone());
            self.left_out.insert(split, note);
        }
        Ok((kept, shards))
    }
}
