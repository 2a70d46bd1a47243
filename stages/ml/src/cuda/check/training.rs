//! Whole training runs on the device and on the CPU, from the same weights and random numbers.

use hamflow_stage_api::{Random, StageError};

use super::Finding;
use crate::augment::{Augmentation, Draw};
use crate::cuda::queue::Queue;
use crate::cuda::{CudaEngine, CudaModel};
use crate::graph::{Builder, Graph, Value};
use crate::model::Model;
use crate::network::{GradCam, HeatMap, Network};
use crate::normalisation::{Normalisation, normalise};
use crate::op::ConvConfig;
use crate::optim::OptimiserKind;
use crate::precision::Precision;
use crate::recipe::{ClassWeights, Recipe, Sampling};
use crate::schedule::Curve;
use crate::switch::Switch;
use crate::trainer::{Data, Samples, Trainer, first_weights, predict_view};
use crate::tta::views;
use hamflow_kernels::network::Activation::{Relu, Relu6, Silu};
use hamflow_kernels::shape::MapShape;

/// Odd before and after the first pooling.
const SHAPE: MapShape = MapShape { height: 13, width: 18, channels: 3 };
const CLASSES: usize = 3;
/// The number of training and validation images. With batches of 4, the last step of an epoch has 3 images.
const IMAGES: [usize; 2] = [39, 11];

/// Every operation in every position, with few enough filters to run the kernels on the CPU.
fn layers(b: &mut Builder<'_>, image: Value) -> Result<Value, String> {
    let conv = |b: &mut Builder<'_>, name: &str, x, filters| {
        let x = b.conv(name, x, ConvConfig::new(filters, 3).bias().glorot())?;
        Ok::<_, String>(b.activation(x, Relu))
    };
    let x = conv(b, "conv1", image, 16)?;
    let x = conv(b, "conv2", x, 16)?;
    let x = b.max_pool("pool1", x)?;
    let x = b.dropout("dropout1", x, 0.25);
    let x = conv(b, "conv3", x, 32)?;
    let x = b.dropout("dropout2", x, 0.1);
    let x = b.max_pool("pool2", x)?;
    b.features(x);
    let x = b.flatten("flatten", x);
    let x = b.row_dropout("dropout3", x, 0.2);
    let x = b.dense("dense1", x, 24);
    let x = b.activation(x, Relu);
    let x = b.row_dropout("dropout4", x, 0.5);
    Ok(b.dense("dense2", x, CLASSES))
}

/// The tolerance for losses after up to 20 steps.
fn of_losses(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Tf32 => 1e-2,
        Precision::Bf16 => 5e-2,
    }
}

fn recipe() -> Recipe {
    Recipe { seed: 5, epochs: 20, batch_size: 100, learning_rate: 1e-3, augment: Switch(None), ..Recipe::default() }
}

/// Every option that can be combined.
fn everything() -> Recipe {
    let augment = Augmentation {
        flip_horizontal: true,
        brightness: 0.2,
        contrast: 0.2,
        saturation: 0.2,
        ..Augmentation::default()
    };
    Recipe {
        augment: Switch(Some(augment)),
        mixup: 0.4,
        sampling: Sampling::Balanced,
        class_weights: ClassWeights::Balanced,
        label_smoothing: 0.1,
        focal_gamma: 1.5,
        clip_norm: 0.5,
        schedule: Curve::Cosine,
        warmup_epochs: 0.5,
        ..recipe()
    }
}

