//! The kind `report`: one HTML page that shows what a pipeline made, and from what.

mod data;
mod evaluation;
mod explanations;
mod exploration;
mod facts;
mod failures;
mod figure;
mod layout;
mod provenance;
mod sources;
mod splits;
mod subgroups;
mod summary;
mod training;

use hamflow_stage_api::{
    ArtifactType, Kind, KindSpec, Output, ParamError, Params, Port, StageContext, StageError, Threads,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::sources::Sources;
use crate::ml::card::Card;
use crate::model_card::ModelCard;
use crate::params;

/// Raised whenever equal inputs would give another page.
///
/// 3: synthetic data is said by everything that was made of it; calibration is judged by what it does to the rows that are shown.
/// 2: the first that is numbered here.
const REVISION: u32 = 3;

/// Writes the page.
pub struct Report;

/// The parameters of `report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ReportParams {
    /// The heading of the page.
    title: String,
    /// How many of the most confident wrong predictions are listed.
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
            return Err(ParamError::new("title", "a page must have a title"));
        }
        Ok(())
    }
}

impl Kind for Report {
    fn spec(&self) -> KindSpec {
        use ArtifactType::{Balance, Figures, History, Metrics, Model, Predictions, Summary};
        let ports = vec![
            Port::new("metadata", Summary, "What the dataset holds.").optional(),
            Port::new("quarantine", Summary, "Which images could not be read and were left out.").optional(),
            Port::new("exploration", Figures, "Figures of the dataset.").optional(),
            Port::new("findings", Summary, "What is remarkable about the dataset.").optional(),
            Port::new("clean", Summary, "Which values were filled in.").optional(),
            Port::new("balance", Balance, "How the classes fall on the splits, and the proof that nothing leaks.")
                .optional(),
            Port::new("model", Model, "The model; its card is shown.").optional(),
            Port::new("history", History, "Loss and accuracy of every epoch.").optional(),
            Port::new("training", Summary, "The layers and what training chose.").optional(),
            Port::new("metrics", Metrics, "How good the predictions are: what the page is about."),
            Port::new("predictions", Predictions, "The prediction of every evaluated row.").optional(),
            Port::new("figures", Figures, "Figures to show.").optional().many(),
            Port::new("explanations", Figures, "Where the model looks.").optional(),
            Port::new("localisation", Metrics, "How much of that is lesion.").optional(),
        ];
        let summary = "Writes one self-contained HTML page about data, split, training, evaluation and explanations, and the model's card.";
        KindSpec { threads: Threads::One, ..KindSpec::new("report", REVISION, summary, ports) }
    }

    fn schema(&self) -> Value {
        params::schema::<ReportParams>()
    }

    fn resolve(&self, params: &Params) -> Result<Params, ParamError> {
        params::resolve_checked(params, ReportParams::check)
    }

    fn outputs(&self, _params: &Params) -> Vec<Output> {
        vec![
            Output::new("page", ArtifactType::Page, "index.html"),
            Output::new("model_card", ArtifactType::File, "model_card.md"),
        ]
    }

    fn run(&self, context: &StageContext<'_>) -> Result<(), StageError> {
        let params: ReportParams = context.params()?;
        let sources = Sources::read(context.inputs())?;
        let page = layout::page(&params.title, params.failures, &sources);
        context.write("index.html", page.into_string().as_bytes())?;
        context.write("model_card.md", model_card(&sources).as_bytes())
    }
}

/// The model's card with the numbers of the evaluation; without a model, why there is none.
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
