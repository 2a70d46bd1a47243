//! Training from the inputs of a stage: what the kinds `train` and `search` do.
//!
//! Both have the inputs `shards`, `split` and, optionally, `pretrained`.

mod checkpoint;
mod checks;
pub mod curves;
mod finished;
mod pictures;
mod progress;

use hamflow_stage_api::{
    Access, ArtifactType, Input, Planning, Port, StageContext, StageError, View, available_memory,
};

use crate::artifact;
use crate::ml::backend::{self, Choice};
use crate::ml::card::{self, Card, Training};
use crate::ml::examples::{self, Examples, Role};
use crate::ml::network::Network;
use crate::ml::normalisation::Normalisation;
use crate::ml::pretrained::Pretrained;
use crate::ml::recipe::{Keep, Recipe};
use crate::ml::trainer::{Data, Samples, Trainer, first_weights};
use crate::ml::weights::Weights;
use crate::shard::{INDEX_NAME, ShardReader, read_index};
use checkpoint::Checkpoint;
use checks::{check_batch, check_names, warn_of_gaps};
pub use finished::{Finished, Stopped};
use hamflow_kernels::shape::MapShape;
use progress::ProgressReporter;

/// The input ports of a training run.
pub fn ports() -> Vec<Port> {
    vec![
        Port::new("shards", artifact::SHARDS, "The images as tensors.").access(Access::View),
        Port::new("split", ArtifactType::TABLE, "The table with `split`, `label`, `cell_type` and `cell_type_idx`.")
            .access(Access::View),
        Port::new(
            "pretrained",
            ArtifactType::FILE,
            "Public weights of the model to start from: safetensors, or saved by PyTorch (docs/guide/networks.md).",
        )
        .or_external()
        .optional(),
    ]
}

/// What a training run reads from the shards and the split.
pub fn views(recipe: &Recipe, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
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

/// The preprocessing of the images, which is stored in the model and therefore affects its bytes. It is equal for all
/// shards.
fn preparation(planning: Planning<'_>) -> Result<String, StageError> {
    let shards = planning.inputs.one("shards")?;
    let first = shards.files.iter().find(|file| file.path != INDEX_NAME);
    let first = first.ok_or_else(|| StageError::input(format!("`{}` has no shards", shards.name)))?;
    let reader = ShardReader::open(&Input { files: vec![first.clone()], ..shards.clone() })?;
    Ok(format!("shape\t{:?}\npreprocessing\t{}\n", reader.shape(), reader.preprocess()))
}

/// Warns of rows without images, and of classes without rows.
pub fn warn_of_missing_rows(context: &StageContext<'_>, recipe: &Recipe) -> Result<(), StageError> {
    let shards = ShardReader::open(context.input("shards")?)?;
    let examples = Examples::read(context.input("split")?, recipe.selection(), |image| shards.contains(image))?;
    warn_of_gaps(context, &examples);
    Ok(())
}

/// A training run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The stage that it belongs to.
    pub context: &'a StageContext<'a>,
    /// The recipe, with its seed.
    pub recipe: &'a Recipe,
    /// The epoch to stop after; at most the recipe's, for which schedules are planned.
    pub until: usize,
    /// The name of a trial, which begins the lines of its log and is its folder among the side outputs.
    pub trial: Option<&'a str>,
}

/// The outcome of a training run.
pub enum Outcome<'a> {
    /// There is a model.
    Finished(Box<Finished<'a>>),
    /// The run diverged before there were weights to keep.
    Diverged(StageError),
}

/// The memory that a training has, if it is that of the CPU and known.
fn memory_for(recipe: &Recipe) -> Option<u64> {
    let on_cpu = Choice::from(recipe).class().is_ok_and(|class| class == backend::PROCESSOR);
    if on_cpu { available_memory() } else { None }
}

