//! The inputs of the page, parsed and validated.

use std::collections::BTreeMap;

use hamflow_stage_api::{Digest, Input, InputFile, Inputs, Lineage, StageError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::comparison_record::{ComparisonRecord, Latency};
use crate::dataset::{EXTERNAL, SPLITS};
use crate::ml::metric::SplitMetrics;
use crate::plot::EpochPoint;
use crate::search_record::SearchRecord;
use crate::table;

/// The content of all inputs; unconnected inputs are empty.
#[derive(Debug, Default)]
pub struct Sources {
    /// The summary of `metadata`.
    pub metadata: Option<Value>,
    /// The list of images that could not be decoded.
    pub quarantine: Option<Value>,
    /// The summary of `impute`.
    pub clean: Option<Value>,
    /// The balance of `split`.
    pub balance: Option<Value>,
    /// The model's card.
    pub card: Option<Value>,
    /// The epochs of the training history.
    pub history: Vec<EpochPoint>,
    /// The summary of `train`.
    pub training: Option<Value>,
    /// The metrics by split.
    pub metrics: BTreeMap<String, SplitMetrics>,
    /// The metrics of a program that are not by split.
    pub numbers: Option<Value>,
    /// The predictions in table order.
    pub predictions: Vec<Prediction>,
    /// The figures, by input and name.
    pub figures: Vec<FigureFile>,
    /// The figures of the dataset.
    pub exploration: Vec<FigureFile>,
    /// The findings of `eda`.
    pub findings: Option<Value>,
    /// The heat maps of `gradcam`.
    pub explanations: Vec<FigureFile>,
    /// The localisation metrics, by split.
    pub localisation: Option<Value>,
    /// The trials of a search.
    pub search: Option<SearchRecord>,
    /// The comparison of models.
    pub comparison: Option<ComparisonRecord>,
    /// The measured times of the compared models.
    pub latency: Option<Latency>,
    /// The stages that the inputs come from.
    pub lineage: Lineage,
    /// The digest of every input by port.
    pub digests: Vec<(String, Digest)>,
}

/// A row of the predictions table.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The image id.
    pub image_id: String,
    /// The lesion id.
    pub lesion_id: String,
    /// The split.
    pub split: String,
    /// The label of the true class.
    pub label: String,
    /// The label of the predicted class.
    pub predicted: String,
    /// The probability of the predicted class.
    pub confidence: f64,
    /// The sum of the probabilities of the malignant classes, if there are any.
    pub malignancy: Option<f64>,
}

impl Prediction {
    /// Whether the prediction is correct.
    pub fn correct(&self) -> bool {
        self.label == self.predicted
    }
}

/// An SVG file with its data, if available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FigureFile {
    /// The file name without extension.
    pub name: String,
    /// The SVG file.
    pub svg: Vec<u8>,
    /// The JSON file with the data.
    pub data: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct History {
    epochs: Vec<EpochPoint>,
}

impl Sources {
    /// Reads every input; the error for an invalid file names it.
    pub fn read(inputs: &Inputs) -> Result<Self, StageError> {
        let value = |port| parsed::<Value>(inputs, port);
        let history = parsed::<History>(inputs, "history")?;
        let metrics = inputs.one("metrics")?;
        let (metrics, numbers) = evaluation_or_numbers(metrics)?;
        let malignant = metrics.values().find_map(|split| Some(split.malignant.as_ref()?.classes.clone()));
        let card = inputs.optional("model").map(|input| json(input, input.member("card.json")?)).transpose()?;
        Ok(Self {
            metadata: value("metadata")?,
            quarantine: value("quarantine")?,
            clean: value("clean")?,
            balance: value("balance")?,
            card,
            history: history.map(|history| history.epochs).unwrap_or_default(),
            training: value("training")?,
            predictions: inputs
                .optional("predictions")
                .map(|input| predictions(input, &malignant.unwrap_or_default()))
                .transpose()?
                .unwrap_or_default(),
            metrics,
            numbers,
            figures: inputs.all("figures").iter().map(figures).collect::<Result<Vec<_>, _>>()?.concat(),
            exploration: inputs.optional("exploration").map(figures).transpose()?.unwrap_or_default(),
            findings: value("findings")?,
            explanations: inputs.optional("explanations").map(figures).transpose()?.unwrap_or_default(),
            localisation: value("localisation")?,
            search: parsed(inputs, "search")?,
            comparison: parsed(inputs, "comparison")?,
            latency: parsed(inputs, "latency")?,
            lineage: Lineage::default(),
            digests: digests(inputs),
        })
    }

    /// Whether the data is synthetic.
    pub fn synthetic(&self) -> bool {
        let says = |value: Option<&Value>| value.and_then(|value| value.get("synthetic")?.as_bool()) == Some(true);
        let trained = self.card.as_ref().and_then(|card| card.get("training"));
        says(self.metadata.as_ref())
            || says(trained)
            || self.metrics.values().any(|split| split.synthetic)
            || self.comparison.as_ref().is_some_and(|comparison| comparison.synthetic)
    }

