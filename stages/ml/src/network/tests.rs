//! Compares the whole network with PyTorch, and asserts bit-identical results on any number of threads.

use std::collections::BTreeMap;

use candle_core::Tensor;
use hamflow_stage_api::Random;
use serde::Deserialize;

use super::*;
use crate::graph::{Builder, Value};
use crate::model;
use crate::op::{ConvConfig, Initial, Pass};
use crate::optim::{self, Adam, OptimiserState};
use crate::weights::Weights;
use hamflow_kernels::network::Level;
use hamflow_kernels::wave;

pub(super) fn baseline(height: usize, width: usize, classes: usize) -> Network {
    model::find("baseline").unwrap().network(MapShape { height, width, channels: 3 }, classes).unwrap()
}

#[test]
fn the_baseline_has_the_parameters_of_the_notebook() {
    let network = baseline(75, 100, 7);
    assert_eq!(network.parameter_count(), 3_752_999);
    let rows: Vec<_> = network.layers().iter().map(|layer| (layer.name.as_str(), layer.parameters)).collect();
    assert_eq!(rows[0], ("conv1", 896));
    assert_eq!(rows[9], ("dense1", 3_686_528));
    assert_eq!(network.layers()[8].output, [28_800]);
    assert_eq!(rows[11], ("dense2", 903));
}

#[test]
fn an_image_that_is_too_small_is_rejected() {
    let model = model::find("baseline").unwrap();
    let error = model.network(MapShape { height: 3, width: 8, channels: 3 }, 3).err().unwrap();
    assert!(error.contains("1×4"), "{error}");
}

/// Weights by the formula in `fixtures/reference.py`.
pub(super) fn wave_weights(network: &Network) -> Weights {
    let values = (100..).zip(network.parameters()).map(|(salt, parameter)| {
        let scale = match parameter.config.initial {
            Initial::GlorotUniform { fan_in, fan_out } => 2.0 * (6.0 / (fan_in + fan_out) as f64).sqrt(),
            _ => 0.1,
        };
        wave(salt, parameter.config.len(), scale as f32)
    });
    Weights::from_values(network.tensors(), values).unwrap()
}

// Both lists are printed by fixtures/reference.py.
#[test]
fn twenty_steps_match_pytorch() {
    let network = baseline(13, 18, 3);
    let weights = wave_weights(&network);
    let mut work = Workspace::default();
    let mut state = OptimiserState::zeros(2, network.parameter_count());
    let rates = vec![Some(1e-3); network.parameters().len()];
    for step in 1..=20usize {
        let images = wave(1000 + step as u32, 6 * 13 * 18 * 3, 4.0);
        let class_weights = if step <= 10 { [1.0; 3] } else { [0.5, 2.0, 1.25] };
        let targets: Vec<Target> =
            (0..6usize).map(|i| (step + i * i) % 3).map(|class| Target::new(class, class_weights[class])).collect();
        let batch = Batch { images: &images, targets: &targets, loss: Loss::default(), offsets: &[] };
        let loss =
            weights.with_slices(|slices| network.gradients(slices, &Pass::inference(), batch, &mut work)).unwrap();
        if step == 1 {
            for (parameter, norm) in network.parameters().iter().zip(GRADIENT_NORMS) {
                let values = &work.gradient()[parameter.range.clone()];
                let ours = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                assert!((ours - norm).abs() < 1e-5 * norm, "{}: {ours} {norm}", parameter.name);
            }
        }
        let expected = LOSSES[step - 1];
        assert!((loss.sum / 6.0 - expected).abs() < 1e-4 * expected, "step {step}: {} {expected}", loss.sum / 6.0);
        let parameters = (network.parameters(), &rates[..]);
        optim::step(&Adam, &mut state, Level::detect(), parameters, work.gradient(), &weights).unwrap();
    }
}

