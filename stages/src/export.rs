//! The kind `export`: a model for other programs, as ONNX and as a folder for the Hugging Face Hub.

mod hugging_face;
mod onnx;
mod proto;

use hamflow_stage_api::{ArtifactType, Kind, KindSpec, Output, ParamError, Port, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::ml::card::{self, Member};

/// Incremented whenever equal inputs produce different results.
const REVISION: u32 = 1;

/// Exports a model.
pub struct Export;

/// The parameters of `export`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportParams {
    /// The licence in the front matter of the model card, as an identifier of the Hub such as `cc-by-nc-4.0`; none if it is
    /// not set.
    licence: Option<String>,
}

impl Kind for Export {
    type Params = ExportParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![Port::new("model", artifact::MODEL, "The model to export.")];
        let summary = "Writes a model as ONNX and as a folder for the Hugging Face Hub.";
        KindSpec::new("export", REVISION, summary, ports)
    }

    fn check(&self, params: &ExportParams) -> Result<(), ParamError> {
        let is_identifier = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let Some(licence) = &params.licence else { return Ok(()) };
        match !licence.is_empty() && licence.bytes().all(is_identifier) {
            true => Ok(()),
            false => Err(ParamError::new("licence", format!("`{licence}` is not a licence identifier"))
                .hint("for example `cc-by-nc-4.0`")),
        }
    }

    fn outputs(&self, _params: &ExportParams) -> Vec<Output> {
        vec![
            Output::new("onnx", ArtifactType::FILE, "model.onnx"),
            Output::new("hugging_face", ArtifactType::FOLDER, hugging_face::FOLDER),
        ]
    }

    fn run(&self, params: &ExportParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let input = context.input("model")?;
        let (_, mut members) = card::load(input)?;
        let Member { card, network, weights } = match members.len() {
            1 => members.remove(0),
            count => {
                let message =
                    format!("`{}` is an ensemble of {count} networks, which has no equivalent in ONNX", input.name);
                return Err(StageError::input(message).hint("export its members"));
            }
        };
        let onnx = onnx::encode(&card, &network, &weights)
            .map_err(|problem| StageError::input(format!("cannot export `{}`: {problem}", input.name)))?;
        context.write("model.onnx", &onnx)?;
        let readme = input.member("README.md").ok().map(|file| file.read()).transpose()?;
        hugging_face::write(
            context,
            &hugging_face::Export {
                card: &card,
                network: &network,
                weights: &weights,
                readme,
                licence: params.licence.as_deref(),
            },
        )
    }
}

#[cfg(test)]
mod tests;
