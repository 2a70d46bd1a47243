//! Compares the whole network with PyTorch, and asserts bit-identical results on any number of threads.

use super::*;
use crate::ml::kernels::Level;
use crate::ml::model;
use crate::ml::optimiser::Adam;
use crate::ml::wave;
use hamflow_stage_api::Random;

pub(super) fn baseline(height: usize, width: usize, classes: usize, dropout: bool) -> Network {
    let configs = (model::find("baseline").unwrap().layers)(classes);
    let configs: Vec<_> =
        configs.into_iter().filter(|config| dropout || !matches!(config, LayerConfig::Dropout { .. })).collect();
    Network::new(MapShape { height, width, channels: 3 }, &configs).unwrap()
}

#[test]
fn the_baseline_has_the_parameters_of_the_notebook() {
    let network = baseline(75, 100, 7, true);
    assert_eq!(network.parameter_count(), 3_752_999);
    let rows: Vec<_> = network.layers().iter().map(|layer| (layer.name.as_str(), layer.parameters)).collect();
    assert_eq!(rows[0], ("conv1", 896));
    assert_eq!(rows[9], ("dense1", 3_686_528));
    assert_eq!(network.layers()[8].output, [28_800]);
    assert_eq!(rows[11], ("dense2", 903));
}

#[test]
fn an_image_that_is_too_small_is_rejected() {
    let configs = (model::find("baseline").unwrap().layers)(3);
    let error = Network::new(MapShape { height: 3, width: 8, channels: 3 }, &configs).err().unwrap();
    assert!(error.contains("3×8"), "{error}");
}

/// Weights by the formula in `fixtures/layers.py`.
pub(super) fn wave_weights(network: &Network) -> Weights {
    let values = (100..).zip(network.parameters()).map(|(salt, parameter)| {
        let scale = match parameter.config.initial {
            crate::ml::layer::Initial::Zeros => 0.1,
            crate::ml::layer::Initial::GlorotUniform { fan_in, fan_out } => {
                2.0 * (6.0 / (fan_in + fan_out) as f64).sqrt()
            }
        };
        wave(salt, parameter.config.len(), scale as f32)
    });
    Weights::from_values(network.parameters(), values).unwrap()
}

// Both lists are printed by fixtures/layers.py.
#[test]
fn twenty_steps_match_pytorch() {
    let network = baseline(13, 18, 3, false);
    let weights = wave_weights(&network);
    let mut work = Workspace::default();
    let mut adam = Adam::new(network.parameter_count());
    for step in 1..=20usize {
        let images = wave(1000 + step as u32, 6 * 13 * 18 * 3, 4.0);
        let class_weights = if step <= 10 { [1.0; 3] } else { [0.5, 2.0, 1.25] };
        let targets: Vec<Target> =
            (0..6usize).map(|i| (step + i * i) % 3).map(|class| Target::new(class, class_weights[class])).collect();
        let batch = Batch { images: &images, targets: &targets, loss: Loss::default() };
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
        adam.step(Level::detect(), 1e-3, network.parameters(), work.gradient(), &weights).unwrap();
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
    let network = baseline(height, width, 3, true);
    let weights = Weights::draw(network.parameters(), &mut Random::new(1, "init")).unwrap();
    let mut work = Workspace::default();
    let mut adam = Adam::new(network.parameter_count());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        for step in 0..2u32 {
            let pixels = wave(step, images * height * width * 3, 4.0);
            let targets: Vec<Target> = (0..images).map(|i| Target::new(i % 3, 1.0)).collect();
            let batch = Batch { images: &pixels, targets: &targets, loss: Loss::default() };
            let pass = Pass { level, dropout: Some(u64::from(step)) };
            weights.with_slices(|slices| network.gradients(slices, &pass, batch, &mut work)).unwrap();
            adam.step(level, 1e-3, network.parameters(), work.gradient(), &weights).unwrap();
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
    let network = baseline(9, 14, 3, true);
    let weights = Weights::draw(network.parameters(), &mut Random::new(1, "init")).unwrap();
    let pixels = wave(8, 5 * 9 * 14 * 3, 4.0);
    let predict = |pixels: &[f32]| {
        let shape = (pixels.len() / (9 * 14 * 3), 9, 14, 3);
        let images = Tensor::from_slice(pixels, shape, &candle_core::Device::Cpu).unwrap();
        network.predict(&weights, &images).unwrap().to_vec2::<f32>().unwrap()
    };
    let together = predict(&pixels);
    let alone: Vec<_> = pixels.chunks(9 * 14 * 3).flat_map(predict).collect();
    assert_eq!(together, alone);
}