    /// The evaluated splits: test first, then validation, train and others by name.
    pub fn splits(&self) -> Vec<(&str, &SplitMetrics)> {
        let mut splits: Vec<(&str, &SplitMetrics)> =
            self.metrics.iter().map(|(name, of)| (name.as_str(), of)).collect();
        splits.sort_by_key(|(name, _)| (split_rank(name), *name));
        splits
    }

    /// The class labels in index order, with their display names if the model card contains them.
    pub fn classes(&self) -> Vec<(String, Option<String>)> {
        let labels = self.metrics.values().next().map(|split| split.classes.clone()).unwrap_or_default();
        let named = |label: &String| {
            let classes = self.card.as_ref()?.get("classes")?.as_array()?;
            let class = classes.iter().find(|class| class["label"] == *label)?;
            class["name"].as_str().map(str::to_owned)
        };
        labels.into_iter().map(|label| (label.clone(), named(&label))).collect()
    }
}

/// The position of a split on the page.
pub fn split_rank(name: &str) -> usize {
    let [train, validation, test] = SPLITS;
    [test, EXTERNAL, validation, train].iter().position(|known| *known == name).unwrap_or(SPLITS.len() + 1)
}

/// The metrics by split, or else the numbers that a program wrote. A file in which any number is of a split must have all of it.
fn evaluation_or_numbers(input: &Input) -> Result<(BTreeMap<String, SplitMetrics>, Option<Value>), StageError> {
    let file = input.file()?;
    let value: Value = json(input, file)?;
    let is_split = |of: &Value| of.get("classes").is_some() && of.get("rows").is_some();
    let is_evaluation = value.as_object().is_some_and(|splits| splits.values().any(is_split) || splits.is_empty());
    if is_evaluation { Ok((json(input, file)?, None)) } else { Ok((BTreeMap::new(), Some(value))) }
}

fn parsed<T: DeserializeOwned>(inputs: &Inputs, port: &str) -> Result<Option<T>, StageError> {
    inputs.optional(port).map(|input| json(input, input.file()?)).transpose()
}

fn json<T: DeserializeOwned>(input: &Input, file: &InputFile) -> Result<T, StageError> {
    serde_json::from_slice(&file.read()?).map_err(|error| {
        let path = if input.folder { format!(", file `{}`", file.path) } else { String::new() };
        StageError::input(format!("`{}`{path} has unexpected content: {error}", input.name))
    })
}

/// The rows of the predictions table; `malignant` names the malignant classes.
fn predictions(input: &Input, malignant: &[String]) -> Result<Vec<Prediction>, StageError> {
    let columns = ["image_id", "lesion_id", "split", "label", "predicted", "confidence"];
    let of_malignant: Vec<String> = malignant.iter().map(|label| format!("probability_{label}")).collect();
    let frame = table::read(
        input.file()?,
        Some(&columns.into_iter().chain(of_malignant.iter().map(String::as_str)).collect::<Vec<_>>()),
    )?;
    let confidences = table::floats(&frame, "confidence")?;
    let mut malignancy: Vec<Option<f64>> = vec![(!malignant.is_empty()).then_some(0.0); confidences.len()];
    for column in &of_malignant {
        for (sum, value) in malignancy.iter_mut().zip(table::floats(&frame, column)?) {
            *sum = sum.zip(value).map(|(sum, value)| sum + value);
        }
    }
    let [image_ids, lesion_ids, splits, labels, predicted] =
        ["image_id", "lesion_id", "split", "label", "predicted"].map(|column| table::required_strings(&frame, column));
    let texts = image_ids?.into_iter().zip(lesion_ids?).zip(splits?).zip(labels?).zip(predicted?);
    let mut predictions = Vec::with_capacity(confidences.len());
    for ((((((image_id, lesion_id), split), label), predicted), confidence), malignancy) in
        texts.zip(confidences).zip(malignancy)
    {
        let confidence = confidence
            .filter(|confidence| confidence.is_finite())
            .ok_or_else(|| StageError::input(format!("`{}` has no `confidence` for image `{image_id}`", input.name)))?;
        predictions.push(Prediction { image_id, lesion_id, split, label, predicted, confidence, malignancy });
    }
    Ok(predictions)
}

fn figures(input: &Input) -> Result<Vec<FigureFile>, StageError> {
    let mut figures = Vec::new();
    for file in &input.files {
        if let Some(name) = file.path.strip_suffix(".svg") {
            let data = input.member(&format!("{name}.json")).ok().map(InputFile::read).transpose()?;
            figures.push(FigureFile { name: name.to_owned(), svg: file.read()?, data });
        }
    }
    Ok(figures)
}

fn digests(inputs: &Inputs) -> Vec<(String, Digest)> {
    let mut digests = Vec::new();
    for (port, inputs) in &inputs.0 {
        for (i, input) in inputs.iter().enumerate() {
            // By port and index, never by stage name: renaming a stage must not change the page.
            let name = if inputs.len() > 1 { format!("{port} {}", i + 1) } else { port.clone() };
            digests.extend(input.digest.known().map(|digest| (name, digest)));
        }
    }
    digests
}
