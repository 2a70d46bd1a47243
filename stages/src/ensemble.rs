//! The kind `ensemble`: several models as one, whose probabilities are the mean of theirs.

use hamflow_stage_api::{Input, Kind, KindSpec, Output, Port, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::json;
use crate::ml::card::{self, CARD_NAME, Card, ENSEMBLE, FORMAT, MAX_MEMBERS, Training, WEIGHTS_NAME};
use crate::model_card::ModelCard;

/// Incremented whenever equal inputs produce different results.
const REVISION: u32 = 1;

/// Joins models.
pub struct Ensemble;

/// `ensemble` has no parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnsembleParams {}

impl Kind for Ensemble {
    type Params = EnsembleParams;

    fn spec(&self) -> KindSpec {
        let models = Port::new("models", artifact::MODEL, "The models, such as `train[*]` of a matrix.").many();
        let summary = "Joins models to one whose probabilities are the mean of theirs.";
        KindSpec::new("ensemble", REVISION, summary, vec![models])
    }

    fn outputs(&self, _params: &EnsembleParams) -> Vec<Output> {
        vec![Output::new("model", artifact::MODEL, card::FOLDER)]
    }

    fn run(&self, _params: &EnsembleParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let inputs = context.inputs().all("models");
        let cards: Vec<Card> = inputs.iter().map(Card::read).collect::<Result<_, _>>()?;
        let Some(first) = cards.first() else { return Err(StageError::input("an ensemble needs at least one model")) };
        check(inputs, &cards)?;
        let members: Vec<String> = (1..=inputs.len()).map(|number| format!("member-{number}")).collect();
        for (input, member) in inputs.iter().zip(&members) {
            for name in [CARD_NAME, WEIGHTS_NAME] {
                context.write(&format!("{}/{member}/{name}", card::FOLDER), &input.member(name)?.read()?)?;
            }
        }
        let card = Card {
            format: FORMAT,
            model: ENSEMBLE.to_owned(),
            members,
            layers: Vec::new(),
            parameters: cards.iter().map(|card| card.parameters).sum(),
            training: Training {
                fold: None,
                folds: cards.iter().filter_map(|card| card.training.fold).collect(),
                synthetic: cards.iter().any(|card| card.training.synthetic),
                pretrained: None,
                ..first.training.clone()
            },
            ..first.clone()
        };
        context.write(&format!("{}/{CARD_NAME}", card::FOLDER), &json::indented(&card)?)?;
        let synthetic = card.training.synthetic;
        let model_card =
            ModelCard { card: &card, training_rows: Vec::new(), validation: None, evaluation: None, synthetic };
        context.write(&format!("{}/README.md", card::FOLDER), model_card.markdown().as_bytes())
    }
}

/// Rejects models that do not classify the same images into the same classes.
fn check(inputs: &[Input], cards: &[Card]) -> Result<(), StageError> {
    if cards.len() > MAX_MEMBERS {
        return Err(StageError::input(format!(
            "{} models are too many for an ensemble; the limit is {MAX_MEMBERS}",
            cards.len()
        )));
    }
    let first = &cards[0];
    for (input, card) in inputs.iter().zip(cards) {
        let what = match () {
            () if !card.members.is_empty() => "is an ensemble itself".to_owned(),
            () if card.input != first.input => format!("takes images of another size than `{}`", inputs[0].name),
            () if card.classes != first.classes => format!("has other classes than `{}`", inputs[0].name),
            () if card.preprocess != first.preprocess => {
                format!("was trained on other preprocessing than `{}`", inputs[0].name)
            }
            () => continue,
        };
        return Err(StageError::input(format!("`{}` {what}", input.name))
            .hint("the models of an ensemble must be trained on the same shards and classes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
