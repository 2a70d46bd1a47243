//! The kind `report`: one HTML page about a pipeline's data, training and evaluation.

mod comparison;
mod data;
mod evaluation;
mod explanations;
mod exploration;
mod external;
mod facts;
mod failures;
mod figure;
mod layout;
mod numbers;
mod page;
mod provenance;
mod recipe;
mod search;
mod sources;
mod splits;
mod subgroups;
mod summary;
mod thresholds;
mod training;

use hamflow_stage_api::{ArtifactType, Kind, KindSpec, Output, ParamError, Port, StageContext, StageError, Threads};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::sources::Sources;
use crate::ml::card::Card;
use crate::model_card::ModelCard;

/// Incremented whenever equal inputs produce a different page.
///
/// 8: headings stay with their text in print, and the settings of the training do not repeat its recipe.
/// 7: the recipe of the model and the graph of the pipeline.
/// 6: results first, on the width of the screen; thresholds for malignant classes.
/// 5: external test sets, malignant classes, and what a dataset does not have.
/// 4: deep networks are drawn in groups of layers.
/// 3: everything derived from synthetic data is marked as such; calibration is judged by its effect on the rows that
/// are shown.
/// 2: the first numbered revision.
const REVISION: u32 = 8;

/// Writes the report page.
pub struct Report;

/// The parameters of `report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReportParams {
    /// Title of the page.
    title: String,
    /// Number of most confident wrong predictions to list.
    failures: usize,
}

impl Default for ReportParams {
    fn default() -> Self {
        Self { title: "Skin lesion classifier: report".to_owned(), failures: 20 }
    }
}

impl ReportParams {
    fn check(&self) -> Result<(), ParamError> {
        if self.title.trim().is_empty() {
            return Err(ParamError::new("title", "`title` must not be empty"));
        }
        Ok(())
    }
}

impl Kind for Report {
    type Params = ReportParams;

    fn spec(&self) -> KindSpec {
        use crate::artifact::{BALANCE, COMPARISON, FIGURES, HISTORY, LATENCY, MODEL, PREDICTIONS, SEARCH, SUMMARY};
        const METRICS: ArtifactType = ArtifactType::METRICS;
        let ports = vec![
            Port::new("metadata", SUMMARY, "The summary of the dataset.").optional(),
            Port::new("quarantine", SUMMARY, "The images that could not be decoded and were skipped.").optional(),
            Port::new("exploration", FIGURES, "Figures of the dataset.").optional(),
            Port::new("findings", SUMMARY, "Statistical findings about the dataset.").optional(),
            Port::new("clean", SUMMARY, "The summary of imputed values.").optional(),
            Port::new(
                "balance",
                BALANCE,
                "The class distribution over the splits, and the proof that there is no leakage.",
            )
            .optional(),
            Port::new("model", MODEL, "The model; its card is shown.").optional(),
            Port::new("history", HISTORY, "Loss and accuracy of every epoch.").optional(),
            Port::new("training", SUMMARY, "The layers and the results of training.").optional(),
            Port::new("metrics", METRICS, "The evaluation metrics, or those of a program."),
            Port::new("predictions", PREDICTIONS, "The prediction of every evaluated row.").optional(),
            Port::new("figures", FIGURES, "Figures to show.").optional().many(),
            Port::new("explanations", FIGURES, "Grad-CAM heat maps.").optional(),
            Port::new("localisation", METRICS, "The localisation metrics of the heat maps.").optional(),
            Port::new("search", SEARCH, "The trials of a hyperparameter search.").optional(),
            Port::new("comparison", COMPARISON, "The comparison of several models.").optional(),
            Port::new("latency", LATENCY, "The measured times of the compared models.").optional(),
        ];
        let summary = "Writes one self-contained HTML page about data, split, training, evaluation and explanations, and the model's card.";
        KindSpec { threads: Threads::One, lineage: true, ..KindSpec::new("report", REVISION, summary, ports) }
    }

    fn check(&self, params: &ReportParams) -> Result<(), ParamError> {
        params.check()
    }

    fn outputs(&self, _params: &ReportParams) -> Vec<Output> {
        vec![
            Output::new("page", ArtifactType::PAGE, "index.html"),
            Output::new("model_card", ArtifactType::FILE, "model_card.md"),
        ]
    }

    fn run(&self, params: &ReportParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let lineage = context.job().lineage.clone().unwrap_or_default();
        let sources = Sources { lineage, ..Sources::read(context.inputs())? };
        let page = page::page(&params.title, params.failures, &sources);
        context.write("index.html", page.into_string().as_bytes())?;
        context.write("model_card.md", model_card(&sources).as_bytes())
    }
}

/// The model card with the evaluation results, or the reason why there is none.
fn model_card(sources: &Sources) -> String {
    let Some(card) = sources.card.as_ref() else { return "No model card: the report was given no model.\n".to_owned() };
    let card: Card = match Card::deserialize(card) {
        Ok(card) => card,
        Err(error) => return format!("No model card: the model's `card.json` is not one of hamflow's ({error}).\n"),
    };
    let training = sources.training.as_ref();
    let classes = training.and_then(|training| training.get("classes")?.as_array());
    let rows = |class: &Value| usize::try_from(class.get("train")?.as_u64()?).ok();
    let training_rows: Option<Vec<usize>> =
        classes.map(|classes| classes.iter().map(rows).collect()).unwrap_or_default();
    let kept = training.and_then(|training| training.get("kept"));
    let number = |name: &str| kept?.get(name)?.as_f64();
    let of = ModelCard {
        card: &card,
        training_rows: training_rows.unwrap_or_default(),
        validation: number("validation_loss").zip(number("validation_accuracy")),
        evaluation: Some(&sources.metrics),
        synthetic: sources.synthetic(),
    };
    of.markdown()
}

#[cfg(test)]
mod tests;
