//! The kind `train`: trains a network on the training rows and selects the best epoch by the validation rows.

mod checkpoint;
mod pictures;
mod progress;

use std::collections::BTreeMap;

use hamflow_stage_api::{
    Access, ArtifactType, Classify, Columns, Devices, Input, Kind, KindSpec, Listener, Output, ParamError, Planning,
    Port, StageContext, StageError, View, Views, near_miss,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dataset::Class;
use crate::json;
use crate::ml::augment::Augmentation;
use crate::ml::card::{self, Card, Training, encode_weights};
use crate::ml::classifier::thread_pool;
use crate::ml::device::Device;
use crate::ml::examples::{self, Examples, Role};
use crate::ml::loss::Loss;
use crate::ml::mixup::MIN_ALPHA;
use crate::ml::model::{self, Model};
use crate::ml::network::Network;
use crate::ml::normalisation::Normalisation;
use crate::ml::precision::Precision;
use crate::ml::schedule::{Curve, Plateau};
use crate::ml::shape::MapShape;
use crate::ml::switch::Switch;
use crate::ml::trainer::{ClassWeights, Data, Keep, Recipe, Samples, Sampling, Trained, Trainer};
use crate::model_card::ModelCard;
use crate::predict;
use crate::shard::{INDEX_NAME, ShardReader, read_index};
use checkpoint::Checkpoint;
use progress::ProgressReporter;

/// Incremented whenever equal inputs produce a different model.
///
/// 3: the card records how the epoch was selected and whether the images are synthetic; a class without rows has weight 1.
/// 2: the first numbered revision.
const REVISION: u32 = 3;

/// The kind `train`.
pub struct Train;

/// The parameters of `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainParams {
    /// The network architecture: `baseline` has two blocks of two 3×3 convolutions and two dense layers.
    model: String,
    /// Number of epochs. Each epoch draws as many images as there are training images.
    epochs: usize,
    /// Number of images per optimisation step.
    batch_size: usize,
    /// Learning rate of Adam: the initial one, or the maximum with `schedule = "one-cycle"`.
    learning_rate: f64,
    /// Random geometric and colour augmentation of training images; `false` disables it.
    augment: Switch<Augmentation>,
    /// The α of MixUp (Zhang et al. 2018), which blends pairs of images and their targets; 0 disables it, 0.2 is common.
    mixup: f64,
    /// Which images an epoch draws: `shuffled` (each image once) or `balanced` (all classes equally often).
    sampling: Sampling,
    /// Weights of the classes in the loss.
    class_weights: ClassWeights,
    /// The β of `class_weights = "effective-number"` (Cui et al. 2019).
    effective_number_beta: f64,
    /// Label smoothing: the share of the target that is distributed uniformly over all classes (Szegedy et al. 2016);
    /// 0 disables it.
    label_smoothing: f64,
    /// The γ of the focal loss (Lin et al. 2017), which down-weights well-classified images; 0 gives plain cross-entropy.
    focal_gamma: f64,
    /// Maximum norm of the gradients of a step (Pascanu et al. 2013); 0 disables clipping.
    clip_norm: f64,
    /// Learning rate schedule: `plateau`, `cosine` or `one-cycle`.
    schedule: Curve,
    /// Number of epochs over which the learning rate rises linearly from 0.
    warmup_epochs: f64,
    /// With `schedule = "plateau"`: how the learning rate is reduced when validation accuracy stops improving;
    /// `false` keeps it constant.
    plateau: Switch<Plateau>,
    /// Stop after this many epochs without an improvement of the validation accuracy; 0 disables early stopping.
    early_stopping: usize,
    /// Which epoch's weights to keep.
    keep: Keep,
    /// Device to compute on: `cpu`, `cuda` (docs/guide/cuda.md), or `auto`, which uses CUDA if it is available.
    device: Device,
    /// Precision of the products in convolutions and dense layers: `f32`, or `tf32` and `bf16` with CUDA. Weights are
    /// always f32.
    precision: Precision,
}

impl Default for TrainParams {
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
        }
    }
}