impl<'a> Run<'a> {
    /// Trains, continuing from a checkpoint if there is one.
    pub fn fit(self) -> Result<Outcome<'a>, StageError> {
        let Self { context, recipe, .. } = self;
        let split = context.input("split")?;
        let shards = ShardReader::open(context.input("shards")?)?;
        let examples = Examples::read(split, recipe.selection(), |image| shards.contains(image))?;
        if self.trial.is_none() {
            warn_of_gaps(context, &examples);
        }
        if examples.of(Role::Validation).next().is_none() {
            if self.trial.is_some() {
                return Err(StageError::input(format!("`{}` has no validation rows to score the trials", split.name))
                    .hint("set `fractions.validation` of the split"));
            }
            if recipe.keep == Keep::Best {
                let message = format!("`{}` has no validation rows to select the best epoch", split.name);
                let hint = "set `fractions.validation` of the split, or set `keep = \"last\"`";
                return Err(StageError::input(message).hint(hint));
            }
        }
        let network = network(recipe, shards.shape(), examples.classes.len())?;
        check_names(recipe, &network)?;
        check_batch(recipe, &network, examples.of(Role::Training).count(), memory_for(recipe))?;
        let training = samples(&examples, Role::Training, &shards)?;
        let (weights, pretrained) = initial_weights(context, recipe, &network)?;
        let model = recipe.model().map_err(|error| StageError::bug(error.to_string()))?;
        let normalisation = match &pretrained {
            Some((read, _)) => read.normalisation().unwrap_or(model.normalisation),
            None => Normalisation::fit(&training.images),
        };
        let validation = samples(&examples, Role::Validation, &shards)?;
        let data = Data { training, validation, normalisation };
        let fell_back = |why| self.context.warn(why);
        let engine = backend::engine(&network, recipe, &data, weights, |note| self.note(note), fell_back)?;
        let mut trainer = Trainer::with_engine(&network, recipe.clone(), data, engine);
        let class_weights = trainer.class_weights().to_vec();
        let stopped = match self.epochs(&mut trainer, examples.of(Role::Training).count()) {
            Ok(stopped) => stopped,
            Err(error) if trainer.diverged() => return Ok(Outcome::Diverged(error)),
            Err(error) => return Err(error),
        };
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
        let finished = Finished { recipe, card, trained, stopped, examples, class_weights };
        Ok(Outcome::Finished(Box::new(finished)))
    }

    /// Informs the user; in the log alone for a trial.
    fn note(self, message: String) {
        match self.trial {
            None => self.context.note(message),
            Some(trial) => self.context.log(format!("{trial}: {message}")),
        }
    }

    /// Trains for the remaining epochs, saving a checkpoint after each. Returns why training stopped early, if it did.
    fn epochs(self, trainer: &mut Trainer<'_>, images: usize) -> Result<Option<Stopped>, StageError> {
        let Self { context, recipe, until, .. } = self;
        let mut reporter = ProgressReporter::new(context, self.trial, until, images)?;
        let mut checkpoint = Checkpoint::of(self);
        checkpoint.restore(trainer, until)?;
        for record in trainer.history() {
            reporter.append(record)?;
        }
        reporter.resume_after(trainer.history().len());
        while trainer.history().len() < until {
            // Checked before an epoch, not after one: a checkpoint may already satisfy the criterion.
            if trainer.is_exhausted() {
                let metric = recipe.keep_metric.replace('_', " ");
                let reason = format!("no better validation {metric} in {} epochs", recipe.early_stopping);
                self.note(format!("stopped early after epoch {}: {reason}", trainer.history().len()));
                return Ok(Some(Stopped::Early(reason)));
            }
            match trainer.run_epoch(|report| reporter.step(report)) {
                Ok(record) => {
                    checkpoint.save(trainer)?;
                    reporter.epoch(&record)?;
                }
                // A diverged step must not discard hours of training.
                Err(error) if trainer.diverged() && trainer.has_best() => {
                    return Ok(Some(Stopped::Diverged(error.message)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
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

fn samples<'a>(examples: &Examples, role: Role, shards: &'a ShardReader) -> Result<Samples<'a>, StageError> {
    let images = examples.of(role).map(|example| shards.tensor(&example.image_id)).collect::<Result<_, _>>()?;
    let classes = examples.of(role).map(|example| example.class).collect();
    Ok(Samples { images, classes, weights: examples.of(role).map(|example| example.weight).collect() })
}
