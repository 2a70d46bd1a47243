//! The kind `gradcam`: heat maps of the most confident predictions, and how well they localise the lesion.

mod localisation;
pub(crate) mod pictures;
mod rows;

use std::collections::BTreeMap;
use std::fmt::Write;

use hamflow_stage_api::{
    Access, ArtifactType, Devices, Kind, KindSpec, Output, ParamError, Planning, Port, StageContext, StageError, View,
    Views,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::localisation::{Localisation, Masks};
use self::rows::Row;
use crate::artifact;
use crate::image_names::ImageNames;
use crate::json;
use crate::ml::backend::Choice;
use crate::ml::classifier::Classifier;
use crate::ml::device::{self, Device};
use crate::ml::precision::Precision;
use crate::shard::{self, ShardReader};

/// The number of images per batch.
const BATCH: usize = 64;

/// Explains predictions with Grad-CAM.
pub struct GradCam;

/// The parameters of `gradcam`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GradCamParams {
    /// The split whose predictions are explained.
    split: String,
    /// Number of examples per class: that many of the most confident correct predictions, and as many wrong ones.
    examples: usize,
    /// Device to compute on: `cpu`, `cuda` (docs/guide/cuda.md), or `auto`, which uses CUDA if it is available.
    #[serde(skip_serializing_if = "is_default")]
    device: Device,
    /// Precision of the products: `f32`, or `tf32` and `bf16` with CUDA.
    #[serde(skip_serializing_if = "is_default")]
    precision: Precision,
}

/// Parameters that came later are left out of the key at their defaults.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for GradCamParams {
    fn default() -> Self {
        Self { split: "test".to_owned(), examples: 2, device: Device::default(), precision: Precision::default() }
    }
}

impl GradCamParams {
    fn choice(&self) -> Choice {
        Choice { device: self.device, precision: self.precision }
    }

    fn check(&self) -> Result<(), ParamError> {
        if !crate::dataset::SPLITS.contains(&self.split.as_str()) {
            let error = ParamError::new("split", format!("unknown split `{}`", self.split));
            return Err(error.hint(crate::evaluate::split_hint(&self.split)));
        }
        self.device.check(self.precision)?;
        if !(1..=50).contains(&self.examples) {
            return Err(ParamError::new(
                "examples",
                format!("`examples` must be between 1 and 50, not {}", self.examples),
            ));
        }
        Ok(())
    }
}

/// Incremented whenever equal inputs produce different figures or metrics.
///
/// 4: masks of labels (0 and 1) and palettes are masks, too.
/// 3: JPEGs of unusual structures are decoded as libjpeg-turbo does, or refused.
/// 2: shards whose preprocessing differs from the model's are rejected.
/// 1: first revision.
const REVISION: u32 = 4;

