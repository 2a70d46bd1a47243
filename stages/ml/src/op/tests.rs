//! Compares outputs and gradients of the operations with PyTorch in f64 and with finite differences.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use hamflow_kernels::shape::MapShape;
use hamflow_kernels::wave;

/// Few numbers that depend on every value and its place.
#[derive(Deserialize)]
struct Probe {
    len: usize,
    samples: Vec<f64>,
    norm: f64,
    product: f64,
}

/// PyTorch's results, written by `fixtures/reference.py`.
#[derive(Deserialize)]
struct Reference {
    output: Probe,
    weights: Probe,
    inputs: Vec<Probe>,
}

impl Probe {
    fn assert(&self, what: &str, ours: &[f32]) {
        assert_eq!(ours.len(), self.len, "{what}");
        // The error of a sum of f32 grows with the size of its terms, which is about that of the largest values.
        let unit = (self.norm / (self.len.max(1) as f64).sqrt()).max(1e-3);
        let step = (self.len / 24).max(1);
        for (i, (ours, theirs)) in ours.iter().step_by(step).zip(&self.samples).enumerate() {
            assert!((f64::from(*ours) - theirs).abs() < 2e-5 * unit, "{what}: sample {i} is {ours}, not {theirs}");
        }
        let norm = ours.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!((norm - self.norm).abs() < 1e-5 * self.norm.max(1e-3), "{what}: norm {norm}, not {}", self.norm);
        let waves = wave(77, ours.len(), 1.0);
        let product: f64 = ours.iter().zip(waves).map(|(value, wave)| f64::from(*value) * f64::from(wave)).sum();
        assert!((product - self.product).abs() < 1e-5 * self.norm.max(1e-3), "{what}: {product}, not {}", self.product);
    }
}

fn references() -> BTreeMap<String, Reference> {
    serde_json::from_str(include_str!("../fixtures/operations.json")).unwrap()
}

/// Compares an operation on maps of these shapes with PyTorch.
fn assert_is(reference: &Reference, name: &str, op: &dyn MapOp, inputs: &[MapShape]) {
    let pass = &Pass { batch_statistics: true, ..Pass::inference() };
    let pass = &ImagePass { pass, image: 3 };
    let values: Vec<Vec<f32>> = [1, 4].iter().zip(inputs).map(|(salt, shape)| wave(*salt, shape.len(), 1.0)).collect();
    let plain: Vec<apply::Plain<'_>> =
        inputs.iter().zip(&values).map(|(shape, values)| (*shape, &values[..])).collect();
    let weights: Vec<Vec<f32>> =
        [2, 3].iter().zip(op.parameters()).map(|(salt, config)| wave(*salt, config.len(), 1.0)).collect();
    let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    reference.output.assert(&format!("{name}: output"), &apply::forward(op, pass, &weights, &plain));
    let gradient = wave(50, op.output().len(), 1.0);
    let (of_weights, of_inputs) = apply::backward(op, pass, &weights, &plain, &gradient);
    reference.weights.assert(&format!("{name}: gradient of the weights"), &of_weights);
    for (input, (reference, ours)) in reference.inputs.iter().zip(&of_inputs).enumerate() {
        reference.assert(&format!("{name}: gradient of input {input}"), ours);
    }
    if op.is_grouped() {
        assert_group_is(reference, name, op, &weights, (plain[0], &gradient));
    }
    let Some(row_len) = op.weight_row_len() else { return };
    let rows = of_weights.len() / row_len;
    let mut split = vec![0.0; of_weights.len()];
    // Blocks that neither weights of the kernel nor channels divide.
    for first in (0..rows).step_by(5) {
        let block = first..(first + 5).min(rows);
        let of_block = &mut split[first * row_len..block.end * row_len];
        apply::weight_rows(op, pass, block, plain[0], &gradient, of_block);
    }
    reference.weights.assert(&format!("{name}: gradient of the weights in blocks"), &split);
}

