//! The kind `compare`: compares models that were evaluated on the same rows.

mod latency;

use hamflow_stage_api::{Input, Kind, KindSpec, Output, ParamError, Port, StageContext, StageError, near_miss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::comparison_record::{ComparisonRecord, Difference, ModelFacts, ModelRecord};
use crate::dataset::{EXTERNAL, SPLITS};
use crate::json;
use crate::ml::card::Card;
use crate::ml::metric::{METRICS, Metric, PairedBootstrap, Resampling, Scores, confusion_matrix, metric};
use crate::paired_predictions::PairedPredictions;
use crate::plot::{Drawing, Figure, ModelComparisonPlot};

/// Incremented whenever equal inputs produce different results.
const REVISION: u32 = 1;

/// The kind `compare`.
pub struct Compare;

/// The parameters of `compare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompareParams {
    /// The split to compare on: `train`, `validation`, `test`, or `external` for an external test set.
    split: String,
    /// The metrics to show, by their names in `evaluate`.
    metrics: Vec<String>,
    /// The display names of the models. By default the architectures if `models` are given, or else numbers.
    names: Vec<String>,
    /// Number of bootstrap resamples of the lesions for the 95 % confidence intervals; 0 for no intervals.
    #[schemars(range(max = 10_000))]
    bootstrap: usize,
    /// Measure the time of a prediction and of a training step on this machine. The measurement is an output of its own, `latency`, which
    /// `hamflow verify --rebuild` does not compare.
    latency: bool,
}

impl Default for CompareParams {
    fn default() -> Self {
        let metrics =
            ["balanced_accuracy", "f1_macro", "roc_auc_macro", "accuracy", "log_loss", "expected_calibration_error"];
        Self {
            split: "test".to_owned(),
            metrics: metrics.map(str::to_owned).to_vec(),
            names: Vec::new(),
            bootstrap: 1000,
            latency: false,
        }
    }
}

impl CompareParams {
    fn check(&self) -> Result<(), ParamError> {
        if self.split != EXTERNAL && !SPLITS.contains(&self.split.as_str()) {
            return Err(ParamError::new("split", format!("unknown split `{}`", self.split))
                .hint(crate::evaluate::split_hint(&self.split)));
        }
        if self.metrics.is_empty() {
            return Err(ParamError::new("metrics", "`metrics` must not be empty"));
        }
        for (place, name) in self.metrics.iter().enumerate() {
            if metric(name).is_none() {
                let names = || METRICS.iter().map(|metric| metric.name);
                let all = || format!("available: `{}`", names().collect::<Vec<_>>().join("`, `"));
                let hint = near_miss::hint(name, names()).unwrap_or_else(all);
                return Err(ParamError::new("metrics", format!("unknown metric `{name}`")).hint(hint));
            }
            if self.metrics[..place].contains(name) {
                return Err(ParamError::new("metrics", format!("duplicate metric `{name}`")));
            }
        }
        if let Some((_, name)) = self.names.iter().enumerate().find(|(place, name)| self.names[..*place].contains(name))
        {
            return Err(ParamError::new("names", format!("duplicate name `{name}`")));
        }
        Ok(())
    }

    fn metrics(&self) -> impl Iterator<Item = &'static Metric> {
        self.metrics.iter().filter_map(|name| metric(name))
    }
}

impl Kind for Compare {
    type Params = CompareParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new(
                "predictions",
                artifact::PREDICTIONS,
                "The predictions of each model; the first is the reference.",
            )
            .many(),
            Port::new("models", artifact::MODEL, "The models, in the order of their predictions.").optional().many(),
        ];
        let summary = "Compares models on the same rows: metrics, paired differences, size and speed.";
        KindSpec { seeded: true, ..KindSpec::new("compare", REVISION, summary, ports) }
    }

    fn check(&self, params: &CompareParams) -> Result<(), ParamError> {
        params.check()
    }

    fn outputs(&self, params: &CompareParams) -> Vec<Output> {
        let mut outputs = vec![
            Output::new("comparison", artifact::COMPARISON, "comparison.json"),
            Output::new("figures", artifact::FIGURES, "figures"),
        ];
        if params.latency {
            outputs.push(Output::new("latency", artifact::LATENCY, "latency.json").measured());
        }
        outputs
    }

    fn run(&self, params: &CompareParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let inputs = context.inputs().all("predictions");
        let models = context.inputs().all("models");
        if !models.is_empty() && models.len() != inputs.len() {
            let (models, predictions) = (models.len(), inputs.len());
            return Err(StageError::input(format!("there are {models} `models`, but {predictions} `predictions`"))
                .hint("list them in the same order, or remove `models`"));
        }
        if !params.names.is_empty() && params.names.len() != inputs.len() {
            let (names, predictions) = (params.names.len(), inputs.len());
            return Err(StageError::input(format!("there are {names} `names`, but {predictions} `predictions`")));
        }
        let compared = PairedPredictions::read(&params.split, inputs)?;
        let cards: Vec<Card> = models.iter().map(Card::read).collect::<Result<_, _>>()?;
        check_classes(&cards, models, &compared)?;
        let record = record_of(&compared, params, &facts(models, &cards)?, context.seed()?);
        let record = ComparisonRecord { synthetic: cards.iter().any(|card| card.training.synthetic), ..record };
        context.write("comparison.json", &json::indented(&record)?)?;
        write_figures(context, &record)?;
        match (params.latency, models) {
            (false, _) => Ok(()),
            (true, []) => Err(StageError::input("`latency` needs `models`").hint("add `models`, or remove `latency`")),
            (true, models) => context.write("latency.json", &json::indented(&latency::measure(models, context)?)?),
        }
    }
}