impl Kind for GradCam {
    type Params = GradCamParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("model", artifact::MODEL, "The model to explain."),
            Port::new("shards", artifact::SHARDS, "The tensors of the images.").access(Access::View),
            Port::new("predictions", artifact::PREDICTIONS, "The model's predictions for them."),
            Port::new("images", artifact::IMAGES, "The original images, for the figures.")
                .or_external()
                .access(Access::View),
            Port::new(
                "masks",
                artifact::IMAGES,
                "A folder of lesion masks, named `IMAGE_ID_segmentation` or `IMAGE_ID`: lesion pixels are white, or brighter than the others (docs/guide/datasets.md).",
            )
            .or_external()
            .optional()
            .access(Access::View),
        ];
        let summary = "Draws Grad-CAM heat maps and measures how well they localise the lesion.";
        KindSpec::new("gradcam", REVISION, summary, ports)
    }

    fn check(&self, params: &GradCamParams) -> Result<(), ParamError> {
        params.check()
    }

    fn outputs(&self, _params: &GradCamParams) -> Vec<Output> {
        vec![
            Output::new("overlays", artifact::FIGURES, "overlays"),
            Output::new("localisation", ArtifactType::METRICS, "localisation.json"),
        ]
    }

    fn devices(&self) -> Option<&dyn Devices<GradCamParams>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<GradCamParams>> {
        Some(self)
    }

    fn run(&self, params: &GradCamParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let mut classifier = Classifier::load(context.input("model")?)?;
        classifier.compute_on(params.choice(), |note| context.note(note), |why| context.warn(why))?;
        let shards = ShardReader::open(context.input("shards")?)?;
        classifier.require_its_images(&shards)?;
        let rows = rows::read(context.input("predictions")?, &params.split)?;
        if rows.is_empty() {
            context.warn(format!("split `{}` has no predictions to explain", params.split));
        }
        let masks = context.inputs().optional("masks").map(|input| Masks::new(input, &classifier)).transpose()?;
        let examples = rows::examples(&rows, params.examples);
        let is_shown = |row: &Row| examples.iter().any(|(_, rows)| rows.iter().any(|shown| shown.place == row.place));
        // Without masks, only the shown rows are needed.
        let looked_at: Vec<&Row> = rows.iter().filter(|row| masks.is_some() || is_shown(row)).collect();

        let mut localisation = Localisation::default();
        let mut shown = BTreeMap::new();
        let mut done = 0;
        for batch in looked_at.chunks(BATCH) {
            let of_row = |row: &&Row| Ok((shards.tensor(&row.image_id)?, rows::class(&classifier, &row.predicted)?));
            let images = batch.iter().map(of_row).collect::<Result<Vec<(&[u8], usize)>, StageError>>()?;
            for (row, heat) in batch.iter().zip(classifier.heat_maps(&images, context.threads())?) {
                if let Some(masks) = &masks {
                    localisation.add(&row.label, &heat, masks.read(&row.image_id)?.as_ref());
                }
                if is_shown(row) {
                    shown.insert(row.place, heat);
                }
            }
            done += batch.len() as u64;
            context.progress(done, looked_at.len() as u64, "images", "");
        }

        // The folder must exist even if there are no figures.
        let folder = context.output_file("overlays")?;
        std::fs::create_dir_all(&folder).map_err(|source| StageError::io("create", &folder, &source))?;
        let images = ImageNames::new(context.input("images")?)?;
        for (name, figure) in pictures::figures(&classifier, &examples, &shown, &images, masks.as_ref())? {
            let svg = figure.draw().map_err(|error| StageError::bug(error.problem))?;
            context.write(&format!("overlays/{name}.svg"), svg.file().as_bytes())?;
            context.write(&format!("overlays/{name}.json"), &figure.json())?;
        }
        let labels: Vec<&str> = classifier.classes().iter().map(|class| class.label.as_str()).collect();
        let measured = localisation.metrics(rows.len(), &labels, masks.is_some());
        if masks.is_some() && measured.all.without_mask == rows.len() && !rows.is_empty() {
            let names = "masks must be named `IMAGE_ID_segmentation` or `IMAGE_ID`, with white lesion pixels";
            context.warn(format!("none of {} images has a usable mask; {names}", rows.len()));
        }
        context.write("localisation.json", &json::write(&BTreeMap::from([(&params.split, measured)]))?)
    }
}

impl Devices<GradCamParams> for GradCam {
    fn class(&self, params: &GradCamParams) -> Result<Option<String>, ParamError> {
        params.choice().inference_class()
    }

    fn evidence(&self) -> Option<String> {
        Some(device::evidence())
    }

    fn accepts_others(&self, _params: &GradCamParams) -> bool {
        true
    }
}

impl Views<GradCamParams> for GradCam {
    fn project(&self, params: &GradCamParams, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        let rows = rows::read(planning.inputs.one("predictions")?, &params.split)?;
        let images = ImageNames::new(planning.inputs.one("images")?)?;
        let mut shown = String::new();
        for row in rows::examples(&rows, params.examples).into_iter().flat_map(|(_, rows)| rows) {
            if let Some(file) = images.find(&row.image_id)? {
                let _ = writeln!(shown, "{}\t{}", row.image_id, file.digest);
            }
        }
        let of = &params.split;
        let tensors = View { name: format!("tensors of the {of} rows"), text: tensors(planning, &rows)? };
        let mut views = vec![tensors, View { name: "the images that are shown".to_owned(), text: shown }];
        if let Some(masks) = planning.inputs.optional("masks") {
            let names = ImageNames::new(masks)?;
            let mut text = String::new();
            for row in &rows {
                if let Some(file) = localisation::mask_of(&names, &row.image_id)? {
                    let _ = writeln!(text, "{}\t{}", row.image_id, file.digest);
                }
            }
            views.push(View { name: format!("masks of the {of} rows"), text });
        }
        Ok(views)
    }
}

fn tensors(planning: Planning<'_>, rows: &[Row]) -> Result<String, StageError> {
    let index = shard::read_index(planning.inputs.one("shards")?.member(shard::INDEX_NAME)?)?;
    let digests: BTreeMap<&str, &str> = index.iter().map(|row| (row.image_id.as_str(), row.digest.as_str())).collect();
    let mut text = String::new();
    for row in rows {
        if let Some(digest) = digests.get(row.image_id.as_str()) {
            let _ = writeln!(text, "{}\t{digest}", row.image_id);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
