//! The kind `train`: trains a network on the training rows and selects the best epoch by the validation rows.

mod checkpoint;
mod pictures;
mod progress;

use std::collections::BTreeMap;

use hamflow_stage_api::{
    Access, ArtifactType, Columns, Devices, Input, Kind, KindSpec, Output, ParamError, Planning, Port, StageContext,
    StageError, View, Views, available_memory, near_miss,
};
use serde_json::{Value, json};

use crate::artifact;
use crate::dataset::Class;
use crate::json;
use crate::ml::backend;
use crate::ml::card::{self, Card, Training, encode_weights};
use crate::ml::classifier::thread_pool;
use crate::ml::examples::{self, Examples, Role};
use crate::ml::network::{Network, Workspace};
use crate::ml::normalisation::Normalisation;
use crate::ml::pretrained::Pretrained;
use crate::ml::recipe::{Keep, Recipe};
use crate::ml::shape::MapShape;
use crate::ml::trainer::{Data, HEAD, Samples, Trained, Trainer, first_weights, has_layers};
use crate::ml::weights::Weights;
use crate::model_card::ModelCard;
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

impl Kind for Train {
    type Params = Recipe;

    fn spec(&self) -> KindSpec {
        let ports = vec![
            Port::new("shards", artifact::SHARDS, "The images as tensors.").access(Access::View),
            Port::new(
                "split",
                ArtifactType::TABLE,
                "The table with `split`, `label`, `cell_type` and `cell_type_idx`.",
            )
            .access(Access::View),
            Port::new(
                "pretrained",
                ArtifactType::FILE,
                "Public weights of the model to start from: safetensors, or saved by PyTorch (docs/guide/networks.md).",
            )
            .or_external()
            .optional(),
        ];
        let summary = "Trains a network on the training rows and selects the best epoch by the validation rows.";
        KindSpec { seeded: true, extendable: &["epochs"], ..KindSpec::new("train", REVISION, summary, ports) }
    }

    fn check(&self, recipe: &Recipe) -> Result<(), ParamError> {
        recipe.check()
    }

    fn outputs(&self, _recipe: &Recipe) -> Vec<Output> {
        vec![
            Output::new("model", artifact::MODEL, card::FOLDER),
            Output::new("history", artifact::HISTORY, "history.json"),
            Output::new("summary", artifact::SUMMARY, "summary.json"),
            Output::new("figures", artifact::FIGURES, "figures"),
        ]
    }

    fn devices(&self) -> Option<&dyn Devices<Recipe>> {
        Some(self)
    }

    fn columns(&self) -> Option<&dyn Columns<Recipe>> {
        Some(self)
    }

    fn views(&self) -> Option<&dyn Views<Recipe>> {
        Some(self)
    }

    fn run(&self, recipe: &Recipe, context: &StageContext<'_>) -> Result<(), StageError> {
        let pool = thread_pool(context.threads())?;
        let recipe = Recipe { seed: context.seed()?, ..recipe.clone() };
        pool.install(|| train(context, &recipe))
    }
}

impl Devices<Recipe> for Train {
    fn class(&self, recipe: &Recipe) -> Result<String, ParamError> {
        backend::class(recipe)
    }

    fn accepts_others(&self, _recipe: &Recipe) -> bool {
        true
    }
}

impl Columns<Recipe> for Train {
    fn read(&self, recipe: &Recipe) -> Vec<(&'static str, String)> {
        recipe.selection().columns().into_iter().map(|column| ("split", column.to_owned())).collect()
    }
}

