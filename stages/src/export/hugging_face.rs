//! A folder in the layout of the Hugging Face Hub.

use hamflow_stage_api::{StageContext, StageError};
use serde_json::{Map, Value, json};

use crate::json;
use crate::ml::card::Card;
use crate::ml::network::Network;
use crate::ml::pretrained::NORMALISATION_KEY;
use crate::ml::weights::{Weights, public_values};

/// The folder below the output directory.
pub const FOLDER: &str = "hugging_face";

/// What is written.
pub struct Export<'a> {
    /// The model's card.
    pub card: &'a Card,
    /// The network.
    pub network: &'a Network,
    /// The weights.
    pub weights: &'a Weights,
    /// The model card in Markdown, if the model has one.
    pub readme: Option<Vec<u8>>,
    /// The identifier of the licence.
    pub licence: Option<&'a str>,
}

/// Writes weights in PyTorch's order of dimensions, the configuration, the preprocessing and a card with front matter.
pub fn write(context: &StageContext<'_>, export: &Export<'_>) -> Result<(), StageError> {
    let path = |name: &str| format!("{FOLDER}/{name}");
    context.write(&path("model.safetensors"), &export.weights()?)?;
    context.write(&path("config.json"), &json::indented(&export.config())?)?;
    context.write(&path("preprocessor_config.json"), &json::indented(&export.preprocessor())?)?;
    context.write(&path("README.md"), export.readme().as_bytes())
}

impl Export<'_> {
    fn weights(&self) -> Result<Vec<u8>, StageError> {
        let failed = |error: &dyn std::fmt::Display| StageError::bug(format!("cannot serialise the weights: {error}"));
        let tensors = self.network.tensors().zip(self.weights.iter()).map(|(parameter, (name, tensor))| {
            let values = public_values(parameter, tensor)?;
            let shape = parameter.config.layout.public_shape(&parameter.config.shape);
            let tensor = candle_core::Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?;
            Ok((name.to_owned(), tensor))
        });
        let tensors: Vec<_> = tensors.collect::<candle_core::Result<_>>().map_err(|error| failed(&error))?;
        // Libraries of the Hub read the framework from here.
        let normalisation = serde_json::to_string(&self.card.normalisation).map_err(|error| failed(&error))?;
        let metadata = [("format".to_owned(), "pt".to_owned()), (NORMALISATION_KEY.to_owned(), normalisation)].into();
        safetensors::serialize(tensors, Some(metadata)).map_err(|error| failed(&error))
    }

    fn config(&self) -> Value {
        let card = self.card;
        let classes = card.classes.iter().enumerate();
        let labels: Map<String, Value> =
            classes.clone().map(|(i, class)| (i.to_string(), json!(class.label))).collect();
        let ids: Map<String, Value> = classes.map(|(i, class)| (class.label.clone(), json!(i))).collect();
        json!({
            "architecture": card.model,
            "model_type": card.model,
            "num_classes": card.classes.len(),
            "id2label": labels,
            "label2id": ids,
            "input_size": [card.input.channels, card.input.height, card.input.width],
            "library": "hamflow",
            // The order of the values of a map that becomes a vector.
            "flatten_order": "height, width, channels",
        })
    }

    fn preprocessor(&self) -> Value {
        let normalisation = self.card.normalisation;
        let each = |of: &dyn Fn(usize) -> f64| [0, 1, 2].map(|channel| of(channel) / 255.0);
        json!({
            "do_resize": true,
            "size": { "height": self.card.input.height, "width": self.card.input.width },
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": each(&|channel| normalisation.mean.of(channel)),
            "image_std": each(&|channel| normalisation.standard_deviation.of(channel)),
            "hamflow": self.card.preprocess,
        })
    }

    fn readme(&self) -> String {
        let body = self.readme.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let body = body.unwrap_or_else(|| format!("# {}\n", self.card.model));
        format!(
            "---\n{}pipeline_tag: image-classification\nlibrary_name: hamflow\ntags:\n- dermoscopy\n- image-classification\n- {}\n---\n\n{body}",
            self.licence.map_or_else(String::new, |licence| format!("license: {licence}\n")),
            self.card.model
        )
    }
}
