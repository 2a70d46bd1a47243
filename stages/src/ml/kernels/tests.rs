//! All levels give identical bits, which match a reference in f64.

use super::*;
use crate::ml::shape::MapShape;
use crate::ml::wave;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Runs `work` at every level and asserts that the bits are identical; returns the portable result.
fn at_every_level(name: &str, work: impl Fn(Level) -> Vec<f32>) -> Vec<f32> {
    let portable = work(Level::PORTABLE);
    for level in Level::available() {
        assert!(bits(&work(level)) == bits(&portable), "{name} differs at {level:?}");
    }
    portable
}

/// Bordered maps with values inside and a border of zeros.
fn map(salt: u32, shape: MapShape) -> Vec<f32> {
    let mut map = vec![0.0; shape.bordered_len()];
    shape.put(&wave(salt, shape.len(), 1.0), &mut map);
    map
}

/// Sizes that no block size divides, sizes that blocks divide exactly, and single values.
const SIZES: [(usize, usize, usize, usize); 5] =
    [(5, 7, 3, 5), (3, 23, 4, 61), (2, 10, 8, 32), (1, 1, 1, 1), (4, 14, 5, 41)];

#[test]
fn convolutions_are_identical_at_every_level() {
    for (height, width, inputs, outputs) in SIZES {
        let shape = ConvShape { height, width, inputs, outputs };
        let (before, after) =
            (MapShape { height, width, channels: inputs }, MapShape { height, width, channels: outputs });
        let (input, gradient) = (map(1, before), map(2, after));
        let (weights, bias) = (wave(3, shape.weights(), 1.0), wave(4, outputs, 1.0));
        let output = at_every_level("conv3x3", |level| {
            let mut output = vec![0.0; after.bordered_len()];
            conv3x3(level, shape, &input, &weights, Epilogue::BiasRelu(&bias), &mut output);
            output
        });
        let weight_gradient = at_every_level("conv3x3_weight_gradient", |level| {
            let mut output = vec![0.0; shape.weights()];
            conv3x3_weight_gradient(level, shape, &input, &gradient, &mut output);
            output
        });
        at_every_level("relu_gradient", |level| {
            let (mut gradient, mut bias) = (gradient.clone(), vec![0.0; outputs]);
            relu_gradient(level, after, &output, &mut gradient, &mut bias);
            gradient.extend(bias);
            gradient
        });

        let at = |y: usize, x: usize, i: usize| f64::from(input[y * before.bordered_row() + x * inputs + i]);
        let mut expected = vec![0.0f64; shape.weights()];
        for y in 0..height {
            for x in 0..width {
                for (o, bias) in bias.iter().enumerate() {
                    let place = (y + 1) * after.bordered_row() + (x + 1) * outputs + o;
                    let mut sum = f64::from(*bias);
                    for tap in 0..9 {
                        for i in 0..inputs {
                            let (value, weight) = (at(y + tap / 3, x + tap % 3, i), (tap * inputs + i) * outputs + o);
                            sum += value * f64::from(weights[weight]);
                            expected[weight] += value * f64::from(gradient[place]);
                        }
                    }
                    assert!((f64::from(output[place]) - sum.max(0.0)).abs() < 1e-5);
                }
            }
        }
        for (ours, expected) in weight_gradient.iter().zip(expected) {
            assert!((f64::from(*ours) - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn products_are_identical_at_every_level() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 20, 18), (13, 33, 61), (10, 64, 128), (11, 17, 7)] {
        let shape = DenseShape { rows, stride: inputs, inputs, outputs };
        let (input, weights) = (wave(1, rows * inputs, 1.0), wave(2, inputs * outputs, 1.0));
        let gradient = wave(3, rows * outputs, 1.0);
        let forward = at_every_level("dense", |level| {
            let mut output = vec![0.0; rows * outputs];
            dense(level, shape, &input, &weights, &mut output);
            output
        });
        let of_weights = at_every_level("dense_weight_gradient", |level| {
            let mut output = vec![0.0; inputs * outputs];
            dense_weight_gradient(level, shape, &input, &gradient, &mut output);
            output
        });
        let of_input = at_every_level("dense_input_gradient", |level| {
            let mut output = vec![0.0; rows * inputs];
            dense_input_gradient(level, shape, &gradient, &weights, &mut output);
            output
        });
        let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
        let close = |ours: f32, sum: f64| assert!((f64::from(ours) - sum).abs() < 1e-5, "{ours} {sum}");
        for row in 0..rows {
            for o in 0..outputs {
                let terms = (0..inputs).map(|k| product(input[row * inputs + k], weights[k * outputs + o]));
                close(forward[row * outputs + o], terms.sum());
            }
            for k in 0..inputs {
                let terms = (0..outputs).map(|o| product(gradient[row * outputs + o], weights[k * outputs + o]));
                close(of_input[row * inputs + k], terms.sum());
            }
        }
        for k in 0..inputs {
            for o in 0..outputs {
                let terms = (0..rows).map(|row| product(input[row * inputs + k], gradient[row * outputs + o]));
                close(of_weights[k * outputs + o], terms.sum());
            }
        }
    }
}

#[test]
fn all_other_kernels_are_identical_at_every_level() {
    let shape = MapShape { height: 5, width: 9, channels: 35 };
    let input = map(1, shape);
    at_every_level("max_pool", |level| {
        let mut output = vec![0.0; shape.halved().bordered_len()];
        max_pool(level, shape, &input, &mut output);
        output
    });
    let gradient = map(2, shape.halved());
    at_every_level("max_pool_gradient", |level| {
        let mut output = vec![0.0; shape.bordered_len()];
        max_pool_gradient(level, shape, &input, &gradient, &mut output);
        output
    });
    let values = wave(3, 1003, 1.0);
    at_every_level("dropout", |level| {
        let mut output = vec![0.0; 1003];
        dropout(level, DropoutMask::new(0.3, 0x1234_5678_9abc), 17, &values, &mut output);
        output
    });
    at_every_level("adam", |level| {
        let step = AdamStep { alpha: 1e-3, rate1: 0.1, rate2: 1e-3, epsilon: 1e-7 };
        let (mut first, mut second, mut weights) = (wave(4, 1003, 1.0), vec![0.25; 1003], wave(6, 1003, 1.0));
        adam(level, step, &values, &mut first, &mut second, &mut weights);
        [first, second, weights].concat()
    });
    at_every_level("add", |level| {
        let mut sums = wave(7, 1003, 1.0);
        add(level, &values, &mut sums);
        sums
    });
}
