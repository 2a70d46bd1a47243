//! The model artifact: weights in safetensors format, and a card with everything else.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use hamflow_stage_api::{Input, StageError, near_miss};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::{Class, find_flaw};
use crate::model;
use crate::network::{LayerSummary, Network};
use crate::normalisation::Normalisation;
use crate::optim::OptimiserKind;
use crate::weights::Weights;
use hamflow_kernels::imaging::Preparation;
use hamflow_kernels::shape::MapShape;

/// The model's folder below the output directory.
pub const FOLDER: &str = "model";
/// The name of the weights file.
pub const WEIGHTS_NAME: &str = "model.safetensors";
/// The name of the card file.
pub const CARD_NAME: &str = "card.json";

/// The version of the card format.
pub const FORMAT: u32 = 1;

/// Everything beside the weights that is needed to classify images, and the provenance of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The version of the card format.
    pub format: u32,
    /// The model's name.
    pub model: String,
    /// The directories of the members of an ensemble, each with a card and weights; empty for one network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Its layers.
    pub layers: Vec<LayerSummary>,
    /// The number of trainable parameters.
    pub parameters: usize,
    /// The shape of an input image.
    pub input: MapShape,
    /// The classes, in output order.
    pub classes: Vec<Class>,
    /// The normalisation, fitted on the training images.
    pub normalisation: Normalisation,
    /// The preprocessing parameters of the training images.
    pub preprocess: Value,
    /// The provenance of the weights.
    pub training: Training,
}

/// The provenance of the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// The seed.
    pub seed: u64,
    /// The number of epochs that were run.
    pub epochs: usize,
    /// The epoch of the weights, 1-based.
    pub epoch: usize,
    /// The number of training rows.
    pub training_rows: usize,
    /// The number of validation rows.
    pub validation_rows: usize,
    /// Whether the epoch was selected on the validation rows; `true` for cards without this field.
    #[serde(default = "yes")]
    pub chosen_by_validation: bool,
    /// Whether the validation rows determined the end of training or the learning rate.
    #[serde(default)]
    pub steered_by_validation: bool,
    /// Whether the table marked any of those rows as synthetic.
    #[serde(default)]
    pub synthetic: bool,
    /// The fold whose rows were for validation, with cross-validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<u32>,
    /// The folds of an ensemble's members: rows of its validation split were for training in some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<u32>,
    /// The optimiser.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub optimiser: OptimiserKind,
    /// The digest of the file of weights that training started from; `None` for random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
}

fn is_usual(optimiser: &OptimiserKind) -> bool {
    *optimiser == OptimiserKind::default()
}

/// The name of the model of an ensemble.
pub const ENSEMBLE: &str = "ensemble";

/// Maximum number of members of an ensemble.
pub const MAX_MEMBERS: usize = 100;

/// Whether a name is that of a file in the same directory on every system.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Maximum height and width of an input image in pixels, as for `preprocess`.
const MAX_SIDE: usize = 4096;

impl Card {
    /// Parses a card that may come from elsewhere. The error is the end of a sentence.
    ///
    /// Whatever sizes an allocation or becomes part of a file name is checked here.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let card: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("`{CARD_NAME}` is not a valid card: {error}"))?;
        card.check().map_err(|problem| format!("`{CARD_NAME}`: {problem}"))?;
        Ok(card)
    }

    /// Reads the card of a model.
    pub fn read(input: &Input) -> Result<Self, StageError> {
        Self::read_below(input, "")
    }

    /// Reads the card in a directory of a model, which is empty or ends with `/`.
    fn read_below(input: &Input, directory: &str) -> Result<Self, StageError> {
        let card = input.member(&format!("{directory}{CARD_NAME}"))?.read()?;
        let version = serde_json::from_slice::<Value>(&card).ok().and_then(|card| card.get("format")?.as_u64());
        if let Some(version) = version.filter(|version| *version != u64::from(FORMAT)) {
            return Err(refuse(input, format!("format version {version} is not supported, only {FORMAT}"))
                .hint("use the hamflow version that trained it, or retrain it"));
        }
        Self::parse(&card).map_err(|problem| refuse(input, problem))
    }

    fn check(&self) -> Result<(), String> {
        let MapShape { height, width, channels } = self.input;
        if ![height, width].iter().all(|side| (1..=MAX_SIDE).contains(side)) || channels != 3 {
            return Err(format!(
                "`input` is {height}×{width}×{channels}, but must be 1 to {MAX_SIDE} pixels high and wide, with 3 channels"
            ));
        }
        if self.members.len() > MAX_MEMBERS || !self.members.iter().all(|member| is_plain_name(member)) {
            return Err(format!("`members` must be at most {MAX_MEMBERS} names of directories"));
        }
        if let Some(flaw) = find_flaw(&self.classes) {
            return Err(flaw.message);
        }
        if !self.normalisation.is_valid() {
            return Err("`normalisation` needs a finite mean and a positive standard deviation".to_owned());
        }
        match self.preparation() {
            Ok(prepared) if (prepared.height, prepared.width) != (height, width) => Err(format!(
                "`preprocess` makes images of {}×{}, but `input` is {height}×{width}",
                prepared.height, prepared.width
            )),
            // Models can be evaluated without preprocessing parameters, on shards.
            _ => Ok(()),
        }
    }

    /// The preprocessing that input images need.
    pub fn preparation(&self) -> serde_json::Result<Preparation> {
        Preparation::deserialize(&self.preprocess)
    }
}

