//! The recipe of a training run: every hyperparameter with its documentation, default and range.
//!
//! It is both the parameters of `train` and what the trainer uses, so a new hyperparameter is a field here and its use.

use std::collections::BTreeMap;

use hamflow_stage_api::{ParamError, near_miss};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::augment::Augmentation;
use crate::device::Device;
use crate::examples::{RowWeights, Selection};
use crate::loss::Loss;
use crate::metric::{Direction, METRICS, Metric};
use crate::mixup::MIN_ALPHA;
use crate::model::{self, Model};
use crate::optim::{OptimiserConfig, OptimiserKind};
use crate::precision::Precision;
use crate::schedule::{Curve, Plateau};
use crate::switch::Switch;

/// The maximum α of MixUp.
const MAX_ALPHA: f64 = 2.0;

/// The parameters of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    #[schemars(schema_with = "models")]
    pub model: String,
    /// Number of epochs. Each epoch draws as many images as there are training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: usize,
    /// Number of images per optimisation step.
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: usize,
    /// Learning rate: the initial one, or the maximum with `schedule = "one-cycle"`.
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
    /// The optimiser; `adam` by default.
    #[serde(skip_serializing_if = "is_default")]
    pub optimiser: OptimiserKind,
    /// Weight decay of AdamW and SGD, for weights with two or more dimensions (Loshchilov, Hutter 2019).
    #[schemars(range(min = 0, max = 10))]
    #[serde(skip_serializing_if = "is_default")]
    pub weight_decay: f64,
    /// Momentum of SGD; 0.9 by default.
    #[schemars(range(min = 0, max = 0.9999))]
    #[serde(skip_serializing_if = "is_usual_momentum")]
    pub momentum: f64,
    /// Decay of a moving average of the weights, which is validated and kept in place of the last weights (Polyak, Juditsky
    /// 1992); 0 disables it, 0.999 is common.
    #[schemars(range(min = 0, max = 0.999_999))]
    #[serde(skip_serializing_if = "is_default")]
    pub ema: f64,
    /// The τ of the logit-adjusted loss (Menon et al. 2021): adds τ times the logarithm of a class's share of the training
    /// images to its logit during training, so that the model gives every class the same prior; 0 disables it, 1 is common.
    #[schemars(range(min = 0, max = 10))]
    #[serde(skip_serializing_if = "is_default")]
    pub logit_adjustment: f64,
    /// The α of CutMix (Yun et al. 2019), which pastes a rectangle of one image into another and mixes their targets; 0
    /// disables it, 1 is common. With MixUp too, each step draws one of them.
    #[serde(skip_serializing_if = "is_default")]
    pub cutmix: f64,
    /// Weights of rows in the loss by the value of a column (Gessert et al. 2019):
    /// `{ column = "dx_type", values = { histo = 1.5 } }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_weights: Option<RowWeights>,
    /// Cross-validation: the fold whose rows are for validation; all other rows outside the test split are for training.
    /// The split needs `folds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<u32>,
    /// The metric on the validation images that chooses the epoch, and that `plateau` and `early_stopping` follow: the name
    /// of any metric of `evaluate`, such as `balanced_accuracy`; `accuracy` by default.
    #[serde(skip_serializing_if = "is_accuracy")]
    pub keep_metric: String,
    /// Layers that do not train: names such as `blocks.0`, or beginnings of names that end before a dot. Their batch
    /// normalisation uses its running statistics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Factors of the learning rate for layers, by name as in `freeze`; `head` is the last dense layer. The longest name that
    /// fits counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rate_factors: BTreeMap<String, f64>,
    /// Gradual unfreezing (Howard, Ruder 2018): the head trains from the first epoch, and after this many epochs at a time
    /// the next block towards the image joins; 0 trains everything from the start.
    #[schemars(range(max = 1_000_000))]
    #[serde(skip_serializing_if = "is_default")]
    pub unfreeze_epochs: usize,
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
            optimiser: OptimiserKind::default(),
            weight_decay: 0.0,
            momentum: USUAL_MOMENTUM,
            ema: 0.0,
            logit_adjustment: 0.0,
            cutmix: 0.0,
            row_weights: None,
            fold: None,
            keep_metric: ACCURACY.to_owned(),
            freeze: Vec::new(),
            rate_factors: BTreeMap::new(),
            unfreeze_epochs: 0,
            seed: 0,
        }
    }
}

/// The schema of the name of a model, from the table of models.
fn models(_: &mut SchemaGenerator) -> Schema {
    let each = model::MODELS.iter().map(|model| format!("`{}` ({})", model.name, model.summary));
    let description =
        format!("The network architecture (docs/guide/networks.md): {}.", each.collect::<Vec<_>>().join("; "));
    json_schema!({ "description": description, "type": "string" })
}

