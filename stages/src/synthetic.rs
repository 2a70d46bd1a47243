//! The kind `synthetic`: generates a data set in the layout of HAM10000.

mod cohort;

use std::sync::atomic::{AtomicU64, Ordering};

use hamflow_stage_api::{Kind, KindSpec, Output, Random, StageContext, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact;
use cohort::{Case, Cohort, Photo};
use hamflow_kernels::imaging::{Lesion, encode_jpeg};

/// Incremented whenever an equal seed produces a different data set.
///
/// 2: every row of the metadata is marked as synthetic.
/// 1: first revision.
const REVISION: u32 = 2;

const METADATA: &str = "HAM10000_metadata.csv";
const IMAGES: &str = "images";

/// Generates metadata and images of synthetic lesions.
pub struct Synthetic;

/// The parameters of `synthetic`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticParams {
    /// Number of images (default 1400). There are about three quarters as many lesions.
    #[schemars(range(min = 100, max = 1_000_000))]
    images: u32,
    /// Height of the images in pixels.
    #[schemars(range(min = 16, max = 4096))]
    height: u32,
    /// Width of the images in pixels (default 200).
    #[schemars(range(min = 16, max = 4096))]
    width: u32,
    /// Quality of the JPEG files (default 80).
    #[schemars(range(min = 1, max = 100))]
    quality: u8,
}

impl Default for SyntheticParams {
    fn default() -> Self {
        Self { images: 1400, height: 150, width: 200, quality: 80 }
    }
}

impl Kind for Synthetic {
    type Params = SyntheticParams;

    fn spec(&self) -> KindSpec {
        let summary = "Generates a data set in the layout of HAM10000, for the demo, tests and benchmarks.";
        KindSpec { seeded: true, ..KindSpec::new("synthetic", REVISION, summary, Vec::new()) }
    }

    fn outputs(&self, _params: &SyntheticParams) -> Vec<Output> {
        vec![Output::new("metadata", artifact::CSV, METADATA), Output::new("images", artifact::IMAGES, IMAGES)]
    }

    fn run(&self, params: &SyntheticParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let seed = context.seed()?;
        let cohort = Cohort::new(params.images as usize, &mut Random::new(seed, "cohort"));
        context.write(METADATA, cohort.csv().as_bytes())?;
        let total = u64::from(params.images);
        let done = AtomicU64::new(0);
        let draw = |(case, photo): (&Case, &Photo)| -> Result<(), StageError> {
            let mut traits = Random::new(seed, &format!("lesion {}", case.lesion_id));
            let lesion = Lesion::new(case.diagnosis, &mut traits);
            let mut scene = Random::new(seed, &format!("view {}", photo.drawn_as));
            let image = lesion.view(params.width, params.height, &mut scene);
            let (width, height) = (image.width() as usize, image.height() as usize);
            let jpeg = encode_jpeg(image.as_raw(), width, height, params.quality)?;
            context.write(&format!("{IMAGES}/{}", cohort.path(photo)), &jpeg)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(50) || done == total {
                context.progress(done, total, "images", "");
            }
            Ok(())
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(context.threads())
            .build()
            .map_err(|error| StageError::failed(format!("cannot start threads: {error}")))?;
        let photos: Vec<(&Case, &Photo)> = cohort.photos().collect();
        pool.install(|| photos.into_par_iter().try_for_each(draw))
    }
}

#[cfg(test)]
mod tests;