impl Views<Recipe> for Train {
    fn project(&self, recipe: &Recipe, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        let (rows, images) = examples::view(planning.inputs.one("split")?, recipe.selection())?;
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

fn train(context: &StageContext<'_>, recipe: &Recipe) -> Result<(), StageError> {
    let split = context.input("split")?;
    let shards = ShardReader::open(context.input("shards")?)?;
    let examples = Examples::read(split, recipe.selection(), |image| shards.contains(image))?;
    warn_of_gaps(context, &examples);
    if examples.of(Role::Validation).next().is_none() && recipe.keep == Keep::Best {
        return Err(StageError::input(format!("`{}` has no validation rows to select the best epoch", split.name))
            .hint("set `fractions.validation` of the split, or set `keep = \"last\"`"));
    }
    let network = network(recipe, shards.shape(), examples.classes.len())?;
    check_names(recipe, &network)?;
    let on_cpu = backend::class(recipe).is_ok_and(|class| class == backend::PROCESSOR);
    let memory = if on_cpu { available_memory() } else { None };
    check_batch(recipe, &network, examples.of(Role::Training).count(), memory)?;
    let training = samples(&examples, Role::Training, &shards)?;
    let (weights, pretrained) = initial_weights(context, recipe, &network)?;
    let model = recipe.model().map_err(|error| StageError::bug(error.to_string()))?;
    let normalisation = match &pretrained {
        Some((read, _)) => read.normalisation().unwrap_or(model.normalisation),
        None => Normalisation::fit(&training.images),
    };
    let validation = samples(&examples, Role::Validation, &shards)?;
    let data = Data { training, validation, normalisation };
    let engine = backend::engine(&network, recipe, &data, weights, |note| context.note(note))?;
    let mut trainer = Trainer::with_engine(&network, recipe.clone(), data, engine);
    let class_weights = trainer.class_weights().to_vec();
    let stopped = run_epochs(context, recipe, &mut trainer, examples.of(Role::Training).count())?;
    let trained = trainer.finish();
    let card = Card {
        format: card::FORMAT,
        model: recipe.model.clone(),
        members: Vec::new(),
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
            chosen_by_validation: recipe.keep == Keep::Best,
            steered_by_validation: recipe.early_stopping > 0 || recipe.followed_plateau().is_some(),
            synthetic: examples.synthetic,
            fold: recipe.fold,
            folds: Vec::new(),
            optimiser: recipe.optimiser,
            pretrained: pretrained.map(|(_, digest)| digest),
        },
    };
    Finished { recipe, card, trained, stopped, examples, class_weights }.write(context)
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

/// Rejects batches that the network cannot train with, or that do not fit into memory.
fn check_batch(recipe: &Recipe, network: &Network, rows: usize, memory: Option<u64>) -> Result<(), StageError> {
    if recipe.batch_size == 1 && network.is_normalised() {
        let message =
            format!("model `{}` has batch normalisation, which needs at least 2 images per step", recipe.model);
        return Err(StageError::input(message).hint("set `batch_size` to 16 or more"));
    }
    let Some(memory) = memory else { return Ok(()) };
    let batch_size = recipe.batch_size.min(rows);
    // Weights, the best ones, their average and the moments of the optimiser.
    let fixed = 6 * size_of::<f32>() * network.parameter_count();
    let needed = |images: usize| (Workspace::bytes_for(network, images) + fixed) as u64;
    if needed(batch_size) <= memory {
        return Ok(());
    }
    let least = if network.is_normalised() { 2 } else { 1 };
    let fitting = (least..batch_size).rev().find(|images| needed(*images) <= memory);
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let (needed, available) = (gigabytes(needed(batch_size)), gigabytes(memory));
    let message =
        format!("a step of {batch_size} images needs about {needed} of memory, but {available} are available");
    Err(StageError::input(message).hint(match fitting {
        Some(images) => format!("`batch_size = {images}` fits"),
        None => "use a smaller model or smaller images".to_owned(),
    }))
}

/// Rejects names of layers that the network does not have.
fn check_names(recipe: &Recipe, network: &Network) -> Result<(), StageError> {
    let given = recipe.freeze.iter().map(|name| ("freeze", name));
    let given = given.chain(recipe.rate_factors.keys().map(|name| ("rate_factors", name)));
    let unknown = given.into_iter().find(|(_, name)| !has_layers(network, name));
    let Some((parameter, name)) = unknown else { return Ok(()) };
    let message = format!("`{name}` in `{parameter}` is no layer of model `{}`", recipe.model);
    let layers = network.layers().iter().map(|layer| &layer.name[..]).chain([HEAD]);
    let hint = near_miss::hint(name, layers);
    Err(StageError::input(message).hint(hint.unwrap_or_else(|| {
        "layers are in `out/train/summary.json`; a name stands for all layers below it, such as `blocks`".to_owned()
    })))
}

/// The initial weights, and the digest of the file that they come from if they are not drawn.
fn initial_weights(
    context: &StageContext<'_>,
    recipe: &Recipe,
    network: &Network,
) -> Result<(Weights, Option<(Pretrained, String)>), StageError> {
    let drawn = first_weights(network, recipe)?;
    let Some(input) = context.inputs().optional("pretrained") else { return Ok((drawn, None)) };
    let file = input.file()?;
    let model = recipe.model().map_err(|error| StageError::bug(error.to_string()))?;
    let refuse = |problem: String| {
        StageError::input(format!("`{}` {problem}", file.path))
            .hint(format!("`pretrained` takes public weights of `{}` (docs/guide/networks.md)", model.name))
    };
    let read = Pretrained::read(&file.source, &file.read()?).map_err(refuse)?;
    // The file is read by its path, too: it must still be the one with this digest.
    file.read()?;
    let weights = read.weights(model, network, &drawn).map_err(refuse)?;
    Ok((weights, Some((read, file.known_digest()?.to_string()))))
}

fn network(recipe: &Recipe, shape: [usize; 3], classes: usize) -> Result<Network, StageError> {
    let [height, width, channels] = shape;
    let model = recipe.model().map_err(|error| StageError::bug(error.to_string()))?;
    model
        .network(MapShape { height, width, channels }, classes)
        .map_err(|error| StageError::input(format!("model `{}` cannot process the images: {error}", recipe.model)))
}

/// Trains for the remaining epochs, saving a checkpoint after each. Returns why training stopped early, if it did.
fn run_epochs(
    context: &StageContext<'_>,
    recipe: &Recipe,
    trainer: &mut Trainer<'_>,
    images: usize,
) -> Result<Option<String>, StageError> {
    let mut reporter = ProgressReporter::new(context, recipe.epochs, images)?;
    let mut checkpoint = Checkpoint::of(context);
    checkpoint.restore(trainer, recipe.epochs)?;
    for record in trainer.history() {
        reporter.append(record)?;
    }
    reporter.resume_after(trainer.history().len());
    while trainer.history().len() < recipe.epochs {
        // Checked before an epoch, not after one: a checkpoint may already satisfy the criterion.
        if trainer.is_exhausted() {
            let metric = recipe.keep_metric.replace('_', " ");
            let reason = format!("no better validation {metric} in {} epochs", recipe.early_stopping);
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
    let classes = examples.of(role).map(|example| example.class).collect();
    Ok(Samples { images, classes, weights: examples.of(role).map(|example| example.weight).collect() })
}

/// A finished training run.
struct Finished<'a> {
    recipe: &'a Recipe,
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
        context.write("history.json", &json::indented(&self.history())?)?;
        context.write("summary.json", &json::indented(&self.summary())?)
    }

    /// The epochs, with the metric that chose the epoch if it is not the accuracy.
    fn history(&self) -> Value {
        let Self { recipe, trained, .. } = self;
        let mut epochs = json!(trained.history);
        if recipe.keep_metric != "accuracy" {
            for (epoch, score) in epochs.as_array_mut().into_iter().flatten().zip(&trained.scores) {
                epoch[format!("validation_{}", recipe.keep_metric)] = json!(score);
            }
        }
        json!({ "epochs": epochs })
    }

    /// The summary metrics, keys sorted.
    fn summary(&self) -> BTreeMap<&'static str, Value> {
        let Self { recipe, card, trained, stopped, examples, class_weights } = self;
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
        let mut summary = BTreeMap::from([
            ("best_epoch", json!(trained.epoch)),
            ("classes", examples.classes.iter().enumerate().map(class).collect()),
            ("epochs", json!(recipe.epochs)),
            ("input", json!([card.input.height, card.input.width, card.input.channels])),
            ("keep", json!(recipe.keep)),
            ("kept", json!(trained.kept())),
            ("layers", json!(card.layers)),
            ("model", json!(card.model)),
            ("normalisation", json!(card.normalisation)),
            ("parameters", json!(card.parameters)),
            ("stopped", json!(stopped)),
            ("rows", json!({ "train": card.training.training_rows, "validation": card.training.validation_rows })),
        ]);
        if recipe.keep_metric != "accuracy" {
            let score = trained.scores.get(trained.epoch.wrapping_sub(1));
            summary.insert("kept_score", json!({ "metric": recipe.keep_metric, "value": score }));
        }
        if let Some(pretrained) = &card.training.pretrained {
            summary.insert("pretrained", json!(pretrained));
        }
        summary
    }
}

#[cfg(test)]
pub(crate) mod test_fixture;
#[cfg(test)]
mod tests;
