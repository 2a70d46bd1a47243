//! The files of a finished training run.

use std::collections::BTreeMap;

use hamflow_stage_api::{StageContext, StageError};
use serde_json::{Value, json};

use super::pictures;
use crate::dataset::Class;
use crate::json;
use crate::ml::card::{self, Card, encode_weights};
use crate::ml::examples::{Examples, Role};
use crate::ml::recipe::Recipe;
use crate::ml::trainer::Trained;
use crate::model_card::ModelCard;

/// A finished training run.
pub struct Finished<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The card of the model.
    pub card: Card,
    /// The weights and the history.
    pub trained: Trained,
    /// Why training ended before its last epoch, if it did.
    pub stopped: Option<Stopped>,
    pub(super) examples: Examples,
    pub(super) class_weights: Vec<f64>,
}

/// Why training ended before its last epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The patience of early stopping was exhausted.
    Early(String),
    /// A step diverged; the best weights until then are kept.
    Diverged(String),
}

impl Stopped {
    /// The reason in words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Early(reason) | Self::Diverged(reason) => reason,
        }
    }
}

impl Finished<'_> {
    /// The value of the metric that chose the epoch, for the kept one.
    pub fn score(&self) -> Option<f64> {
        self.trained.scores.get(self.trained.epoch.wrapping_sub(1)).copied().flatten()
    }

    /// Writes the model, the figures, the history and the summary.
    pub fn write(&self, context: &StageContext<'_>) -> Result<(), StageError> {
        let Self { card, trained, examples, .. } = self;
        let folder = card::FOLDER;
        context.write(&format!("{folder}/{}", card::WEIGHTS_NAME), &encode_weights(&trained.weights)?)?;
        context.write(&format!("{folder}/{}", card::CARD_NAME), &json::indented(card)?)?;
        let model_card = ModelCard {
            card,
            training_rows: (0..card.classes.len()).map(|class| examples.count(class, Role::Training)).collect(),
            validation: trained.kept().and_then(|kept| Some((kept.validation_loss?, kept.validation_accuracy?))),
            evaluation: None,
            synthetic: examples.synthetic,
        };
        context.write(&format!("{folder}/README.md"), model_card.markdown().as_bytes())?;
        pictures::write(context, card, trained)?;
        context.write("history.json", &json::indented(&self.history())?)?;
        context.write("summary.json", &json::indented(&self.summary())?)
    }

    /// The epochs, with the metric that chose the epoch if it is not the accuracy.
    fn history(&self) -> Value {
        let Self { recipe, trained, .. } = self;
        let mut epochs = json!(trained.history);
        if recipe.keep_metric != "accuracy" {
            for (epoch, score) in epochs.as_array_mut().into_iter().flatten().zip(&trained.scores) {
                epoch[format!("validation_{}", recipe.keep_metric)] = json!(score);
            }
        }
        json!({ "epochs": epochs })
    }

    /// The summary metrics, keys sorted.
    fn summary(&self) -> BTreeMap<&'static str, Value> {
        let Self { recipe, card, trained, stopped, examples, class_weights } = self;
        let class = |(index, class): (usize, &Class)| {
            json!({
                "index": index,
                "label": class.label,
                "name": class.name,
                "train": examples.count(index, Role::Training),
                "validation": examples.count(index, Role::Validation),
                "weight": class_weights[index],
            })
        };
        let mut summary = BTreeMap::from([
            ("best_epoch", json!(trained.epoch)),
            ("classes", examples.classes.iter().enumerate().map(class).collect()),
            ("epochs", json!(recipe.epochs)),
            ("input", json!([card.input.height, card.input.width, card.input.channels])),
            ("keep", json!(recipe.keep)),
            ("kept", json!(trained.kept())),
            ("layers", json!(card.layers)),
            ("model", json!(card.model)),
            ("normalisation", json!(card.normalisation)),
            ("parameters", json!(card.parameters)),
            ("stopped", json!(stopped.as_ref().map(Stopped::reason))),
            ("rows", json!({ "train": card.training.training_rows, "validation": card.training.validation_rows })),
        ]);
        if recipe.keep_metric != "accuracy" {
            let score = trained.scores.get(trained.epoch.wrapping_sub(1));
            summary.insert("kept_score", json!({ "metric": recipe.keep_metric, "value": score }));
        }
        if let Some(pretrained) = &card.training.pretrained {
            summary.insert("pretrained", json!(pretrained));
        }
        summary
    }
}