/// Compares a grouped operation with PyTorch: two images are those of the reference, and between them is one without
/// gradient.
fn assert_group_is(
    reference: &Reference,
    name: &str,
    op: &dyn MapOp,
    weights: &[&[f32]],
    (input, gradient): (apply::Plain<'_>, &[f32]),
) {
    let (other, none) = (wave(9, input.0.len(), 1.0), vec![0.0; gradient.len()]);
    let images = [(input, gradient), ((input.0, &other[..]), &none), (input, gradient)];
    for level in Level::available() {
        let pass = Pass { level, batch_statistics: true, ..Pass::inference() };
        let (outputs, (mut of_weights, of_inputs)) = apply::group(op, &pass, weights, &images);
        let alone = apply::forward(op, &ImagePass { pass: &pass, image: 1 }, weights, &[images[1].0]);
        assert_eq!(outputs[1], alone, "{name}: the image between");
        assert!(of_inputs[1].iter().all(|value| *value == 0.0), "{name}: the gradient of the image between");
        of_weights.iter_mut().for_each(|value| *value /= 2.0);
        reference.weights.assert(&format!("{name}: gradient of the weights over images"), &of_weights);
        for image in [0, 2] {
            reference.output.assert(&format!("{name}: output of image {image}"), &outputs[image]);
            reference.inputs[0].assert(&format!("{name}: gradient of image {image}"), &of_inputs[image]);
        }
    }
}

fn map(height: usize, width: usize, channels: usize) -> MapShape {
    MapShape { height, width, channels }
}

#[test]
fn convolutions_match_pytorch() {
    let conv = |filters, kernel, stride, padding, groups, bias| ConvConfig {
        stride,
        padding,
        groups,
        bias,
        ..ConvConfig::new(filters, kernel)
    };
    let (both, same) = (Padding::Both, Padding::Same);
    let cases = [
        ("conv 3x3", map(75, 100, 3), conv(32, 3, 1, both(1), 1, false)),
        ("conv 3x3 bias", map(5, 7, 3), conv(5, 3, 1, both(1), 1, true)),
        ("conv 3x3 stride 2 same", map(75, 100, 3), conv(32, 3, 2, same, 1, false)),
        ("conv 3x3 stride 2 same, large", map(150, 200, 3), conv(8, 3, 2, same, 1, false)),
        ("conv 3x3 stride 2", map(38, 51, 16), conv(24, 3, 2, both(1), 1, false)),
        ("conv 7x7 stride 2", map(75, 100, 3), conv(16, 7, 2, both(3), 1, false)),
        ("conv 5x5", map(9, 14, 4), conv(6, 5, 1, both(2), 1, false)),
        ("conv 5x5 groups", map(9, 14, 6), conv(9, 5, 2, both(2), 3, true)),
        ("conv 4x4 same", map(9, 14, 4), conv(6, 4, 1, same, 1, false)),
        ("conv 3x3 many", map(9, 14, 37), conv(50, 3, 1, both(1), 1, false)),
        ("conv 3x3 stride 2 many", map(9, 14, 64), conv(80, 3, 2, both(1), 1, false)),
        ("conv 1x1", map(38, 50, 40), conv(61, 1, 1, both(0), 1, false)),
        ("conv 1x1 stride 2", map(19, 26, 24), conv(40, 1, 2, both(0), 1, false)),
        ("depthwise 3x3", map(75, 100, 24), conv(24, 3, 1, both(1), 24, false)),
        ("depthwise 3x3 stride 2", map(75, 100, 24), conv(24, 3, 2, both(1), 24, false)),
        ("depthwise 3x3 stride 2 same", map(75, 100, 41), conv(41, 3, 2, same, 41, false)),
        ("depthwise 5x5", map(19, 25, 40), conv(40, 5, 1, both(2), 40, false)),
        ("depthwise 5x5 stride 2 same", map(150, 200, 8), conv(8, 5, 2, same, 8, false)),
        ("depthwise 5x5 stride 2 same, tiny", map(3, 2, 8), conv(8, 5, 2, same, 8, false)),
        ("depthwise 7x7", map(4, 5, 9), conv(9, 7, 1, both(3), 9, false)),
    ];
    let references = references();
    let mut grouped = Vec::new();
    for (name, input, config) in cases {
        assert_is(&references[name], name, &*config.build(input).unwrap(), &[input]);
        // The general operation computes what the specialised ones do.
        assert_is(&references[name], &format!("{name}, patches"), &Conv::new(input, config).unwrap(), &[input]);
        grouped.extend(config.build(input).unwrap().is_grouped().then_some(name));
    }
    assert_eq!(grouped, ["conv 3x3 many", "conv 3x3 stride 2 many"]);
    let direct = DirectConv::new(map(5, 7, 3), ConvConfig::new(5, 3).bias(), true);
    assert_is(&references["conv 3x3 bias relu"], "conv 3x3 bias relu", &direct, &[map(5, 7, 3)]);
    assert_eq!(references.keys().filter(|name| name.starts_with("conv") || name.starts_with("depth")).count(), 21);
}

#[test]
fn pooling_and_sums_match_pytorch() {
    let references = references();
    for (height, width) in [(5, 7), (75, 100), (150, 200)] {
        let (name, input) = (format!("max pool 2x2 {height}x{width}"), map(height, width, 5));
        assert_is(&references[&name], &name, &MaxPool::halving(input).unwrap(), &[input]);
        let (name, input) = (format!("max pool 3x3 {height}x{width}"), map(height, width, 17));
        assert_is(&references[&name], &name, &MaxPool::overlapping(input).unwrap(), &[input]);
    }
    let input = map(19, 25, 33);
    assert_is(&references["global pool"], "global pool", &GlobalPool::new(input), &[input]);
    assert_is(&references["add"], "add", &Add::new([input; 2]).unwrap(), &[input; 2]);
}

#[test]
fn a_dense_layer_matches_pytorch() {
    let (weights, bias) = (wave(2, 360, 1.0), wave(3, 18, 1.0));
    let (input, gradient) = (wave(1, 60, 1.0), wave(50, 54, 1.0));
    let (output, of_weights, of_input) =
        run_rows(&Dense::new(20, 18, true), &Pass::inference(), &[&weights, &bias], 3, (&input, &gradient));
    let references = references();
    references["dense"].output.assert("dense: output", &output);
    references["dense"].weights.assert("dense: gradient of the weights", &of_weights);
    references["dense"].inputs[0].assert("dense: gradient of the input", &of_input);
}

/// The output, the gradient of the weights, and the gradient of the input.
type Results = (Vec<f32>, Vec<f32>, Vec<f32>);

fn run_rows(op: &dyn RowOp, pass: &Pass, weights: &[&[f32]], rows: usize, values: (&[f32], &[f32])) -> Results {
    let mut output = vec![7.0; rows * op.output()];
    op.forward(pass, weights, rows, values.0, &mut output);
    let mut weight_gradient = vec![7.0; weights.iter().map(|values| values.len()).sum()];
    let mut input_gradient = vec![7.0; values.0.len()];
    let seen = RowsSeen { weights, rows, input: values.0, output: &output };
    op.backward(pass, seen, &mut values.1.to_vec(), &mut weight_gradient, &mut input_gradient);
    (output, weight_gradient, input_gradient)
}

/// Compares gradients with finite differences of Σ output · gradient in a few places. The steps avoid ReLU's kink.
fn check_differences(what: &str, values: &[f32], gradient: &[f32], mut objective: impl FnMut(&[f32]) -> f64) {
    let mut tried = values.to_vec();
    let mut agreed = 0;
    let places: Vec<usize> = (0..values.len()).step_by(values.len() / 12 + 1).collect();
    for &i in &places {
        let step = 1e-2;
        let mut at = |offset: f32| {
            tried[i] = values[i] + offset;
            let value = objective(&tried);
            tried[i] = values[i];
            value
        };
        let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
        agreed += usize::from((difference - f64::from(gradient[i])).abs() < 2e-3 + 1e-3 * difference.abs());
    }
    // A step across the kink of a ReLU, or across a tie in a pooling window, may legitimately disagree.
    assert!(agreed * 10 >= places.len() * 7, "{what}: {agreed} of {}", places.len());
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn gradients_match_finite_differences() {
    let input = map(5, 7, 6);
    let training = Pass { dropout: Some(99), ..Pass::inference() };
    let pass = &ImagePass { pass: &training, image: 3 };
    let conv = ConvConfig::new(6, 3);
    let ops: [Box<dyn MapOp>; 11] = [
        Box::new(DirectConv::new(input, conv.bias(), true)),
        Box::new(DirectConv::new(input, conv, false)),
        Box::new(Conv::new(input, ConvConfig { groups: 2, stride: 2, ..conv.bias() }).unwrap()),
        Box::new(Pointwise::new(input, 41)),
        Box::new(Depthwise::new(input, conv.depthwise().stride(2).same()).unwrap()),
        Box::new(MaxPool::halving(input).unwrap()),
        Box::new(MaxPool::overlapping(input).unwrap()),
        Box::new(GlobalPool::new(input)),
        Box::new(Materialise::new(input)),
        Box::new(ImageDropout::new(input, 0.4, 3)),
        Box::new(StochasticDepth::new(input, 0.2, 3)),
    ];
    for op in &ops {
        let (values, gradient) = (wave(1, input.len(), 4.0), wave(50, op.output().len(), 1.0));
        let weights: Vec<Vec<f32>> =
            (2..).zip(op.parameters()).map(|(salt, config)| wave(salt, config.len(), 1.0)).collect();
        let run = |weights: &[Vec<f32>], values: &[f32]| {
            let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
            dot(&apply::forward(&**op, pass, &weights, &[(input, values)]), &gradient)
        };
        let tensors: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
        let (of_weights, of_inputs) = apply::backward(&**op, pass, &tensors, &[(input, &values)], &gradient);
        check_differences(&op.kind(), &values, &of_inputs[0], |tried| run(&weights, tried));
        let mut start = 0;
        for index in 0..weights.len() {
            let of_tensor = &of_weights[start..][..weights[index].len()];
            start += of_tensor.len();
            check_differences(&op.kind(), &weights[index], of_tensor, |tried| {
                let mut weights = weights.clone();
                weights[index] = tried.to_vec();
                run(&weights, &values)
            });
        }
    }

    // More inputs than one task processes.
    let (weights, bias) = (wave(2, 1100 * 9, 0.2), wave(3, 9, 1.0));
    let (input, gradient) = (wave(1, 3 * 1100, 4.0), wave(4, 3 * 1100, 1.0));
    let dense = Dense::new(1100, 9, true);
    let run = |weights: &[f32], bias: &[f32], input: &[f32]| {
        run_rows(&dense, &training, &[weights, bias], 3, (input, &gradient[..27]))
    };
    let (_, weight_gradient, input_gradient) = run(&weights, &bias, &input);
    let check = |values: &[f32], gradient: &[f32], run: &dyn Fn(&[f32]) -> Vec<f32>, of_output: &[f32]| {
        check_differences("rows", values, gradient, |tried| dot(&run(tried), of_output));
    };
    check(&input, &input_gradient, &|tried| run(&weights, &bias, tried).0, &gradient);
    check(&weights, &weight_gradient, &|tried| run(tried, &bias, &input).0, &gradient);
    check(&bias, &weight_gradient[1100 * 9..], &|tried| run(&weights, tried, &input).0, &gradient);

    let dropout = RowDropout::new(1100, 0.5, 1);
    let run = |input: &[f32]| run_rows(&dropout, &training, &[], 3, (input, &gradient));
    check(&input, &run(&input).2, &|tried| run(tried).0, &gradient);
}

#[test]
fn dropout_drops_the_given_fraction_and_preserves_the_mean() {
    let dropout = RowDropout::new(100_000, 0.25, 1);
    let pass = |dropout| Pass { dropout, ..Pass::inference() };
    let ones = vec![1.0; 100_000];
    let draw = |key| run_rows(&dropout, &pass(key), &[], 1, (&ones, &ones)).0;
    let dropped = draw(Some(5)).iter().filter(|value| **value == 0.0).count();
    assert!((24_500..25_500).contains(&dropped), "{dropped}");
    assert!(draw(Some(5)).iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
    assert_eq!(draw(Some(5)), draw(Some(5)));
    assert_ne!(draw(Some(5)), draw(Some(6)));
    assert_eq!(draw(None), ones);
}

#[test]
fn stochastic_depth_drops_whole_images_and_preserves_the_mean() {
    let input = map(1, 2, 1);
    let op = StochasticDepth::new(input, 0.2, 4);
    let draw = |dropout, image| {
        let pass = &Pass { dropout, ..Pass::inference() };
        apply::forward(&op, &ImagePass { pass, image }, &[], &[(input, &[1.0, 1.0])])
    };
    let drawn: Vec<Vec<f32>> = (0..10_000).map(|image| draw(Some(7), image)).collect();
    let dropped = drawn.iter().filter(|values| **values == [0.0, 0.0]).count();
    assert!((1_850..2_150).contains(&dropped), "{dropped}");
    assert!(drawn.iter().all(|values| *values == [0.0, 0.0] || *values == [1.25, 1.25]));
    assert_eq!(draw(None, 3), [1.0, 1.0]);
}

#[test]
fn operations_that_do_not_fit_are_rejected() {
    let error = |config: ConvConfig, input| config.build(input).err().unwrap();
    assert!(error(ConvConfig::new(6, 3), map(0, 4, 3)).contains("too small"));
    assert!(
        error(ConvConfig { padding: Padding::Both(0), ..ConvConfig::new(6, 5) }, map(4, 9, 3))
            .contains("4×9 is too small for a 5×5")
    );
    assert!(error(ConvConfig { groups: 4, ..ConvConfig::new(6, 3) }, map(9, 9, 6)).contains("into 4 groups"));
    assert!(MaxPool::halving(map(1, 9, 3)).unwrap_err().contains("too small for 2×2 pooling"));
    assert!(Add::new([map(1, 2, 3), map(1, 2, 4)]).unwrap_err().contains("cannot be added"));
}