fn yes() -> bool {
    true
}

/// The weights in safetensors format: contiguous f32 tensors, sorted by name.
pub fn encode_weights(weights: &Weights) -> Result<Vec<u8>, StageError> {
    safetensors::serialize(weights.iter(), None)
        .map_err(|error| StageError::bug(format!("cannot serialise the weights: {error}")))
}

/// The error of a model that cannot be loaded.
fn refuse(input: &Input, what: impl std::fmt::Display) -> StageError {
    StageError::input(format!("cannot load model `{}`: {what}", input.name))
}

/// A network with its weights.
pub struct Member {
    /// Its card.
    pub card: Card,
    /// The network.
    pub network: Network,
    /// The weights.
    pub weights: Weights,
}

/// Loads the members of an ensemble, or the only network of a model, and checks that they are consistent.
pub fn load(input: &Input) -> Result<(Card, Vec<Member>), StageError> {
    let card = Card::read(input)?;
    if card.members.is_empty() {
        return Ok((card, vec![load_member(input, "")?]));
    }
    let members: Vec<Member> =
        card.members.iter().map(|name| load_member(input, &format!("{name}/"))).collect::<Result<_, _>>()?;
    let differs = |member: &Member| (member.card.input, &member.card.classes) != (card.input, &card.classes);
    match members.iter().position(differs) {
        Some(index) => {
            let what = format!("its member `{}` has other classes or another image size", card.members[index]);
            Err(refuse(input, what))
        }
        None => Ok((card, members)),
    }
}

/// Loads one network.
pub fn load_member(input: &Input, directory: &str) -> Result<Member, StageError> {
    let refuse = |what: String| refuse(input, what);
    let card = Card::read_below(input, directory)?;
    let Some(model) = model::find(&card.model) else {
        let error = refuse(format!("unknown model `{}`", card.model));
        let names = model::MODELS.iter().map(|model| model.name);
        return Err(match near_miss::hint(&card.model, names) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    let network = model.network(card.input, card.classes.len()).map_err(&refuse)?;
    let bytes = input.member(&format!("{directory}{WEIGHTS_NAME}"))?.read()?;
    let tensors = read_weights(&bytes).map_err(&refuse)?;
    let weights = take_weights(&network, tensors).map_err(&refuse)?;
    Ok(Member { card, network, weights })
}

/// Parses a file of weights. The error is the end of a sentence.
pub fn read_weights(bytes: &[u8]) -> Result<HashMap<String, Tensor>, String> {
    candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
        .map_err(|error| format!("`{WEIGHTS_NAME}` is not a valid safetensors file: {error}"))
}

fn take_weights(network: &Network, mut tensors: HashMap<String, Tensor>) -> Result<Weights, String> {
    let mut values = Vec::new();
    for parameter in network.tensors() {
        let name = &parameter.name;
        let tensor = tensors.remove(name).ok_or_else(|| format!("`{WEIGHTS_NAME}` has no tensor `{name}`"))?;
        if tensor.dtype() != DType::F32 || tensor.dims() != parameter.config.shape {
            return Err(format!(
                "tensor `{name}` is {} {:?}, but the card requires f32 {:?}",
                tensor.dtype().as_str(),
                tensor.dims(),
                parameter.config.shape
            ));
        }
        values.push(tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).map_err(|error| error.to_string())?);
    }
    if let Some(name) = tensors.keys().min() {
        return Err(format!("`{WEIGHTS_NAME}` has an unexpected tensor `{name}`"));
    }
    Weights::from_values(network.tensors(), values.into_iter()).map_err(|error| error.to_string())
}