/// What is trained: its name, the recipe, and the number of epochs.
fn trainings() -> Vec<(&'static str, Recipe, usize)> {
    // What `everything` excludes or lacks.
    let more = Recipe {
        augment: Switch(Some(Augmentation { erasing: 0.5, crop: 0.6, quarter_turns: true, ..Augmentation::default() })),
        cutmix: 1.0,
        mixup: 0.4,
        optimiser: OptimiserKind::AdamW,
        weight_decay: 0.1,
        ema: 0.9,
        logit_adjustment: 1.0,
        clip_norm: 0.5,
        keep_metric: "balanced_accuracy".to_owned(),
        rate_factors: [("head".to_owned(), 3.0), ("conv2".to_owned(), 0.5)].into(),
        batch_size: 4,
        epochs: 3,
        ..recipe()
    };
    let unfreezing = Recipe { unfreeze_epochs: 1, freeze: vec!["conv1".to_owned()], epochs: 4, ..more.clone() };
    let sgd = Recipe { optimiser: OptimiserKind::Sgd, learning_rate: 0.02, ..more.clone() };
    vec![
        // One step per epoch, so that the loss of every step is compared.
        ("20 steps", recipe(), 20),
        ("2 epochs of 10 steps, the last smaller", Recipe { batch_size: 4, epochs: 2, ..recipe() }, 2),
        ("20 epochs of 10 steps", Recipe { batch_size: 4, epochs: 20, learning_rate: 2e-4, ..recipe() }, 20),
        ("every option, 2 epochs", Recipe { batch_size: 4, epochs: 2, ..everything() }, 2),
        ("AdamW with more options, 3 epochs", more, 3),
        ("gradual unfreezing, 4 epochs", unfreezing, 4),
        ("SGD, 3 epochs", sgd, 3),
    ]
}

