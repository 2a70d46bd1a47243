//! The parameters of `evaluate`.

use hamflow_stage_api::{ParamError, StageError, near_miss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::SPLITS;
use crate::ml::backend::Choice;
use crate::ml::device::Device;
use crate::ml::metric::MALIGNANT;
use crate::ml::precision::Precision;
use crate::ml::tta::VIEW_COUNTS;

/// The parameters of `evaluate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateParams {
    /// The splits to evaluate: `train`, `validation`, `test`.
    pub splits: Vec<String>,
    /// Number of images per forward pass. Larger batches need more memory; the results are the same.
    pub batch_size: usize,
    /// Number of views of each image whose probabilities are averaged (test-time augmentation): 1, 2 with the horizontal
    /// flip, 4 with both flips, 8 with quarter turns.
    #[serde(skip_serializing_if = "is_one")]
    pub tta: usize,
    /// The labels of the malignant classes; by default those of `mel`, `bcc`, `akiec` and `scc` that the model has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malignant: Option<Vec<String>>,
    /// Device to predict on: `cpu`, `cuda` (docs/guide/cuda.md), or `auto`, which uses CUDA if it is available.
    #[serde(skip_serializing_if = "is_default")]
    pub device: Device,
    /// Precision of the products: `f32`, or `tf32` and `bf16` with CUDA.
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Number of bootstrap resamples of the lesions for the 95 % confidence intervals; 0 for no intervals.
    pub bootstrap: usize,
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self {
            splits: vec!["validation".to_owned(), "test".to_owned()],
            batch_size: 64,
            tta: 1,
            malignant: None,
            device: Device::default(),
            precision: Precision::default(),
            bootstrap: 1000,
        }
    }
}

/// Parameters that came later are left out of the key at their defaults.
fn is_one(value: &usize) -> bool {
    *value == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl EvaluateParams {
    /// The device.
    pub fn choice(&self) -> Choice {
        Choice { device: self.device, precision: self.precision }
    }

    /// Rejects parameters that contradict themselves.
    pub fn check(&self) -> Result<(), ParamError> {
        if self.splits.is_empty() {
            return Err(ParamError::new("splits", "`splits` must not be empty")
                .hint("the default is `[\"validation\", \"test\"]`"));
        }
        for (i, split) in self.splits.iter().enumerate() {
            if !SPLITS.contains(&split.as_str()) {
                return Err(ParamError::new("splits", format!("unknown split `{split}`")).hint(split_hint(split)));
            }
            if self.splits[..i].contains(split) {
                return Err(ParamError::new("splits", format!("duplicate split `{split}`")));
            }
        }
        if self.batch_size == 0 {
            return Err(ParamError::new("batch_size", "`batch_size` must be at least 1"));
        }
        if !VIEW_COUNTS.contains(&self.tta) {
            return Err(ParamError::new("tta", format!("`tta` must be 1, 2, 4 or 8, not {}", self.tta)));
        }
        if self.malignant.as_ref().is_some_and(Vec::is_empty) {
            return Err(ParamError::new("malignant", "`malignant` must not be empty")
                .hint("without it, the known malignant classes count"));
        }
        self.device.check(self.precision)?;
        if self.bootstrap > 10_000 {
            return Err(ParamError::new("bootstrap", "`bootstrap` must be at most 10000")
                .hint("1000 resamples determine two digits of an interval"));
        }
        Ok(())
    }
}

/// The hint for an unknown split.
pub fn split_hint(name: &str) -> String {
    near_miss::hint(name, SPLITS).unwrap_or_else(|| format!("available: `{}`", SPLITS.join("`, `")))
}

impl EvaluateParams {
    /// The malignant classes among those of the model.
    pub fn malignant_of(&self, labels: &[String]) -> Result<Vec<String>, StageError> {
        let Some(declared) = &self.malignant else {
            return Ok(labels.iter().filter(|label| MALIGNANT.contains(&label.as_str())).cloned().collect());
        };
        match declared.iter().find(|label| !labels.contains(label)) {
            None => Ok(declared.clone()),
            Some(label) => {
                let error =
                    StageError::input(format!("`malignant` names `{label}`, which is not a class of the model"));
                Err(StageError { hint: near_miss::hint(label, labels.iter().map(String::as_str)), ..error })
            }
        }
    }
}
