//! All levels give identical bits, which match a reference in f64.

use super::*;
use crate::shape::{Layout, MapShape};
use crate::wave;

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
    let layout = Layout::bordered(shape);
    let mut map = vec![0.0; layout.len()];
    layout.put(&wave(salt, shape.len(), 1.0), &mut map);
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
        let (before, after) = (Layout::bordered(before), Layout::bordered(after));
        let (weights, bias) = (wave(3, shape.weights(), 1.0), wave(4, outputs, 1.0));
        let output = at_every_level("conv3x3", |level| {
            let mut output = vec![0.0; after.len()];
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

        let at = |y: usize, x: usize, i: usize| f64::from(input[y * before.row_len() + x * inputs + i]);
        let mut expected = vec![0.0f64; shape.weights()];
        for y in 0..height {
            for x in 0..width {
                for (o, bias) in bias.iter().enumerate() {
                    let place = (y + 1) * after.row_len() + (x + 1) * outputs + o;
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
    let (before, after) = (Layout::bordered(shape), Layout::bordered(shape.halved()));
    at_every_level("max_pool", |level| {
        let mut output = vec![0.0; after.len()];
        max_pool(level, before, after, &input, &mut output);
        output
    });
    let gradient = map(2, shape.halved());
    at_every_level("max_pool_gradient", |level| {
        let mut output = vec![0.0; before.len()];
        max_pool_gradient(level, before, after, &input, &gradient, &mut output);
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
    at_every_level("momentum", |level| {
        let (mut velocity, mut weights) = (wave(4, 1003, 1.0), wave(6, 1003, 1.0));
        momentum(level, [0.9, 1e-2, 1e-1], &values, &mut velocity, &mut weights);
        scale(level, 0.75, &mut weights);
        blend(level, 0.3, &velocity, &mut weights);
        [velocity, weights].concat()
    });
    at_every_level("add", |level| {
        let mut sums = wave(7, 1003, 1.0);
        add(level, &values, &mut sums);
        sums
    });
}

#[test]
fn packed_products_are_identical_at_every_level() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 20, 18), (13, 33, 61), (61, 200, 40), (11, 17, 7), (25, 400, 96)] {
        let shape = ProductShape { rows, inputs, outputs, input_stride: inputs + 3, output_stride: outputs + 1 };
        let (input, weights) = (wave(1, rows * (inputs + 3), 1.0), wave(2, inputs * outputs, 1.0));
        let (gradient, before) = (wave(3, rows * (outputs + 1), 1.0), wave(4, rows * (outputs + 1), 1.0));
        let multiplied = |adds: bool, transposed: bool| {
            at_every_level("product", |level| {
                let strides = if transposed { [1, inputs] } else { [outputs, 1] };
                let mut packed = vec![7.0; packed_len(inputs, outputs)];
                pack(level, Matrix { values: &weights, inputs, outputs, strides }, &mut packed);
                let mut output = before.clone();
                product(level, shape, &input, &packed, adds, &mut output);
                output
            })
        };
        for (adds, transposed) in [(false, false), (true, false), (false, true)] {
            let output = multiplied(adds, transposed);
            for row in 0..rows {
                for o in 0..outputs {
                    let weight = |i: usize| weights[if transposed { o * inputs + i } else { i * outputs + o }];
                    let term = |i: usize| f64::from(input[row * (inputs + 3) + i]) * f64::from(weight(i));
                    let start = if adds { f64::from(before[row * (outputs + 1) + o]) } else { 0.0 };
                    let expected = start + (0..inputs).map(term).sum::<f64>();
                    assert!((f64::from(output[row * (outputs + 1) + o]) - expected).abs() < 1e-5);
                }
                let beside = row * (outputs + 1) + outputs;
                assert_eq!(output[beside], before[beside], "nothing is written beside the outputs");
            }
        }
        let start = wave(5, inputs * outputs, 1.0);
        let outer = at_every_level("outer_product", |level| {
            let mut sums = start.clone();
            outer_product(level, shape, &input, &gradient, true, &mut sums);
            sums
        });
        for i in 0..inputs {
            for o in 0..outputs {
                let term = |row: usize| {
                    f64::from(input[row * (inputs + 3) + i]) * f64::from(gradient[row * (outputs + 1) + o])
                };
                let expected = f64::from(start[i * outputs + o]) + (0..rows).map(term).sum::<f64>();
                assert!((f64::from(outer[i * outputs + o]) - expected).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn depthwise_rows_are_identical_at_every_level() {
    for channels in [1, 8, 16, 41] {
        let rows: Vec<Vec<f32>> = (0..3).map(|row| wave(row, 30 * channels, 1.0)).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let taps: Vec<Tap> = (0..9).map(|i| Tap { row: i / 3, pixel: i % 3, weight: i }).collect();
        let weights = wave(9, 9 * channels, 1.0);
        for (input_step, output_step, count) in [(1, 1, 11), (2, 1, 13), (1, 2, 9)] {
            let shape = Correlation { channels, count, input_step, output_step };
            let output = at_every_level("correlate", |level| {
                let mut output = wave(10, 30 * channels, 1.0);
                correlate(level, shape, &rows, &taps, &weights, true, &mut output);
                output
            });
            let before = wave(10, 30 * channels, 1.0);
            for t in 0..count {
                for c in 0..channels {
                    let term = |tap: &Tap| {
                        let value = rows[tap.row][(tap.pixel + t * input_step) * channels + c];
                        f64::from(value) * f64::from(weights[tap.weight * channels + c])
                    };
                    let place = t * output_step * channels + c;
                    let expected = f64::from(before[place]) + taps.iter().map(term).sum::<f64>();
                    assert!((f64::from(output[place]) - expected).abs() < 1e-5);
                }
            }
        }
        for (width, step) in [(3, 1), (5, 2), (7, 2)] {
            let gradient = wave(11, 9 * channels, 1.0);
            let sums = at_every_level("row_weight_gradient", |level| {
                let mut sums = wave(12, width * channels, 1.0);
                row_weight_gradient(level, channels, step, rows[0], &gradient, &mut sums);
                sums
            });
            for (i, (sum, start)) in sums.iter().zip(wave(12, width * channels, 1.0)).enumerate() {
                let (x, c) = (i / channels, i % channels);
                let term = |t: usize| {
                    f64::from(rows[0][(t * step + x) * channels + c]) * f64::from(gradient[t * channels + c])
                };
                assert!((f64::from(*sum) - f64::from(start) - (0..9).map(term).sum::<f64>()).abs() < 1e-5);
            }
        }
    }
}

/// The activations in f64, and their derivatives.
fn activation(activation: Activation, x: f64) -> (f64, f64) {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Identity => (x, 1.0),
        Activation::Relu => (x.max(0.0), f64::from(x > 0.0)),
        Activation::Relu6 => (x.clamp(0.0, 6.0), f64::from(x > 0.0 && x < 6.0)),
        Activation::Silu => (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid))),
    }
}

#[test]
fn views_are_identical_at_every_level() {
    let activations = [Activation::Identity, Activation::Relu, Activation::Relu6, Activation::Silu];
    for (channels, kind) in [1, 8, 43, 64].into_iter().flat_map(|channels| activations.map(|kind| (channels, kind))) {
        let (stored, gradient) = (wave(1, 7 * channels, 20.0), wave(2, 7 * channels, 1.0));
        let (scale, shift, mean) = (wave(3, channels, 2.0), wave(4, channels, 2.0), wave(5, channels, 1.0));
        for affine in [None, Some([&scale[..], &shift[..]])] {
            let of = View { channels, affine, activation: kind };
            let values = at_every_level("view", |level| {
                let mut values = vec![0.0; stored.len()];
                view(level, of, &stored, &mut values);
                values
            });
            let columns = at_every_level("view_columns", |level| {
                let mut values = vec![0.0; 7 * (channels - channels / 3)];
                view_columns(level, of, channels / 3..channels, &stored, &mut values);
                values
            });
            let slopes = at_every_level("view_gradient", |level| {
                let mut slopes = gradient.clone();
                view_gradient(level, of, &stored, &mut slopes);
                slopes
            });
            for (i, x) in stored.iter().enumerate() {
                let c = i % channels;
                let x = if affine.is_some() { x.mul_add(scale[c], shift[c]) } else { *x };
                let (value, slope) = activation(kind, f64::from(x));
                assert!((f64::from(values[i]) - value).abs() < 1e-5 * value.abs().max(1.0), "{kind:?} of {x}");
                let expected = f64::from(gradient[i]) * slope;
                assert!((f64::from(slopes[i]) - expected).abs() < 1e-5, "{kind:?} at {x}: {} {expected}", slopes[i]);
                if let Some(column) = c.checked_sub(channels / 3) {
                    let columns = &columns[i / channels * (channels - channels / 3)..];
                    assert!((columns[column] - values[i]).abs() < 1e-5 * values[i].abs().max(1.0));
                }
            }
            if affine.is_none() {
                continue;
            }
            let found = at_every_level("view_gradient_sums", |level| {
                let (mut slopes, mut sums) = (gradient.clone(), [vec![0.0; channels], vec![0.0; channels]]);
                let [gradients, products] = &mut sums;
                view_gradient_sums(level, of, &stored, &mut slopes, NormSums { mean: &mean, gradients, products });
                slopes.extend(sums.concat().into_iter().map(|sum| sum as f32));
                slopes
            });
            assert_eq!(found[..slopes.len()], slopes);
            for c in 0..channels {
                let pixels = || (0..7).map(|pixel| pixel * channels + c);
                let sum: f64 = pixels().map(|i| f64::from(slopes[i])).sum();
                let product = |i: usize| f64::from(slopes[i]) * f64::from(stored[i] - mean[c]);
                assert!((f64::from(found[slopes.len() + c]) - sum).abs() < 1e-5);
                assert!(
                    (f64::from(found[slopes.len() + channels + c]) - pixels().map(product).sum::<f64>()).abs() < 1e-4
                );
            }
        }
    }
}

#[test]
fn statistics_and_gradients_of_normalisation_are_identical_at_every_level() {
    for channels in [1, 8, 43] {
        let (stored, gradient) = (wave(1, 9 * channels, 4.0), wave(2, 9 * channels, 1.0));
        let sums = at_every_level("statistics", |level| {
            let [mut sums, mut squares] = [vec![1.0; channels], vec![2.0; channels]];
            statistics(level, &stored, &mut sums, &mut squares);
            [sums, squares].concat().into_iter().map(|sum| sum as f32).collect()
        });
        for c in 0..channels {
            let values = || stored.iter().skip(c).step_by(channels).map(|value| f64::from(*value));
            assert!((f64::from(sums[c]) - 1.0 - values().sum::<f64>()).abs() < 1e-4);
            assert!((f64::from(sums[channels + c]) - 2.0 - values().map(|x| x * x).sum::<f64>()).abs() < 1e-4);
        }
        let coefficients = [3, 4, 5].map(|salt| wave(salt, channels, 1.0));
        let coefficients = coefficients.each_ref().map(Vec::as_slice);
        let found = at_every_level("norm_gradient", |level| {
            let mut output = vec![0.0; stored.len()];
            norm_gradient(level, coefficients, &stored, &gradient, &mut output);
            output
        });
        let in_place = at_every_level("norm_gradient_in_place", |level| {
            let mut output = gradient.clone();
            norm_gradient_in_place(level, coefficients, &stored, &mut output);
            output
        });
        assert_eq!(bits(&found), bits(&in_place));
        for (i, found) in found.iter().enumerate() {
            let [a, b, c] = coefficients.map(|values| values[i % channels]);
            assert!((found - (a * gradient[i] + b * stored[i] + c)).abs() < 1e-5);
        }
    }
}

#[test]
fn overlapping_pooling_is_identical_at_every_level() {
    let shape = MapShape { height: 5, width: 8, channels: 19 };
    let windows = Windows {
        input: Layout::plain(shape),
        output: Layout::bordered(MapShape { height: 3, width: 4, channels: 19 }),
        size: 3,
        stride: 2,
        padding: 1,
    };
    let (values, gradient) = (wave(1, shape.len(), 1.0), wave(2, windows.output.len(), 1.0));
    at_every_level("window_max", |level| {
        let mut maxima = vec![0.0; windows.output.len()];
        window_max(level, windows, &values, &mut maxima);
        maxima
    });
    at_every_level("window_max_gradient", |level| {
        let mut result = wave(3, shape.len(), 1.0);
        window_max_gradient(level, windows, &values, &gradient, &mut result);
        result
    });
}