impl TrainParams {
    fn check(&self) -> Result<(), ParamError> {
        self.model()?;
        self.device.check(self.precision)?;
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let wanted = match low {
                f64::MIN_POSITIVE => format!("be greater than 0 and at most {high}"),
                MIN_ALPHA => format!("be 0, or between {low} and {high}"),
                _ => format!("be between {low} and {high}"),
            };
            Err(ParamError::new(name, format!("`{name}` must {wanted}, not {value}")))
        };
        within("epochs", self.epochs as f64, 1.0, 1e6)?;
        within("batch_size", self.batch_size as f64, 1.0, 4096.0)?;
        within("learning_rate", self.learning_rate, f64::MIN_POSITIVE, 10.0)?;
        within("mixup", self.mixup, if self.mixup == 0.0 { 0.0 } else { MIN_ALPHA }, 2.0)?;
        within("effective_number_beta", self.effective_number_beta, 0.0, 0.999_999)?;
        within("label_smoothing", self.label_smoothing, 0.0, 0.9)?;
        within("focal_gamma", self.focal_gamma, 0.0, 10.0)?;
        within("clip_norm", self.clip_norm, 0.0, 1e6)?;
        within("warmup_epochs", self.warmup_epochs, 0.0, 1e6)?;
        within("early_stopping", self.early_stopping as f64, 0.0, 1e6)?;
        if self.schedule == Curve::OneCycle && self.warmup_epochs > 0.0 {
            return Err(ParamError::new(
                "warmup_epochs",
                "`warmup_epochs` cannot be combined with `one-cycle`, which has its own warm-up",
            )
            .hint("remove `warmup_epochs`, or set `schedule = \"cosine\"`"));
        }
        if let Some(Augmentation { rotation, zoom, shift, brightness, contrast, saturation, .. }) = self.augment.0 {
            within("augment.rotation", rotation, 0.0, 180.0)?;
            within("augment.zoom", zoom, 0.0, 0.9)?;
            within("augment.shift", shift, 0.0, 1.0)?;
            within("augment.brightness", brightness, 0.0, 1.0)?;
            within("augment.contrast", contrast, 0.0, 1.0)?;
            within("augment.saturation", saturation, 0.0, 1.0)?;
        }
        if let Some(Plateau { patience, factor, min_learning_rate }) = self.plateau.0 {
            within("plateau.patience", f64::from(patience), 1.0, 1e6)?;
            within("plateau.factor", factor, f64::MIN_POSITIVE, 0.99)?;
            within("plateau.min_learning_rate", min_learning_rate, 0.0, 10.0)?;
        }
        Ok(())
    }

    fn model(&self) -> Result<&'static Model, ParamError> {
        model::find(&self.model).ok_or_else(|| {
            let error = ParamError::new("model", format!("unknown model `{}`", self.model));
            match near_miss::hint(&self.model, model::MODELS.iter().map(|model| model.name)) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// The plateau parameters, if the schedule uses them.
    fn followed_plateau(&self) -> Option<Plateau> {
        self.plateau.0.filter(|_| self.schedule == Curve::Plateau)
    }

    fn recipe(&self, seed: u64) -> Recipe {
        Recipe {
            seed,
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            augment: self.augment.0,
            mixup: self.mixup,
            sampling: self.sampling,
            class_weights: self.class_weights,
            effective_number_beta: self.effective_number_beta,
            loss: Loss { label_smoothing: self.label_smoothing, focal: self.focal_gamma },
            clip_norm: self.clip_norm,
            schedule: self.schedule,
            warmup: self.warmup_epochs,
            plateau: self.followed_plateau(),
            early_stopping: self.early_stopping,
            keep: self.keep,
        }
    }
}

impl Kind for Train {
    type Params = TrainParams;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("shards", ArtifactType::Shards, "The images as tensors.").access(Access::View),
            Port::new(
                "split",
                ArtifactType::Table,
                "The table with `split`, `label`, `cell_type` and `cell_type_idx`.",
            )
            .access(Access::View),
        ];
        let summary = "Trains a network on the training rows and selects the best epoch by the validation rows.";
        KindSpec { seeded: true, extendable: &["epochs"], ..KindSpec::new("train", REVISION, summary, ports) }
    }

    fn check(&self, params: &TrainParams) -> Result<(), ParamError> {
        params.check()
    }

    fn outputs(&self, _params: &TrainParams) -> Vec<Output> {
        vec![
            Output::new("model", ArtifactType::Model, card::FOLDER),
            Output::new("history", ArtifactType::History, "history.json"),
            Output::new("summary", ArtifactType::Summary, "summary.json"),
            Output::new("figures", ArtifactType::Figures, "figures"),
        ]
    }

    fn devices(&self) -> Option<&dyn Devices<TrainParams>> {
        Some(self)
    }

    fn columns(&self) -> Option<&dyn Columns<TrainParams>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<TrainParams>> {
        Some(self)
    }

    fn classify(&self, asked: &Classify<'_>, tell: &mut Listener<'_>) -> Result<bool, StageError> {
        predict::classify(asked, tell).map(|()| true)
    }

    fn run(&self, params: &TrainParams, context: &StageContext<'_>) -> Result<(), StageError> {
        let pool = thread_pool(context.threads())?;
        pool.install(|| train(context, params))
    }
}

