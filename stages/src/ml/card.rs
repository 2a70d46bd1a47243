//! The model as it is kept: weights in safetensors, and a card that says what they are for.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use hamflow_stage_api::{Input, StageError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ml::examples::Class;
use crate::ml::model;
use crate::ml::network::{LayerSummary, Network};
use crate::ml::normalisation::Normalisation;
use crate::ml::shape::MapShape;
use crate::ml::weights::Weights;
use crate::near_miss;

/// The folder below the output directory.
pub const FOLDER: &str = "model";
/// The file of the weights in the folder.
pub const WEIGHTS_NAME: &str = "model.safetensors";
/// The file of the card in the folder.
pub const CARD_NAME: &str = "card.json";

/// The version of the card's format.
pub const FORMAT: u32 = 1;

/// All that is needed beside the weights to classify an image as in training, and where the model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The version of this format.
    pub format: u32,
    /// The model's name.
    pub model: String,
    /// Its layers.
    pub layers: Vec<LayerSummary>,
    /// The number of weights.
    pub parameters: usize,
    /// The size of an image.
    pub input: MapShape,
    /// The classes in the order of the outputs.
    pub classes: Vec<Class>,
    /// Fitted on the training images.
    pub normalisation: Normalisation,
    /// The parameters of the preprocessing that made the training images.
    pub preprocess: Value,
    /// Where the weights come from.
    pub training: Training,
}

/// Where weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// The seed.
    pub seed: u64,
    /// How many epochs there were.
    pub epochs: usize,
    /// The epoch whose weights these are, counted from 1.
    pub epoch: usize,
    /// Rows that the weights were fitted to.
    pub training_rows: usize,
    /// Rows for validation.
    pub validation_rows: usize,
    /// Whether the epoch was chosen by them; cards that do not say so are of models where it was.
    #[serde(default = "yes")]
    pub chosen_by_validation: bool,
    /// Whether they decided when training ended, or when it slowed down.
    #[serde(default)]
    pub steered_by_validation: bool,
    /// Whether a program made images among those rows, as far as the table said so.
    #[serde(default)]
    pub synthetic: bool,
}

fn yes() -> bool {
    true
}

/// JSON for people: indented, with a line break at its end.
pub fn encode_json(value: &impl Serialize) -> Result<Vec<u8>, StageError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| StageError::bug(format!("a value cannot be written as JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The weights as they are written: contiguous f32 tensors, sorted by name.
pub fn encode_weights(weights: &Weights) -> Result<Vec<u8>, StageError> {
    safetensors::serialize(weights.iter(), None)
        .map_err(|error| StageError::bug(format!("the weights cannot be written: {error}")))
}

/// Reads a model's card, network and weights, and checks that they fit each other.
pub fn load(input: &Input) -> Result<(Card, Network, Weights), StageError> {
    let refuse = |what: String| StageError::input(format!("the model `{}` cannot be used: {what}", input.name));
    let card = input.member(CARD_NAME)?.read()?;
    let version = serde_json::from_slice::<Value>(&card).ok().and_then(|card| card.get("format")?.as_u64());
    if let Some(version) = version.filter(|version| *version != u64::from(FORMAT)) {
        return Err(refuse(format!("its format is {version}, this program reads {FORMAT}"))
            .hint("use the version of hamflow that trained it, or train it again"));
    }
    let card: Card =
        serde_json::from_slice(&card).map_err(|error| refuse(format!("`{CARD_NAME}` is not a card: {error}")))?;
    let Some(model) = model::find(&card.model) else {
        let error = refuse(format!("there is no model `{}`", card.model));
        let names = model::MODELS.iter().map(|model| model.name);
        return Err(match near_miss::hint(&card.model, names) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    let network = Network::new(card.input, &(model.layers)(card.classes.len())).map_err(&refuse)?;
    let bytes = input.member(WEIGHTS_NAME)?.read()?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| refuse(format!("`{WEIGHTS_NAME}` is not in the format of safetensors: {error}")))?;
    let weights = take_weights(&network, tensors).map_err(&refuse)?;
    Ok((card, network, weights))
}

fn take_weights(network: &Network, mut tensors: HashMap<String, Tensor>) -> Result<Weights, String> {
    let mut values = Vec::new();
    for parameter in network.parameters() {
        let name = &parameter.name;
        let tensor = tensors.remove(name).ok_or_else(|| format!("`{WEIGHTS_NAME}` has no tensor `{name}`"))?;
        if tensor.dtype() != DType::F32 || tensor.dims() != parameter.config.shape {
            return Err(format!(
                "the tensor `{name}` is {} {:?}, but the card asks for f32 {:?}",
                tensor.dtype().as_str(),
                tensor.dims(),
                parameter.config.shape
            ));
        }
        values.push(tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).map_err(|error| error.to_string())?);
    }
    if let Some(name) = tensors.keys().min() {
        return Err(format!("`{WEIGHTS_NAME}` has a tensor `{name}` that the card does not know"));
    }
    Weights::from_values(network.parameters(), values.into_iter()).map_err(|error| error.to_string())
}