pub(super) fn check<Q: Queue>(
    mut make: impl FnMut() -> Result<Q, StageError>,
    precision: Precision,
    findings: &mut Vec<Finding>,
) -> Result<(), StageError> {
    let small = Recipe { batch_size: 4, epochs: 2, ..everything() };
    let mut run = |is_recorded: bool| {
        train(network()?, IMAGES, &small, 2, |network, data| {
            let weights = first_weights(network, &small)?;
            let engine = CudaEngine::new(make()?, network, &small, precision, data, weights)?;
            Ok(Some(if is_recorded { engine } else { engine.without_recordings() }))
        })
    };
    let [first, second, unrecorded] = [run(true)?, run(true)?, run(false)?];
    for (what, other) in [("the same training again", second), ("the same training without recordings", unrecorded)] {
        let what = format!("{what}: equal losses, {precision:?}").to_lowercase();
        findings.push(Finding::new(what, &[other.0, other.1].concat(), &[&first.0[..], &first.1].concat(), 0.0));
    }
    for (what, recipe, epochs) in trainings() {
        let theirs = train(network()?, IMAGES, &recipe, epochs, |_, _| Ok(None::<CudaEngine<'_, Q>>))?;
        let ours = train(network()?, IMAGES, &recipe, epochs, |network, data| {
            let weights = first_weights(network, &recipe)?;
            Ok(Some(CudaEngine::new(make()?, network, &recipe, precision, data, weights)?))
        })?;
        for (of, ours, theirs) in [("training", &ours.0, &theirs.0), ("validation", &ours.1, &theirs.1)] {
            let what = format!("{what}: loss of {of}, {precision:?}").to_lowercase();
            findings.push(Finding::new(what, ours, theirs, of_losses(precision)));
        }
    }
    Ok(())
}

fn network() -> Result<Network, StageError> {
    Graph::build(SHAPE, layers).and_then(Network::new).map_err(StageError::bug)
}

/// Normalisation, every activation, groups, padding that is not centred, and maps that are read several times.
fn normalised(b: &mut Builder<'_>, image: Value) -> Result<Value, String> {
    let a = b.conv("conv1", image, ConvConfig::new(8, 3).stride(2).same())?;
    let x = b.batch_norm("bn1", a, 1e-3);
    let x = b.activation(x, Silu);
    let y = b.conv("conv2", x, ConvConfig::new(8, 3))?;
    let y = b.batch_norm("bn2", y, 1e-5);
    let y = b.stochastic_depth("depth", y, 0.3);
    let c = b.add("add1", [y, x])?;
    let d = b.conv("conv3", c, ConvConfig::new(8, 5).depthwise())?;
    let d = b.batch_norm("bn3", d, 1e-5);
    let e = b.batch_norm("bn4", a, 1e-5);
    let d = b.add("add2", [d, e])?;
    let d = b.activation(d, Relu);
    let x = b.overlapping_max_pool("pool", d)?;
    let x = b.conv("conv4", x, ConvConfig { groups: 2, ..ConvConfig::new(12, 3).stride(2).bias() })?;
    let x = b.activation(x, Relu6);
    b.features(x);
    let x = b.conv("conv5", x, ConvConfig::new(20, 1))?;
    let x = b.global_pool("mean", x);
    let x = b.flatten("flatten", x);
    Ok(b.dense("fc", x, CLASSES))
}

/// Trains a network with normalisation for 200 steps, and each model for an epoch of two steps.
pub(super) fn check_models<Q: Queue>(
    mut make: impl FnMut() -> Result<Q, StageError>,
    precision: Precision,
    models: &[&Model],
    findings: &mut Vec<Finding>,
) -> Result<(), StageError> {
    let steps: MakeNetwork<'_> = Box::new(|| Graph::build(SHAPE, normalised).and_then(Network::new));
    let steps_again: MakeNetwork<'_> = Box::new(|| Graph::build(SHAPE, normalised).and_then(Network::new));
    let mut networks = vec![
        ("normalised network, 200 steps", steps, IMAGES, 50, 10),
        ("normalised network with frozen layers", steps_again, IMAGES, 5, 10),
    ];
    let shape = MapShape { height: 33, width: 40, channels: 3 };
    networks.extend(models.iter().map(|model| {
        let make: MakeNetwork<'_> = Box::new(move || model.network(shape, CLASSES));
        (model.name, make, [8, 3], 1, 4)
    }));
    for (name, network, images, epochs, batch_size) in networks {
        let network = || network().map_err(StageError::bug);
        let mut recipe = Recipe { batch_size, epochs: epochs.max(2), learning_rate: 1e-4, ..recipe() };
        if name.contains("frozen") {
            recipe.freeze = ["conv1", "bn1", "bn3", "conv4"].map(str::to_owned).into();
            recipe.ema = 0.8;
        }
        let theirs = train(network()?, images, &recipe, epochs, |_, _| Ok(None::<CudaEngine<'_, Q>>))?;
        let ours = train(network()?, images, &recipe, epochs, |network, data| {
            let weights = first_weights(network, &recipe)?;
            Ok(Some(CudaEngine::new(make()?, network, &recipe, precision, data, weights)?))
        })?;
        for (of, ours, theirs) in [("training", &ours.0, &theirs.0), ("validation", &ours.1, &theirs.1)] {
            let what = format!("{name}: loss of {of}, {precision:?}").to_lowercase();
            findings.push(Finding::new(what, ours, theirs, of_normalised(precision)));
        }
    }
    Ok(())
}

/// Compares logits and heat maps, from drawn weights.
pub(super) fn check_inference<Q: Queue>(
    mut make: impl FnMut() -> Result<Q, StageError>,
    precision: Precision,
    models: &[&Model],
    findings: &mut Vec<Finding>,
) -> Result<(), StageError> {
    let bug = StageError::bug;
    let shape = MapShape { height: 33, width: 40, channels: 3 };
    let mut networks = vec![
        ("a network with dropout", network()?),
        ("a normalised network", Graph::build(SHAPE, normalised).and_then(Network::new).map_err(bug)?),
    ];
    for model in models {
        networks.push((model.name, model.network(shape, CLASSES).map_err(bug)?));
    }
    let failed = |error: candle_core::Error| StageError::bug(error.to_string());
    for (name, network) in networks {
        let weights = first_weights(&network, &recipe())?;
        let values = weights.with_slices(|slices| slices.concat()).map_err(failed)?;
        let normalisation = Normalisation::shared(60.0, 55.0);
        let (images, classes) = images(network.input(), 5, "inference");
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let mut on_device = CudaModel::new(make()?, &network, &values, normalisation, precision)?;
        let (predictor, table) = (network.predictor(&weights).map_err(failed)?, normalisation.table());
        let named = |what: &str| format!("{name}: {what}, {precision:?}").to_lowercase();
        for view in views(8).skip(5).chain([Draw::NONE]) {
            let ours = on_device.logits(&images, &view)?;
            let theirs = predict_view(&predictor, &table, &images, &view).map_err(failed)?;
            findings.push(Finding::new(named("logits"), &ours, &theirs, of_inference(precision)));
        }
        let explained: Vec<(&[u8], usize)> = images.iter().copied().zip(classes).collect();
        let (Some(ours), Some(grad_cam)) = (on_device.heat_maps(&explained)?, GradCam::new(&network)) else {
            return Err(StageError::bug(format!("{name} has no features")));
        };
        let theirs = weights.with_slices(|slices| {
            let heat = |(image, class): &(&[u8], usize)| {
                let mut pixels = vec![0.0; image.len()];
                normalise(image, network.input().channels, &table, &mut pixels);
                grad_cam.heat(slices, &pixels, *class)
            };
            explained.iter().map(heat).collect::<Vec<HeatMap>>()
        });
        let flat = |maps: &[HeatMap]| -> Vec<f32> {
            maps.iter().flat_map(|map| map.values.iter().map(|value| *value as f32)).collect()
        };
        let (ours, theirs) = (flat(&ours), flat(&theirs.map_err(failed)?));
        if theirs.iter().all(|value| *value == 0.0) {
            return Err(StageError::bug(format!("{name} has empty heat maps")));
        }
        findings.push(Finding::new(named("heat maps"), &ours, &theirs, of_inference(precision)));
    }
    Ok(())
}

/// Trains the network with normalisation for an epoch of one step.
#[cfg(test)]
pub fn train_for_an_epoch<Q: Queue>(queue: Q) -> Result<(), StageError> {
    let network = Graph::build(SHAPE, normalised).and_then(Network::new).map_err(StageError::bug)?;
    let recipe = Recipe { epochs: 1, ..recipe() };
    let losses = train(network, [9, 4], &recipe, 1, |network, data| {
        let weights = first_weights(network, &recipe)?;
        Ok(Some(CudaEngine::new(queue, network, &recipe, Precision::F32, data, weights)?))
    });
    losses.map(|_| ())
}

/// The tolerance for what a whole network computes without normalising by its batch.
fn of_inference(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Tf32 => 2e-2,
        Precision::Bf16 => 1.5e-1,
    }
}

/// The tolerance for losses of networks with normalisation, which divides by deviations of few values here.
fn of_normalised(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::Tf32 => 5e-2,
        Precision::Bf16 => 2e-1,
    }
}

type MakeNetwork<'m> = Box<dyn Fn() -> Result<Network, String> + 'm>;

/// Training and validation losses.
type Losses = (Vec<f32>, Vec<f32>);

/// Trains on noise images with a bright stripe, on the CPU if there is no other engine.
fn train<Q: Queue>(
    network: Network,
    [training, validation]: [usize; 2],
    recipe: &Recipe,
    epochs: usize,
    engine: impl for<'n> FnOnce(&'n Network, &Data<'_>) -> Result<Option<CudaEngine<'n, Q>>, StageError>,
) -> Result<Losses, StageError> {
    let shape = network.input();
    let (training, validation) = (images(shape, training, "training"), images(shape, validation, "validation"));
    let data = Data {
        normalisation: Normalisation::shared(60.0, 55.0),
        training: samples(&training),
        validation: samples(&validation),
    };
    let mut trainer = match engine(&network, &data)? {
        Some(engine) => Trainer::with_engine(&network, recipe.clone(), data.clone(), Box::new(engine)),
        None => Trainer::new(&network, recipe.clone(), data.clone())?,
    };
    for _ in 0..epochs {
        trainer.run_epoch(|_| ())?;
    }
    let history = trainer.history();
    let validation = history.iter().filter_map(|record| record.validation_loss);
    Ok((history.iter().map(|record| record.train_loss as f32).collect(), validation.map(|loss| loss as f32).collect()))
}

fn samples((images, classes): &(Vec<Vec<u8>>, Vec<usize>)) -> Samples<'_> {
    Samples { images: images.iter().map(Vec::as_slice).collect(), classes: classes.clone(), weights: Vec::new() }
}

fn images(shape: MapShape, count: usize, purpose: &str) -> (Vec<Vec<u8>>, Vec<usize>) {
    let mut random = Random::new(3, purpose);
    let mut image = |class: usize| -> Vec<u8> {
        let place = random.below(8) as usize + 2;
        let byte = |i: usize| {
            let (y, x) = (i / (shape.width * 3), i / 3 % shape.width);
            let is_bright = (class == 0 && y == place) || (class == 1 && x == place);
            random.below(60) as u8 + if is_bright { 180 } else { 0 }
        };
        (0..shape.len()).map(byte).collect()
    };
    (0..count).map(|i| (image(i % CLASSES), i % CLASSES)).unzip()
}