impl Devices<TrainParams> for Train {
    fn class(&self, params: &TrainParams) -> Result<String, ParamError> {
        params.device.class(params.precision)
    }

    fn accepts_others(&self, _params: &TrainParams) -> bool {
        true
    }
}

impl Columns<TrainParams> for Train {
    fn read(&self, _params: &TrainParams) -> Vec<(&'static str, String)> {
        examples::COLUMNS.map(|column| ("split", column.to_owned())).to_vec()
    }
}

impl Views<TrainParams> for Train {
    fn project(&self, _params: &TrainParams, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        let (rows, images) = examples::view(planning.inputs.one("split")?)?;
        let mut digests = String::new();
        for row in read_index(planning.inputs.one("shards")?.member(INDEX_NAME)?)? {
            if images.contains(&row.image_id) {
                digests.push_str(&format!("{}\t{}\n", row.image_id, row.digest));
            }
        }
        Ok(vec![
            View {
                name: "image_id, label, cell_type, cell_type_idx and split of the training and validation rows".into(),
                text: rows,
            },
            View { name: "tensor digests of the training and validation rows".into(), text: digests },
            View { name: "shape and preprocessing of the images".into(), text: preparation(planning)? },
        ])
    }
}

/// The preprocessing of the images, which is stored in the model and therefore affects its bytes. It is equal for all
/// shards.
fn preparation(planning: Planning<'_>) -> Result<String, StageError> {
    let shards = planning.inputs.one("shards")?;
    let first = shards.files.iter().find(|file| file.path != INDEX_NAME);
    let first = first.ok_or_else(|| StageError::input(format!("`{}` has no shards", shards.name)))?;
    let reader = ShardReader::open(&Input { files: vec![first.clone()], ..shards.clone() })?;
    Ok(format!("shape\t{:?}\npreprocessing\t{}\n", reader.shape(), reader.preprocess()))
}

fn train(context: &StageContext<'_>, params: &TrainParams) -> Result<(), StageError> {
    let split = context.input("split")?;
    let shards = ShardReader::open(context.input("shards")?)?;
    let examples = Examples::read(split, |image| shards.contains(image))?;
    warn_of_gaps(context, &examples);
    if examples.of(Role::Validation).next().is_none() && params.keep == Keep::Best {
        return Err(StageError::input(format!("`{}` has no validation rows to select the best epoch", split.name))
            .hint("set `fractions.validation` of the split, or set `keep = \"last\"`"));
    }
    let network = network(params, shards.shape(), examples.classes.len())?;
    let training = samples(&examples, Role::Training, &shards)?;
    let normalisation = Normalisation::fit(&training.images);
    let validation = samples(&examples, Role::Validation, &shards)?;
    let recipe = params.recipe(context.seed()?);
    let data = Data { training, validation, normalisation };
    let engine = params.device.engine(params.precision, &network, &recipe, &data, |note| context.note(note))?;
    let mut trainer = Trainer::with_engine(&network, recipe, data, engine);
    let class_weights = trainer.class_weights().to_vec();
    let stopped = run_epochs(context, params, &mut trainer, examples.of(Role::Training).count())?;
    let trained = trainer.finish();
    let card = Card {
        format: card::FORMAT,
        model: params.model.clone(),
        layers: network.layers().to_vec(),
        parameters: network.parameter_count(),
        input: network.input(),
        classes: examples.classes.clone(),
        normalisation,
        preprocess: shards.preprocess().clone(),
        training: Training {
            seed: recipe.seed,
            epochs: trained.history.len(),
            epoch: trained.epoch,
            training_rows: examples.of(Role::Training).count(),
            validation_rows: examples.of(Role::Validation).count(),
            chosen_by_validation: params.keep == Keep::Best,
            steered_by_validation: params.early_stopping > 0 || params.followed_plateau().is_some(),
            synthetic: examples.synthetic,
        },
    };
    Finished { params, card, trained, stopped, examples, class_weights }.write(context)
}

/// Warns of rows without images, and of classes without rows.
fn warn_of_gaps(context: &StageContext<'_>, examples: &Examples) {
    if let [first, ..] = examples.left_out() {
        let count = examples.left_out().len();
        let rows = if count == 1 { "row" } else { "rows" };
        context.warn(format!("skipped {count} {rows} without an image in the shards (first: `{first}`)"));
    }
    if let absent @ [first, rest @ ..] = &examples.classes_without_examples()[..] {
        let message = match rest {
            [] => format!("class `{first}` has no training examples"),
            _ => format!("classes `{}` have no training examples", absent.join("`, `")),
        };
        context.warn(message);
    }
}

