//! The recipe of a training run: every hyperparameter with its documentation, default and range.
//!
//! It is both the parameters of `train` and what the trainer uses, so a new hyperparameter is a field here and its use.

use hamflow_stage_api::{ParamError, near_miss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ml::augment::Augmentation;
use crate::ml::device::Device;
use crate::ml::loss::Loss;
use crate::ml::mixup::MIN_ALPHA;
use crate::ml::model::{self, Model};
use crate::ml::precision::Precision;
use crate::ml::schedule::{Curve, Plateau};
use crate::ml::switch::Switch;

/// The maximum α of MixUp.
const MAX_ALPHA: f64 = 2.0;

/// The parameters of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The network architecture (docs/guide/networks.md): `baseline`, `efficientnet-lite0`, `efficientnet-lite1`,
    /// `efficientnet-lite2`, `resnet-18` or `mobilenet-v2`.
    pub model: String,
    /// Number of epochs. Each epoch draws as many images as there are training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: usize,
    /// Number of images per optimisation step.
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: usize,
    /// Learning rate of Adam: the initial one, or the maximum with `schedule = "one-cycle"`.
    #[schemars(range(max = 10), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Random geometric and colour augmentation of training images; `false` disables it.
    pub augment: Switch<Augmentation>,
    /// The α of MixUp (Zhang et al. 2018), which blends pairs of images and their targets; 0 disables it, 0.2 is common.
    pub mixup: f64,
    /// Which images an epoch draws: `shuffled` (each image once) or `balanced` (all classes equally often).
    pub sampling: Sampling,
    /// Weights of the classes in the loss.
    pub class_weights: ClassWeights,
    /// The β of `class_weights = "effective-number"` (Cui et al. 2019).
    #[schemars(range(min = 0, max = 0.999_999))]
    pub effective_number_beta: f64,
    /// Label smoothing: the share of the target that is distributed uniformly over all classes (Szegedy et al. 2016);
    /// 0 disables it.
    #[schemars(range(min = 0, max = 0.9))]
    pub label_smoothing: f64,
    /// The γ of the focal loss (Lin et al. 2017), which down-weights well-classified images; 0 gives plain cross-entropy.
    #[schemars(range(min = 0, max = 10))]
    pub focal_gamma: f64,
    /// Maximum norm of the gradients of a step (Pascanu et al. 2013); 0 disables clipping.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub clip_norm: f64,
    /// Learning rate schedule: `plateau`, `cosine` or `one-cycle`.
    pub schedule: Curve,
    /// Number of epochs over which the learning rate rises linearly from 0.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup_epochs: f64,
    /// With `schedule = "plateau"`: how the learning rate is reduced when validation accuracy stops improving;
    /// `false` keeps it constant.
    pub plateau: Switch<Plateau>,
    /// Stop after this many epochs without an improvement of the validation accuracy; 0 disables early stopping.
    #[schemars(range(max = 1_000_000))]
    pub early_stopping: usize,
    /// Which epoch's weights to keep.
    pub keep: Keep,
    /// Device to compute on: `cpu`, `cuda` (docs/guide/cuda.md), or `auto`, which uses CUDA if it is available.
    pub device: Device,
    /// Precision of the products in convolutions and dense layers: `f32`, or `tf32` and `bf16` with CUDA. Weights are
    /// always f32.
    pub precision: Precision,
    /// The seed of all random numbers. It is no parameter: whoever trains sets it.
    #[serde(skip)]
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: "baseline".to_owned(),
            epochs: 50,
            batch_size: 10,
            learning_rate: 1e-3,
            augment: Switch::default(),
            mixup: 0.0,
            sampling: Sampling::default(),
            class_weights: ClassWeights::default(),
            effective_number_beta: 0.999,
            label_smoothing: 0.0,
            focal_gamma: 0.0,
            clip_norm: 0.0,
            schedule: Curve::default(),
            warmup_epochs: 0.0,
            plateau: Switch::default(),
            early_stopping: 0,
            keep: Keep::default(),
            device: Device::default(),
            precision: Precision::default(),
            seed: 0,
        }
    }
}

impl Recipe {
    /// Rejects values that are unknown or that exclude each other.
    pub fn check(&self) -> Result<(), ParamError> {
        self.model()?;
        self.device.check(self.precision)?;
        let needs_cuda = self.device == Device::Cuda || self.precision != Precision::F32;
        if needs_cuda && !self.is_on_cuda() {
            let name = if self.device == Device::Cuda { "device" } else { "precision" };
            return Err(ParamError::new(name, format!("model `{}` is not available on CUDA yet", self.model))
                .hint("remove `device` and `precision`, or set `model = \"baseline\"`"));
        }
        if self.mixup != 0.0 && !(MIN_ALPHA..=MAX_ALPHA).contains(&self.mixup) {
            let message = format!("`mixup` must be 0, or between {MIN_ALPHA} and {MAX_ALPHA}, not {}", self.mixup);
            return Err(ParamError::new("mixup", message));
        }
        if self.schedule == Curve::OneCycle && self.warmup_epochs > 0.0 {
            return Err(ParamError::new(
                "warmup_epochs",
                "`warmup_epochs` cannot be combined with `one-cycle`, which has its own warm-up",
            )
            .hint("remove `warmup_epochs`, or set `schedule = \"cosine\"`"));
        }
        Ok(())
    }

    /// The network architecture.
    pub fn model(&self) -> Result<&'static Model, ParamError> {
        model::find(&self.model).ok_or_else(|| {
            let error = ParamError::new("model", format!("unknown model `{}`", self.model));
            match near_miss::hint(&self.model, model::MODELS.iter().map(|model| model.name)) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// Whether CUDA has all operations of the model.
    pub fn is_on_cuda(&self) -> bool {
        self.model == "baseline"
    }

    /// The plateau parameters, if the schedule uses them.
    pub fn followed_plateau(&self) -> Option<Plateau> {
        self.plateau.0.filter(|_| self.schedule == Curve::Plateau)
    }

    /// The loss function.
    pub fn loss(&self) -> Loss {
        Loss { label_smoothing: self.label_smoothing, focal_gamma: self.focal_gamma }
    }
}

/// Which training images an epoch draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every image once, in random order.
    #[default]
    Shuffled,
    /// As many images as there are, with classes drawn uniformly at random.
    Balanced,
}

/// Which epoch's weights to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The epoch with the highest validation accuracy; the first one in a tie.
    #[default]
    Best,
    /// The last epoch.
    Last,
}

/// The weights of the classes in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// All images have weight 1.
    #[default]
    None,
    /// An image has weight rows / (classes · rows of its class), so that classes contribute equally, as in scikit-learn.
    Balanced,
    /// Weights by the effective number of samples (Cui et al., CVPR 2019): an image has weight (1 − β) / (1 − βⁿ) for
    /// the n images of its class, scaled so that the weights of the classes with images have a mean of 1.
    EffectiveNumber,
}
