//! The kind `eda`: figures and findings for exploratory data analysis.

mod figures;
mod findings;
mod rows;
mod statistics;

use hamflow_stage_api::{ArtifactType, Columns, Kind, KindSpec, Output, Port, StageContext, StageError, Threads};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rows::Rows;
use crate::artifact;
use crate::image_names::ImageNames;
use crate::json;

/// Explores the table and the images.
pub struct Eda;

/// The parameters of `eda`: none yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EdaParams {}

/// Incremented whenever equal inputs produce different figures.
///
/// 3: columns without values are left out.
/// 2: JPEGs of unusual structures are decoded as libjpeg-turbo does, or refused.
/// 1: first revision.
const REVISION: u32 = 3;

impl Kind for Eda {
    type Params = EdaParams;

    fn spec(&self) -> KindSpec {
        let table =
            Port::new("table", ArtifactType::TABLE, "The table of `metadata`, before missing values are filled in.");
        let images = Port::new("images", artifact::IMAGES, "The image folders.").or_external();
        let summary = "Draws figures of the patients, lesions and images, and computes statistical findings.";
        KindSpec { seeded: true, threads: Threads::One, ..KindSpec::new("eda", REVISION, summary, vec![table, images]) }
    }

    fn outputs(&self, _params: &EdaParams) -> Vec<Output> {
        vec![
            Output::new("figures", artifact::FIGURES, "figures"),
            Output::new("findings", artifact::SUMMARY, "findings.json"),
        ]
    }

    fn columns(&self) -> Option<&dyn Columns<EdaParams>> {
        Some(self)
    }

    fn run(&self, _params: &EdaParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let rows = Rows::read(context.input("table")?)?;
        let images = ImageNames::new(context.input("images")?)?;
        for (name, figure) in figures::figures(&rows, &images, context.seed()?)? {
            let svg = figure.draw().map_err(|error| StageError::bug(error.problem))?;
            context.write(&format!("figures/{name}.svg"), svg.file().as_bytes())?;
            context.write(&format!("figures/{name}.json"), &figure.json())?;
        }
        context.write("findings.json", &json::write(&findings::findings(&rows, &images)?)?)
    }
}

impl Columns<EdaParams> for Eda {
    fn read(&self, _params: &EdaParams) -> Vec<(&'static str, String)> {
        rows::COLUMNS.map(|column| ("table", column.to_owned())).to_vec()
    }
}

#[cfg(test)]
mod tests;