/// Measures all models.
fn record_of(
    compared: &PairedPredictions,
    params: &CompareParams,
    facts: &[ModelFacts],
    seed: u64,
) -> ComparisonRecord {
    let resampling = Resampling::over(compared.lesions.iter().map(String::as_str));
    let metrics: Vec<&Metric> = params.metrics().collect();
    let value = |scores: &Scores, metric: &Metric| (metric.measure)(scores).ok();
    let paired = PairedBootstrap::draw(&compared.scores, &resampling, &metrics, params.bootstrap, seed);
    let names = names(params, facts, compared.scores.len());
    let model = |(place, scores): (usize, &Scores)| {
        let values = METRICS.iter().map(|metric| (metric.name.to_owned(), value(scores, metric))).collect();
        let interval_of =
            |(number, metric): (usize, &&Metric)| Some((metric.name.to_owned(), paired.interval(place, number)?));
        ModelRecord {
            name: names[place].clone(),
            card: facts.get(place).cloned(),
            confusion_matrix: confusion_matrix(scores),
            intervals: metrics.iter().enumerate().filter_map(interval_of).collect(),
            values,
        }
    };
    let models: Vec<ModelRecord> = compared.scores.iter().enumerate().map(model).collect();
    let mut differences = Vec::new();
    for other in 1..models.len() {
        for (number, metric) in metrics.iter().enumerate() {
            let of = |model: usize| models[model].values.get(metric.name).copied().flatten();
            let value = of(other).zip(of(0)).map(|(other, reference)| other - reference);
            let interval = value.and_then(|_| paired.difference([0, other], number));
            differences.push(Difference { metric: metric.name.to_owned(), model: other, value, interval });
        }
    }
    ComparisonRecord {
        classes: compared.labels.clone(),
        differences,
        lesions: resampling.groups(),
        metrics: params.metrics.clone(),
        models,
        resamples: params.bootstrap,
        rows: compared.lesions.len(),
        split: params.split.clone(),
        synthetic: false,
    }
}

fn check_classes(cards: &[Card], models: &[Input], compared: &PairedPredictions) -> Result<(), StageError> {
    for (card, model) in cards.iter().zip(models) {
        let labels: Vec<&String> = card.classes.iter().map(|class| &class.label).collect();
        if labels != compared.labels.iter().collect::<Vec<_>>() {
            return Err(StageError::input(format!("`{}` has other classes than the predictions", model.name))
                .hint("list `models` in the order of `predictions`"));
        }
    }
    Ok(())
}

fn facts(models: &[Input], cards: &[Card]) -> Result<Vec<ModelFacts>, StageError> {
    let facts = |(model, card): (&Input, &Card)| {
        let bytes = model.files.iter().map(|file| file.digest.size()).sum();
        let digest = model.digest.known().map(|digest| digest.to_string()).unwrap_or_default();
        Ok(ModelFacts {
            architecture: card.model.clone(),
            bytes,
            digest,
            epochs: card.training.epochs,
            training_rows: card.training.training_rows,
            input: [card.input.height, card.input.width, card.input.channels],
            parameters: card.parameters,
        })
    };
    models.iter().zip(cards).map(facts).collect()
}

/// The display names: those of the parameters, or the architectures, numbered if equal.
fn names(params: &CompareParams, facts: &[ModelFacts], count: usize) -> Vec<String> {
    if !params.names.is_empty() {
        return params.names.clone();
    }
    let architecture = |place: usize| facts.get(place).map_or("model", |facts| facts.architecture.as_str());
    let name = |place: usize| {
        let own = architecture(place);
        let number = (0..=place).filter(|other| architecture(*other) == own).count();
        let is_only = (0..count).filter(|other| architecture(*other) == own).count() == 1;
        if is_only { own.to_owned() } else { format!("{own} {number}") }
    };
    (0..count).map(name).collect()
}

fn write_figures(context: &StageContext<'_>, record: &ComparisonRecord) -> Result<(), StageError> {
    let mut figures = vec![(ModelComparisonPlot::PLOT.to_owned(), Figure::new(&record.plot()))];
    for (number, model) in (1..).zip(&record.models) {
        let figure = Figure::new(&record.confusion_plot(model));
        figures.push((format!("confusion_matrix_model_{number}"), figure));
    }
    for (name, figure) in figures {
        let svg = figure.draw().map_err(|error| StageError::bug(error.problem))?;
        context.write(&format!("figures/{name}.svg"), svg.file().as_bytes())?;
        context.write(&format!("figures/{name}.json"), &figure.json())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
