//! The kind `evaluate`: predicts held-out images and measures the quality of the predictions.

mod figures;
mod measure;
mod pooled;
mod predictions;
mod rows;
mod submission;

use std::collections::BTreeMap;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, Kind, KindSpec, Output, ParamError, Planning, Port, StageContext, StageError, View,
    Views, near_miss,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::measure::Evaluated;
use self::rows::Row;
use crate::artifact;
use crate::dataset::SPLITS;
use crate::json;
use crate::metric::{Scores, SplitMetrics};
use crate::ml::card::Card;
use crate::ml::classifier::Classifier;
use crate::ml::tta::VIEW_COUNTS;
use crate::plot::{Figure, grouped};
use crate::shard::ShardReader;

/// Evaluates a model. The only kind that computes metrics from test rows.
pub struct Evaluate;

/// The parameters of `evaluate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateParams {
    /// The splits to evaluate: `train`, `validation`, `test`.
    splits: Vec<String>,
    /// Number of images per forward pass. Larger batches need more memory; the results are the same.
    batch_size: usize,
    /// Number of views of each image whose probabilities are averaged (test-time augmentation): 1, 2 with the horizontal
    /// flip, 4 with both flips, 8 with quarter turns.
    #[serde(skip_serializing_if = "is_one")]
    tta: usize,
    /// Number of bootstrap resamples of the lesions for the 95 % confidence intervals; 0 for no intervals.
    bootstrap: usize,
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self { splits: vec!["validation".to_owned(), "test".to_owned()], batch_size: 64, tta: 1, bootstrap: 1000 }
    }
}

/// Parameters that came later are left out of the key at their defaults.
fn is_one(value: &usize) -> bool {
    *value == 1
}

impl EvaluateParams {
    fn check(&self) -> Result<(), ParamError> {
        if self.splits.is_empty() {
            return Err(ParamError::new("splits", "`splits` must not be empty")
                .hint("the default is `[\"validation\", \"test\"]`"));
        }
        for (i, split) in self.splits.iter().enumerate() {
            if !SPLITS.contains(&split.as_str()) {
                return Err(ParamError::new("splits", format!("unknown split `{split}`")).hint(split_hint(split)));
            }
            if self.splits[..i].contains(split) {
                return Err(ParamError::new("splits", format!("duplicate split `{split}`")));
            }
        }
        if self.batch_size == 0 {
            return Err(ParamError::new("batch_size", "`batch_size` must be at least 1"));
        }
        if !VIEW_COUNTS.contains(&self.tta) {
            return Err(ParamError::new("tta", format!("`tta` must be 1, 2, 4 or 8, not {}", self.tta)));
        }
        if self.bootstrap > 10_000 {
            return Err(ParamError::new("bootstrap", "`bootstrap` must be at most 10000")
                .hint("1000 resamples determine two digits of an interval"));
        }
        Ok(())
    }
}

/// The hint for an unknown split.
pub(crate) fn split_hint(name: &str) -> String {
    near_miss::hint(name, SPLITS).unwrap_or_else(|| format!("available: `{}`", SPLITS.join("`, `")))
}

/// Incremented whenever equal inputs produce different results.
///
/// 6: columns without values define no subgroups.
/// 5: the metrics have the decision for rare classes.
/// 4: the submission has the seven classes of the challenge, and numbers that its scorer takes.
/// 3: intervals of class means skip resamples that lack a class; subgroups are drawn by accuracy and report their
/// number of classes.
/// 2: the first numbered revision.
const REVISION: u32 = 6;

