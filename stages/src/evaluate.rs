//! The kind `evaluate`: predicts held-out images and measures the quality of the predictions.

mod external;
mod figures;
mod measure;
mod paired;
mod params;
mod pooled;
mod population;
mod predict;
mod predictions;
mod rows;
mod submission;

use std::collections::BTreeMap;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, Devices, Kind, KindSpec, Output, Pairs, ParamError, Planning, Port, StageContext,
    StageError, View, Views,
};

use self::external::External;
use self::measure::Evaluated;
use self::paired::PairedEvaluations;
pub use self::params::{EvaluateParams, split_hint};
use self::population::population;
use self::predict::Predicted;
use self::rows::Row;
use crate::artifact;
use crate::dataset::EXTERNAL;
use crate::json;
use crate::ml::card::Card;
use crate::ml::device;
use crate::ml::metric::{Scores, SplitMetrics};
use crate::plot::{Figure, grouped};

/// Evaluates a model. The only kind that computes metrics from test rows.
pub struct Evaluate;

/// Incremented whenever equal inputs produce different results.
///
/// 6: the metrics have those of malignant classes; columns without values define no subgroups.
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
                "Predictions of another program, or those of one model per fold, which are pooled. No image may be in two of them.",
            )
            .or_external()
            .optional()
            .many(),
            Port::new(
                external::TABLE,
                ArtifactType::TABLE,
                "The table of an external test set: of a `metadata` over another dataset, none of which may be in training.",
            )
            .access(Access::View)
            .optional(),
            Port::new(external::SHARDS, artifact::SHARDS, "The tensors of the external images.")
                .access(Access::View)
                .optional(),
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
            Output::new("metrics", ArtifactType::METRICS, "metrics.json").headline(&HEADLINE),
            Output::new("figures", artifact::FIGURES, "figures"),
            Output::new("submission", ArtifactType::FILE, "isic_2018_submission.csv"),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<EvaluateParams>> {
        Some(self)
    }

    fn devices(&self) -> Option<&dyn Devices<EvaluateParams>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<EvaluateParams>> {
        Some(self)
    }

    fn pairs(&self) -> Option<&dyn Pairs> {
        Some(&PairedEvaluations)
    }

    fn run(&self, params: &EvaluateParams, context: &StageContext<'_>) -> Result<(), StageError> {
        // Before the predictions, which take longer.
        let external = External::of(context.inputs())?;
        let independence = external.map(|external| external.prove()).transpose()?;
        let predicted = match context.inputs().all(POOLED) {
            [] => predict::predict(params, context)?,
            tables => pooled::read(tables, params, context)?,
        };
        let Predicted { rows, probabilities, labels, left_out, colours } = predicted;
        let mut splits = params.splits.clone();
        splits.extend(independence.as_ref().map(|_| EXTERNAL.to_owned()));
        let malignant = params.malignant_of(&labels)?;
        let (rows, probabilities, undefined) = drop_non_finite(rows, probabilities);
        let scores = measure(&rows, probabilities, labels.len())?;

        let predictions = predictions::frame(&rows, &scores, &labels)?;
        context.write("predictions.parquet", &crate::table::write(&predictions)?)?;
        // The folder must exist even if no split has rows to draw.
        let folder = context.output_file("figures")?;
        std::fs::create_dir_all(&folder).map_err(|source| StageError::io("create", &folder, &source))?;
        let (bootstrap, seed) = (params.bootstrap, context.seed()?);
        let evaluated = Evaluated {
            rows: &rows,
            scores: &scores,
            labels: &labels,
            malignant: &malignant,
            resamples: bootstrap,
            seed,
        };
        let (_, validation) = evaluated.split("validation")?;
        let validation = Some(validation).filter(|scores| !scores.is_empty() && !undefined.contains_key("validation"));
        let mut metrics = BTreeMap::new();
        for split in &splits {
            let (rows, scores) = evaluated.split(split)?;
            if let Some(UndefinedSplit { reason, truth }) = undefined.get(split) {
                context.flaw(format!("the numbers of the split `{split}` are undefined: {reason}"));
                metrics.insert(split.clone(), SplitMetrics::undefined(reason, truth, &labels));
                continue;
            }
            let mut measured = evaluated.measure(split, &rows, &scores, validation.as_ref());
            if independence.is_some() {
                measured.population = Some(population(&rows, colours.get(split)));
            }
            if split == EXTERNAL {
                measured.independence.clone_from(&independence);
            }
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
        // The challenge is about an external test set; without one, about test rows or what is available.
        let submitted = [EXTERNAL, "test"].into_iter().find(|name| splits.iter().any(|split| split == name));
        let submitted = submitted.unwrap_or(&params.splits[0]);
        let (rows, scores) = evaluated.split(submitted)?;
        let submission = submission::csv(&rows, scores.probabilities(), &labels);
        context.write("isic_2018_submission.csv", submission.as_bytes())?;
        context.write("metrics.json", &json::write(&metrics)?)
    }
}

/// The metric that stands for all at the end of a run.
const HEADLINE: [&str; 2] = ["test.balanced_accuracy", "validation.balanced_accuracy"];

/// The port for predictions in place of a model.
const POOLED: &str = "predictions";

impl Columns<EvaluateParams> for Evaluate {
    fn read(&self, _params: &EvaluateParams) -> Vec<(&'static str, String)> {
        let columns = ["image_id", "lesion_id", "label", "cell_type_idx"].map(str::to_owned);
        let internal = columns.iter().cloned().chain(["split".to_owned()]).map(|column| ("split", column));
        internal.chain(columns.iter().map(|column| (external::TABLE, column.clone()))).collect()
    }
}

impl Devices<EvaluateParams> for Evaluate {
    fn class(&self, params: &EvaluateParams) -> Result<Option<String>, ParamError> {
        params.choice().inference_class()
    }

    fn evidence(&self) -> Option<String> {
        Some(device::evidence())
    }

    fn accepts_others(&self, _params: &EvaluateParams) -> bool {
        true
    }
}

impl Views<EvaluateParams> for Evaluate {
    fn project(&self, params: &EvaluateParams, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        let inputs = planning.inputs;
        let mut views = if inputs.all(POOLED).is_empty() {
            let card = inputs.optional("model").map(Card::read).transpose()?;
            rows::views(inputs, &params.splits, card.and_then(|card| card.training.fold))?
        } else {
            rows::pooled_views(inputs)?
        };
        if let Some(external) = External::of(inputs)? {
            views.extend(external.views()?);
        }
        Ok(views)
    }
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
mod external_tests;
#[cfg(test)]
mod given_tests;
#[cfg(test)]
mod tests;