const GRADIENT_NORMS: [f64; 12] = [
    0.5689909, 0.1073304, 0.7561716, 0.1193367, 0.9982504, 0.1636176, 1.219495, 0.2676019, 1.538768, 0.305194,
    0.6936573, 0.3832166,
];
const LOSSES: [f64; 20] = [
    1.037103, 1.473962, 1.447, 1.00323, 1.217838, 1.05693, 1.10526, 1.210515, 1.029611, 1.117047, 0.89169, 1.563936,
    1.628191, 0.8797612, 1.464307, 1.574508, 0.9367452, 1.357682, 1.501533, 1.033759,
];

/// The weights after two steps with dropout on images of the given size.
fn two_steps((height, width): (usize, usize), images: usize, threads: usize, level: Level) -> Vec<u32> {
    let network = baseline(height, width, 3);
    let weights = Weights::draw(network.tensors(), &mut Random::new(1, "init")).unwrap();
    let mut work = Workspace::default();
    let mut state = OptimiserState::zeros(2, network.parameter_count());
    let rates = vec![Some(1e-3); network.parameters().len()];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        for step in 0..2u32 {
            let pixels = wave(step, images * height * width * 3, 4.0);
            let targets: Vec<Target> = (0..images).map(|i| Target::new(i % 3, 1.0)).collect();
            let batch = Batch { images: &pixels, targets: &targets, loss: Loss::default(), offsets: &[] };
            let pass = Pass { level, ..Pass::training(u64::from(step)) };
            weights.with_slices(|slices| network.gradients(slices, &pass, batch, &mut work)).unwrap();
            let parameters = (network.parameters(), &rates[..]);
            optim::step(&Adam, &mut state, level, parameters, work.gradient(), &weights).unwrap();
        }
    });
    weights
        .with_slices(|slices| slices.iter().flat_map(|values| values.iter().map(|value| value.to_bits())).collect())
        .unwrap()
}

#[test]
fn the_weights_do_not_depend_on_the_number_of_threads() {
    for images in [1, 5, 11] {
        let run = |threads| two_steps((13, 18), images, threads, Level::detect());
        let expected = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == expected, "{threads} threads, {images} images");
        }
    }
}

// torch.nn.utils.clip_grad_norm_ of [3, -4, 12] to 2.6: norm 13, gradient [0.6, -0.8, 2.4]
#[test]
fn gradient_clipping_matches_pytorch() {
    let mut work = Workspace { gradient: vec![3.0, -4.0, 12.0], ..Workspace::default() };
    assert_eq!(work.clip(20.0), 13.0);
    assert_eq!(work.gradient(), [3.0, -4.0, 12.0]);
    assert_eq!(work.clip(2.6), 13.0);
    assert_eq!(work.gradient(), [0.6, -0.8, 2.4]);
}

#[test]
fn the_weights_do_not_depend_on_the_instruction_set() {
    let run = |level| two_steps((4, 7), 5, 2, level);
    let expected = run(Level::PORTABLE);
    for level in Level::available() {
        assert!(run(level) == expected, "{level:?}");
    }
}

#[test]
fn the_prediction_for_an_image_does_not_depend_on_the_batch() {
    let network = baseline(9, 14, 3);
    let weights = Weights::draw(network.tensors(), &mut Random::new(1, "init")).unwrap();
    let pixels = wave(8, 5 * 9 * 14 * 3, 4.0);
    let predictor = network.predictor(&weights).unwrap();
    let predict = |pixels: &[f32]| {
        let shape = (pixels.len() / (9 * 14 * 3), 9, 14, 3);
        let images = Tensor::from_slice(pixels, shape, &candle_core::Device::Cpu).unwrap();
        predictor.predict(&images).unwrap().to_vec2::<f32>().unwrap()
    };
    let together = predict(&pixels);
    let alone: Vec<_> = pixels.chunks(9 * 14 * 3).flat_map(predict).collect();
    assert_eq!(together, alone);
}

/// PyTorch's results in f64, written by `fixtures/reference.py`.
#[derive(Deserialize)]
struct Reference {
    loss: f64,
    norms: BTreeMap<String, f64>,
    logits: Vec<f64>,
}