const USUAL_MOMENTUM: f64 = 0.9;

const ACCURACY: &str = "accuracy";

/// Parameters that came later are left out of the key at their defaults, so that older results stay valid.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_usual_momentum(value: &f64) -> bool {
    *value == USUAL_MOMENTUM
}

fn is_accuracy(name: &str) -> bool {
    name == ACCURACY
}

impl Recipe {
    /// Rejects values that are unknown or that exclude each other.
    pub fn check(&self) -> Result<(), ParamError> {
        self.model()?;
        self.device.check(self.precision)?;
        for (name, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if alpha != 0.0 && !(MIN_ALPHA..=MAX_ALPHA).contains(&alpha) {
                let message = format!("`{name}` must be 0, or between {MIN_ALPHA} and {MAX_ALPHA}, not {alpha}");
                return Err(ParamError::new(name, message));
            }
        }
        self.metric()?;
        if self.logit_adjustment > 0.0 && self.sampling == Sampling::Balanced {
            return Err(ParamError::new(
                "logit_adjustment",
                "`logit_adjustment` cannot be combined with `sampling = \"balanced\"`, which evens out the classes already",
            )
            .hint("remove one of them"));
        }
        if let Some((name, factor)) = self.rate_factors.iter().find(|(_, factor)| !(0.0..=1000.0).contains(*factor)) {
            let message = format!("`rate_factors.{name}` must be between 0 and 1000, not {factor}");
            return Err(ParamError { path: vec!["rate_factors".to_owned(), name.clone()], message, hint: None });
        }
        let weights = self.row_weights.iter().flat_map(|weights| &weights.values);
        if let Some((value, weight)) = weights.into_iter().find(|(_, weight)| !(0.0..=1000.0).contains(*weight)) {
            let message = format!("`row_weights.values.{value}` must be between 0 and 1000, not {weight}");
            return Err(ParamError::new("row_weights", message));
        }
        if self.weight_decay > 0.0 && self.optimiser == OptimiserKind::Adam {
            return Err(ParamError::new("weight_decay", "`weight_decay` has no effect with Adam")
                .hint("set `optimiser = \"adam-w\"`"));
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

    /// The decay of the average of the weights in a step, 1-based; `None` if there is no average.
    pub fn average_decay(&self, step: u64) -> Option<f64> {
        // The first steps count fully, so that the average does not remember the initial weights.
        (self.ema > 0.0).then(|| self.ema.min((1 + step) as f64 / (10 + step) as f64))
    }

    /// The metric that chooses the epoch.
    pub fn metric(&self) -> Result<&'static Metric, ParamError> {
        let usable = || METRICS.iter().filter(|metric| metric.direction != Direction::Neither);
        usable().find(|metric| metric.name == self.keep_metric).ok_or_else(|| {
            let message = format!("`keep_metric` cannot be `{}`", self.keep_metric);
            let names = || usable().map(|metric| metric.name);
            let hint = near_miss::hint(&self.keep_metric, names());
            let all = || format!("available: `{}`", names().collect::<Vec<_>>().join("`, `"));
            ParamError::new("keep_metric", message).hint(hint.unwrap_or_else(all))
        })
    }

    /// Whether a higher value of the metric that chooses the epoch is better.
    pub fn prefers_higher_scores(&self) -> bool {
        self.metric().is_ok_and(|metric| metric.direction == Direction::Higher)
    }

    /// How rows are chosen and weighted.
    pub fn selection(&self) -> Selection<'_> {
        Selection { weights: self.row_weights.as_ref(), fold: self.fold }
    }

    /// The optimiser with its options.
    pub fn optimiser_config(&self) -> OptimiserConfig {
        OptimiserConfig { kind: self.optimiser, weight_decay: self.weight_decay, momentum: self.momentum }
    }

    /// What is added to the logit of each class in the loss, given the classes of the training images; empty for nothing.
    ///
    /// A class without images counts as if it had one.
    pub fn logit_offsets(&self, classes: &[usize], count: usize) -> Vec<f32> {
        if self.logit_adjustment == 0.0 {
            return Vec::new();
        }
        let rows = |class: usize| classes.iter().filter(|other| **other == class).count().max(1);
        let share = |class: usize| rows(class) as f64 / classes.len() as f64;
        (0..count).map(|class| (self.logit_adjustment * libm::log(share(class))) as f32).collect()
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
    /// The epoch with the best validation accuracy, or other `keep_metric`; the first one in a tie.
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