impl Kind for Evaluate {
    type Params = EvaluateParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("model", artifact::MODEL, "The model to evaluate.").unless(POOLED),
            Port::new("shards", artifact::SHARDS, "The tensors of the images.").access(Access::View).unless(POOLED),
            Port::new("split", ArtifactType::TABLE, "The table that assigns the images to splits.")
                .access(Access::View),
            Port::new(
                POOLED,
                artifact::PREDICTIONS,
                "Predictions to pool, such as those of one model per fold. No image may be in two of them.",
            )
            .optional()
            .many(),
        ];
        let summary = "Predicts the rows of some splits and computes metrics with confidence intervals.";
        KindSpec { seeded: true, ..KindSpec::new("evaluate", REVISION, summary, ports) }
    }

    fn check(&self, params: &EvaluateParams) -> Result<(), ParamError> {
        params.check()
    }

    fn outputs(&self, _params: &EvaluateParams) -> Vec<Output> {
        vec![
            Output::new("predictions", artifact::PREDICTIONS, "predictions.parquet"),
            Output::new("metrics", ArtifactType::METRICS, "metrics.json"),
            Output::new("figures", artifact::FIGURES, "figures"),
            Output::new("submission", ArtifactType::FILE, "isic_2018_submission.csv"),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<EvaluateParams>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<EvaluateParams>> {
        Some(self)
    }

    fn run(&self, params: &EvaluateParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let predicted = match context.inputs().all(POOLED) {
            [] => predict(params, context)?,
            tables => pooled::read(tables, params, context)?,
        };
        let Predicted { rows, probabilities, labels, left_out } = predicted;
        let (rows, probabilities, undefined) = drop_non_finite(rows, probabilities);
        let scores = measure(&rows, probabilities, labels.len())?;

        let predictions = predictions::frame(&rows, &scores, &labels)?;
        context.write("predictions.parquet", &crate::table::write(&predictions)?)?;
        // The folder must exist even if no split has rows to draw.
        let folder = context.output_file("figures")?;
        std::fs::create_dir_all(&folder).map_err(|source| StageError::io("create", &folder, &source))?;
        let (bootstrap, seed) = (params.bootstrap, context.seed()?);
        let evaluated = Evaluated { rows: &rows, scores: &scores, labels: &labels, resamples: bootstrap, seed };
        let (_, validation) = evaluated.split("validation")?;
        let validation = Some(validation).filter(|scores| !scores.is_empty() && !undefined.contains_key("validation"));
        let mut metrics = BTreeMap::new();
        for split in &params.splits {
            let (rows, scores) = evaluated.split(split)?;
            if let Some(UndefinedSplit { reason, truth }) = undefined.get(split) {
                context.flaw(format!("the numbers of the split `{split}` are undefined: {reason}"));
                metrics.insert(split.clone(), SplitMetrics::undefined(reason, truth, &labels));
                continue;
            }
            let mut measured = evaluated.measure(split, &rows, &scores, validation.as_ref());
            if let Some(note) = left_out.get(split) {
                measured.warnings.insert("rows".to_owned(), note.clone());
            }
            if scores.is_empty() {
                context.warn(format!("split `{split}` has no rows; its metrics are undefined"));
            } else {
                for (name, figure) in figures::of_split(split, &scores, &measured) {
                    write_figure(context, &name, &figure)?;
                }
            }
            metrics.insert(split.clone(), measured);
        }
        // The challenge is about test rows; without them, use what is available.
        let submitted = params.splits.iter().find(|split| *split == "test").unwrap_or(&params.splits[0]);
        let (rows, scores) = evaluated.split(submitted)?;
        let submission = submission::csv(&rows, scores.probabilities(), &labels);
        context.write("isic_2018_submission.csv", submission.as_bytes())?;
        context.write("metrics.json", &json::write(&metrics)?)
    }
}

/// The port for predictions in place of a model.
const POOLED: &str = "predictions";

/// Rows with their predictions, before those are measured.
struct Predicted {
    /// The rows.
    rows: Vec<Row>,
    /// The probability of each class, by row.
    probabilities: Vec<Vec<f64>>,
    /// The class labels in index order.
    labels: Vec<String>,
    /// By split, a note about rows without a prediction.
    left_out: BTreeMap<String, String>,
}

/// Predicts the rows with the model.
fn predict(params: &EvaluateParams, context: &StageContext<'_>) -> Result<Predicted, StageError> {
    let classifier = Classifier::load(context.input("model")?)?;
    let shards = ShardReader::open(context.input("shards")?)?;
    classifier.require_its_images(&shards)?;
    check_folds(&classifier, &params.splits)?;
    let labels: Vec<String> = classifier.classes().iter().map(|class| class.label.clone()).collect();
    let rows = rows::read(context.inputs(), &params.splits, classifier.card().training.fold)?;
    rows::check_classes(&rows, &labels)?;
    let (rows, left_out) = drop_missing_images(rows, &shards, context)?;
    let mut probabilities: Vec<Vec<f64>> = Vec::with_capacity(rows.len());
    for batch in rows.chunks(params.batch_size) {
        let images = batch.iter().map(|row| shards.tensor(&row.image_id)).collect::<Result<Vec<&[u8]>, _>>()?;
        probabilities.extend(classifier.probabilities(&images, params.tta, context.threads())?);
        context.progress(probabilities.len() as u64, rows.len() as u64, "images", "");
    }
    Ok(Predicted { rows, probabilities, labels, left_out })
}

impl Columns<EvaluateParams> for Evaluate {
    fn read(&self, _params: &EvaluateParams) -> Vec<(&'static str, String)> {
        ["image_id", "lesion_id", "label", "split", "cell_type_idx"].map(|column| ("split", column.to_owned())).to_vec()
    }
}

impl Views<EvaluateParams> for Evaluate {
    fn project(&self, params: &EvaluateParams, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        if !planning.inputs.all(POOLED).is_empty() {
            return rows::pooled_views(planning.inputs);
        }
        let card = planning.inputs.optional("model").map(Card::read).transpose()?;
        let fold = card.and_then(|card| card.training.fold);
        rows::views(planning.inputs, &params.splits, fold)
    }
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

/// Drops rows without an image in the shards (quarantined) and warns about them. An error if no row is left.
fn drop_missing_images(
    rows: Vec<Row>,
    shards: &ShardReader,
    context: &StageContext<'_>,
) -> Result<(Vec<Row>, BTreeMap<String, String>), StageError> {
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
    let notes: BTreeMap<String, String> = by_split
        .into_iter()
        .map(|(split, (count, first))| {
            let note = format!("skipped {count} rows of `{split}` without an image in the shards (first: `{first}`)");
            (split, note)
        })
        .collect();
    for note in notes.values() {
        context.warn(note.clone());
    }
    Ok((kept, notes))
}

/// A split with predictions that are not finite.
#[derive(Debug, PartialEq)]
struct UndefinedSplit {
    /// Why the metrics of the split are undefined.
    reason: String,
    /// The classes of all its rows.
    truth: Vec<usize>,
}

/// Drops rows with NaN or infinite predictions, which come from such weights. The metrics of their splits are undefined:
/// computed from the remaining rows, they would overestimate the model.
fn drop_non_finite(
    rows: Vec<Row>,
    probabilities: Vec<Vec<f64>>,
) -> (Vec<Row>, Vec<Vec<f64>>, BTreeMap<String, UndefinedSplit>) {
    let is_finite_row = |probabilities: &[f64]| probabilities.iter().all(|probability| probability.is_finite());
    let mut of_split: BTreeMap<String, (Vec<String>, Vec<usize>)> = BTreeMap::new();
    let mut kept = (Vec::new(), Vec::new());
    for (row, probabilities) in rows.into_iter().zip(probabilities) {
        let (without, truth) = of_split.entry(row.split.clone()).or_default();
        truth.push(row.class);
        if is_finite_row(&probabilities) {
            kept.0.push(row);
            kept.1.push(probabilities);
        } else {
            without.push(row.image_id);
        }
    }
    let undefined = of_split.into_iter().filter_map(|(split, (without, truth))| {
        let (count, all) = (grouped(without.len() as u64), grouped(truth.len() as u64));
        let first = without.first()?;
        let reason = format!("the model's answer is no number for {count} of {all} images (first: `{first}`)");
        Some((split, UndefinedSplit { reason, truth }))
    });
    let undefined = undefined.collect();
    (kept.0, kept.1, undefined)
}

fn measure(rows: &[Row], probabilities: Vec<Vec<f64>>, classes: usize) -> Result<Scores, StageError> {
    let truth = rows.iter().map(|row| row.class).collect();
    Scores::new(truth, probabilities, classes).map_err(|error| {
        let image = rows.get(error.row).map_or("?", |row| row.image_id.as_str());
        StageError::failed(format!("cannot evaluate the prediction for image `{image}`: {}", error.problem))
    })
}

fn write_figure(context: &StageContext<'_>, name: &str, figure: &Figure) -> Result<(), StageError> {
    let svg = figure.draw().map_err(|error| StageError::bug(error.problem))?;
    context.write(&format!("figures/{name}.svg"), svg.file().as_bytes())?;
    context.write(&format!("figures/{name}.json"), &figure.json())
}

#[cfg(test)]
mod tests;