/// Weights and statistics by the formula of `fill` in `fixtures/reference.py`.
fn wave_state(network: &Network) -> Weights {
    let mut names: Vec<&str> = network.tensors().map(|tensor| &tensor.name[..]).collect();
    names.sort_unstable();
    let values = network.tensors().map(|Parameter { name, config, .. }| {
        let salt = 100 + names.iter().position(|other| other == name).unwrap() as u32;
        let inputs: usize = config.shape[..config.shape.len() - 1].iter().product();
        match config.shape.len() {
            1 => {
                let centre = if name.ends_with("weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
                wave(salt, config.len(), 1.0).into_iter().map(|value| centre + value).collect()
            }
            2 => wave(salt, config.len(), 2.0 / (inputs as f32).sqrt()),
            _ => wave(salt, config.len(), 6.0 / (inputs as f32).sqrt()),
        }
    });
    Weights::from_values(network.tensors(), values).unwrap()
}

/// Compares the first step of a network, and its evaluation with the statistics of that step, with PyTorch.
fn assert_matches(name: &str, network: &Network, count: usize) {
    let references: BTreeMap<String, Reference> =
        serde_json::from_str(include_str!("../fixtures/networks.json")).unwrap();
    let reference = &references[name];
    let (weights, shape) = (wave_state(network), network.input());
    let pixels = wave(1000, count * shape.len(), 4.0);
    let targets: Vec<Target> = (0..count).map(|i| Target::new(i * i % network.classes(), 1.0)).collect();
    let batch = Batch { images: &pixels, targets: &targets, loss: Loss::default(), offsets: &[] };
    let (pass, mut work) = (Pass { batch_statistics: true, ..Pass::inference() }, Workspace::default());
    let loss = weights.with_slices(|slices| network.gradients(slices, &pass, batch, &mut work)).unwrap();
    let loss = loss.sum / count as f64;
    assert!((loss - reference.loss).abs() < 1e-4 * reference.loss, "{name}: {loss} {}", reference.loss);
    assert_eq!(network.parameters().len(), reference.norms.len());
    let largest = reference.norms.values().copied().fold(0.0, f64::max);
    for parameter in network.parameters() {
        let values = &work.gradient()[parameter.range.clone()];
        let ours = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let theirs = reference.norms[&parameter.name];
        // PyTorch itself in f32 differs by up to 1e-3 from f64 here, where a value passes the kink of a ReLU.
        assert!((ours - theirs).abs() < 5e-3 * theirs + 1e-6 * largest, "{name}, {}: {ours} {theirs}", parameter.name);
    }
    network.update_statistics(&work, &weights).unwrap();
    let shape = (count, shape.height, shape.width, shape.channels);
    let images = Tensor::from_slice(&pixels, shape, &candle_core::Device::Cpu).unwrap();
    let logits = network.predictor(&weights).unwrap().predict(&images).unwrap();
    let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    let largest = reference.logits.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    for (ours, theirs) in logits.iter().zip(&reference.logits) {
        assert!((f64::from(*ours) - theirs).abs() < 1e-3 * largest, "{name}: logit {ours}, not {theirs}");
    }
}

/// Every way in which normalisation, activation and addition can meet.
fn mixed(b: &mut Builder<'_>, image: Value) -> Result<Value, String> {
    let a = b.conv("conv1", image, ConvConfig::new(8, 3))?;
    let x = b.batch_norm("bn1", a, 1e-3);
    let x = b.activation(x, Activation::Silu);
    let y = b.conv("conv2", x, ConvConfig::new(8, 3))?;
    let y = b.batch_norm("bn2", y, 1e-5);
    let c = b.add("add1", [y, x])?;
    let d = b.conv("conv3", c, ConvConfig::new(8, 5).depthwise())?;
    let d = b.batch_norm("bn3", d, 1e-5);
    let e = b.batch_norm("bn4", a, 1e-5);
    let d = b.add("add2", [d, e])?;
    let d = b.activation(d, Activation::Relu);
    let x = b.overlapping_max_pool("pool", d)?;
    let x = b.conv("conv4", x, ConvConfig { groups: 2, ..ConvConfig::new(12, 3).stride(2).bias() })?;
    let x = b.activation(x, Activation::Relu6);
    b.features(x);
    let x = b.global_pool("mean", x);
    let x = b.flatten("flatten", x);
    Ok(b.dense("fc", x, 3))
}

#[test]
fn networks_match_pytorch() {
    let shape = |height, width| MapShape { height, width, channels: 3 };
    let network = Graph::build(shape(13, 18), mixed).and_then(Network::new).unwrap();
    assert_matches("mixed", &network, 5);
    for (name, height, width, count) in [
        ("efficientnet-lite0", 75, 100, 6),
        ("efficientnet-lite1", 64, 64, 4),
        ("efficientnet-lite2", 64, 64, 4),
        ("resnet-18", 75, 100, 6),
        ("mobilenet-v2", 75, 100, 6),
    ] {
        assert_matches(name, &model::find(name).unwrap().network(shape(height, width), 7).unwrap(), count);
    }
}

/// Convolutions of many channels, which run for several images at once.
fn wide(b: &mut Builder<'_>, image: Value) -> Result<Value, String> {
    let x = b.conv("conv1", image, ConvConfig::new(33, 3).stride(2))?;
    let x = b.batch_norm("bn1", x, 1e-5);
    let shortcut = b.activation(x, Activation::Relu);
    let x = b.conv("conv2", shortcut, ConvConfig::new(40, 3))?;
    let x = b.batch_norm("bn2", x, 1e-5);
    let x = b.activation(x, Activation::Relu);
    let x = b.conv("conv3", x, ConvConfig::new(33, 3))?;
    let x = b.batch_norm("bn3", x, 1e-5);
    let x = b.add("add", [x, shortcut])?;
    b.features(x);
    let x = b.global_pool("pool", x);
    let x = b.flatten("flatten", x);
    Ok(b.dense("fc", x, 3))
}

#[test]
fn normalised_networks_do_not_depend_on_threads_and_instructions() {
    for (build, count) in [(mixed as fn(&mut Builder<'_>, Value) -> Result<Value, String>, 5), (wide, 9)] {
        // Large enough for several chunks of tiles.
        let (height, width) = if count > 5 { (22, 28) } else { (9, 12) };
        let network = Graph::build(MapShape { height, width, channels: 3 }, build).and_then(Network::new).unwrap();
        assert_is_independent(&network, count);
    }
}

/// The gradients of a batch, and predictions, have the same bits with any number of threads and at any level.
fn assert_is_independent(network: &Network, count: usize) {
    let weights = wave_state(network);
    let run = |threads: usize, level: Level| {
        let pixels = wave(5, count * network.input().len(), 4.0);
        let targets: Vec<Target> = (0..count).map(|i| Target::new(i % 3, 1.0)).collect();
        let batch = Batch { images: &pixels, targets: &targets, loss: Loss::default(), offsets: &[] };
        let (pass, mut work) = (Pass { level, ..Pass::training(3) }, Workspace::default());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let logits = pool.install(|| {
            weights.with_slices(|slices| network.gradients(slices, &pass, batch, &mut work)).unwrap();
            // A second step, in buffers that are not empty.
            weights.with_slices(|slices| network.gradients(slices, &pass, batch, &mut work)).unwrap();
            let shape = (count, network.input().height, network.input().width, 3);
            let images = Tensor::from_slice(&pixels, shape, &candle_core::Device::Cpu).unwrap();
            let logits = network.predictor_at(&weights, level).unwrap().predict(&images).unwrap();
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        });
        work.gradient().iter().chain(&logits).map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    let expected = run(1, Level::PORTABLE);
    for level in Level::available() {
        for threads in [1, 3, 9] {
            assert!(run(threads, level) == expected, "{threads} threads, {level:?}");
        }
    }
}

/// If a digest changes, so do the bytes of trained models: increment the revision of `train`, unless no release has the
/// network. Release 0.1 has `baseline` alone.
#[test]
fn the_golden_digests_of_the_gradients() {
    let digests = [
        ("baseline", "94b2d103edb3"),
        ("efficientnet-lite0", "a549d9cc09a3"),
        ("efficientnet-lite1", "f7fbc5cba755"),
        ("efficientnet-lite2", "cc8bff2d26e7"),
        ("resnet-18", "4f88223caa71"),
        ("mobilenet-v2", "29804c880230"),
    ];
    assert_eq!(digests.len(), model::MODELS.len());
    let found = digests.map(|(name, _)| {
        let network = model::find(name).unwrap().network(MapShape { height: 33, width: 40, channels: 3 }, 7).unwrap();
        let weights = Weights::draw(network.tensors(), &mut Random::new(1, "init")).unwrap();
        let pixels = wave(5, 3 * network.input().len(), 4.0);
        let targets = [0, 3, 5].map(|class| Target::new(class, 1.0));
        let batch = Batch { images: &pixels, targets: &targets, loss: Loss::default(), offsets: &[] };
        let mut work = Workspace::default();
        weights.with_slices(|slices| network.gradients(slices, &Pass::training(1), batch, &mut work)).unwrap();
        let bytes: Vec<u8> = work.gradient().iter().flat_map(|value| value.to_le_bytes()).collect();
        (name, blake3::hash(&bytes).to_hex()[..12].to_owned())
    });
    assert_eq!(found.each_ref().map(|(name, digest)| (*name, &digest[..])), digests);
}

#[test]
fn the_output_of_a_graph_must_be_its_last_dense_layer() {
    let shape = MapShape { height: 4, width: 4, channels: 3 };
    let error = Graph::build(shape, |b, image| Ok(b.flatten("flatten", image))).unwrap_err();
    assert!(error.contains("must end with a dense layer"), "{error}");
}

#[test]
fn the_estimate_of_memory_is_what_a_step_allocates() {
    for name in ["efficientnet-lite0", "resnet-18"] {
        let network = model::find(name).unwrap().network(MapShape { height: 64, width: 64, channels: 3 }, 7).unwrap();
        let weights = Weights::draw(network.tensors(), &mut Random::new(1, "init")).unwrap();
        let pixels = wave(1, 3 * network.input().len(), 4.0);
        let targets = [0, 1, 2].map(|class| Target::new(class, 1.0));
        let batch = Batch { images: &pixels, targets: &targets, loss: Loss::default(), offsets: &[] };
        let mut work = Workspace::default();
        weights.with_slices(|slices| network.gradients(slices, &Pass::training(1), batch, &mut work)).unwrap();
        let (estimate, allocated) = (Workspace::bytes_for(&network, 3) as f64, work.allocated() as f64);
        assert!((estimate / allocated - 1.0).abs() < 0.1, "{name}: {estimate} {allocated}");
    }
}

/// A normalised map that is flattened directly.
fn flattened(b: &mut Builder<'_>, image: Value) -> Result<Value, String> {
    let x = b.conv("conv1", image, ConvConfig::new(6, 3).stride(2))?;
    let x = b.batch_norm("bn1", x, 1e-5);
    let x = b.activation(x, Activation::Relu);
    b.features(x);
    let x = b.flatten("flatten", x);
    Ok(b.dense("fc", x, 3))
}

#[test]
fn a_normalised_map_can_be_flattened() {
    let shape = MapShape { height: 5, width: 7, channels: 3 };
    let network = Graph::build(shape, flattened).and_then(Network::new).unwrap();
    assert_matches("flattened", &network, 4);
}

#[test]
fn vectors_only_take_dense_layers_dropout_and_relu() {
    let shape = MapShape { height: 4, width: 4, channels: 3 };
    let error = |build: fn(&mut Builder<'_>, Value) -> Result<Value, String>| {
        Graph::build(shape, build).and_then(Network::new).unwrap_err()
    };
    let found = error(|b, image| {
        let x = b.flatten("flatten", image);
        let x = b.dense("dense1", x, 4);
        let x = b.activation(x, Activation::Relu6);
        Ok(b.dense("dense2", x, 2))
    });
    assert!(found.contains("only ReLU directly after a dense layer"), "{found}");
    let found = error(|b, image| {
        let x = b.flatten("flatten", image);
        let x = b.dense("dense1", x, 4);
        let x = b.batch_norm("bn", x, 1e-3);
        Ok(b.dense("dense2", x, 2))
    });
    assert!(found.contains("`bn` must come before `flatten`"), "{found}");
}