fn network(params: &TrainParams, shape: [usize; 3], classes: usize) -> Result<Network, StageError> {
    let [height, width, channels] = shape;
    let model = params.model().map_err(|error| StageError::bug(error.to_string()))?;
    Network::new(MapShape { height, width, channels }, &(model.layers)(classes))
        .map_err(|error| StageError::input(format!("model `{}` cannot process the images: {error}", params.model)))
}

/// Trains for the remaining epochs, saving a checkpoint after each. Returns why training stopped early, if it did.
fn run_epochs(
    context: &StageContext<'_>,
    params: &TrainParams,
    trainer: &mut Trainer<'_>,
    images: usize,
) -> Result<Option<String>, StageError> {
    let mut reporter = ProgressReporter::new(context, params.epochs, images)?;
    let mut checkpoint = Checkpoint::of(context);
    checkpoint.restore(trainer, params.epochs)?;
    for record in trainer.history() {
        reporter.append(record)?;
    }
    reporter.resume_after(trainer.history().len());
    while trainer.history().len() < params.epochs {
        // Checked before an epoch, not after one: a checkpoint may already satisfy the criterion.
        if trainer.is_exhausted() {
            let reason = format!("no better validation accuracy in {} epochs", params.early_stopping);
            context.note(format!("stopped early after epoch {}: {reason}", trainer.history().len()));
            return Ok(Some(reason));
        }
        match trainer.run_epoch(|report| reporter.step(report)) {
            Ok(record) => {
                checkpoint.save(trainer)?;
                reporter.epoch(&record)?;
            }
            // A diverged step must not discard hours of training.
            Err(error) if trainer.diverged() && trainer.has_best() => {
                context.flaw(format!("{}; the best weights until then are kept", error.message));
                return Ok(Some(error.message));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn samples<'a>(examples: &Examples, role: Role, shards: &'a ShardReader) -> Result<Samples<'a>, StageError> {
    let images = examples.of(role).map(|example| shards.tensor(&example.image_id)).collect::<Result<_, _>>()?;
    Ok(Samples { images, classes: examples.of(role).map(|example| example.class).collect() })
}

/// A finished training run.
struct Finished<'a> {
    params: &'a TrainParams,
    card: Card,
    trained: Trained,
    /// Why training stopped early, if it did.
    stopped: Option<String>,
    examples: Examples,
    class_weights: Vec<f64>,
}

impl Finished<'_> {
    /// Writes the model, the figures, the history and the summary.
    fn write(&self, context: &StageContext<'_>) -> Result<(), StageError> {
        let Self { card, trained, examples, .. } = self;
        let folder = card::FOLDER;
        context.write(&format!("{folder}/{}", card::WEIGHTS_NAME), &encode_weights(&trained.weights)?)?;
        context.write(&format!("{folder}/{}", card::CARD_NAME), &json::indented(card)?)?;
        let model_card = ModelCard {
            card,
            training_rows: (0..card.classes.len()).map(|class| examples.count(class, Role::Training)).collect(),
            validation: trained.kept().and_then(|kept| Some((kept.validation_loss?, kept.validation_accuracy?))),
            evaluation: None,
            synthetic: examples.synthetic,
        };
        context.write(&format!("{folder}/README.md"), model_card.markdown().as_bytes())?;
        pictures::write(context, card, trained)?;
        context.write("history.json", &json::indented(&json!({ "epochs": trained.history }))?)?;
        context.write("summary.json", &json::indented(&self.summary())?)
    }

    /// The summary metrics, keys sorted.
    fn summary(&self) -> BTreeMap<&'static str, Value> {
        let Self { params, card, trained, stopped, examples, class_weights } = self;
        let class = |(index, class): (usize, &Class)| {
            json!({
                "index": index,
                "label": class.label,
                "name": class.name,
                "train": examples.count(index, Role::Training),
                "validation": examples.count(index, Role::Validation),
                "weight": class_weights[index],
            })
        };
        BTreeMap::from([
            ("best_epoch", json!(trained.epoch)),
            ("classes", examples.classes.iter().enumerate().map(class).collect()),
            ("epochs", json!(params.epochs)),
            ("input", json!([card.input.height, card.input.width, card.input.channels])),
            ("keep", json!(params.keep)),
            ("kept", json!(trained.kept())),
            ("layers", json!(card.layers)),
            ("model", json!(card.model)),
            ("normalisation", json!(card.normalisation)),
            ("parameters", json!(card.parameters)),
            ("stopped", json!(stopped)),
            ("rows", json!({ "train": card.training.training_rows, "validation": card.training.validation_rows })),
        ])
    }
}

#[cfg(test)]
mod tests;
