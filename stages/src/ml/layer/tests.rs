//! Compares outputs and gradients of the layers with PyTorch and with finite differences.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Conv, Dense, ImageDropout, ImageLayer, ImageSeen, MaxPool, Pass, RowDropout, RowLayer, RowsSeen};
use crate::ml::shape::MapShape;
use crate::ml::wave;

/// PyTorch's results, written by `fixtures/layers.py`.
#[derive(Deserialize)]
struct Reference {
    output: Vec<f32>,
    weights: Vec<f32>,
    input: Vec<f32>,
}

fn reference(name: &str) -> Reference {
    let all: BTreeMap<String, Reference> = serde_json::from_str(include_str!("../fixtures/layers.json")).unwrap();
    all.into_iter().find(|(key, _)| key == name).unwrap().1
}

/// The output, the gradient of the weights, and the gradient of the input.
type Results = (Vec<f32>, Vec<f32>, Vec<f32>);

fn run_image(
    layer: &dyn ImageLayer,
    pass: &Pass,
    shape: MapShape,
    weights: &[&[f32]],
    values: (&[f32], &[f32]),
) -> Results {
    let bordered = |shape: MapShape, values: &[f32]| {
        let mut map = vec![0.0; shape.bordered_len()];
        shape.put(values, &mut map);
        map
    };
    let plain = |shape: MapShape, map: &[f32]| {
        let mut values = vec![0.0; shape.len()];
        shape.take(map, &mut values);
        values
    };
    let input = bordered(shape, values.0);
    let mut output = vec![0.0; layer.output().bordered_len()];
    layer.forward(pass, weights, 3, &input, &mut output);
    let mut prepared = Vec::new();
    layer.prepare(weights, &mut prepared);
    let mut gradient = bordered(layer.output(), values.1);
    let mut weight_gradient = vec![7.0; weights.iter().map(|values| values.len()).sum()];
    let mut input_gradient = bordered(shape, &vec![7.0; shape.len()]);
    let seen = ImageSeen { weights, prepared: &prepared, image: 3, input: &input, output: &output };
    layer.backward(pass, seen, &mut gradient, &mut weight_gradient, Some(&mut input_gradient));
    (plain(layer.output(), &output), weight_gradient, plain(shape, &input_gradient))
}

fn run_rows(layer: &dyn RowLayer, pass: &Pass, weights: &[&[f32]], rows: usize, values: (&[f32], &[f32])) -> Results {
    let mut output = vec![0.0; rows * layer.output()];
    layer.forward(pass, weights, rows, values.0, &mut output);
    let mut weight_gradient = vec![7.0; weights.iter().map(|values| values.len()).sum()];
    let mut input_gradient = vec![7.0; values.0.len()];
    let seen = RowsSeen { weights, rows, input: values.0, output: &output };
    layer.backward(pass, seen, &mut values.1.to_vec(), &mut weight_gradient, &mut input_gradient);
    (output, weight_gradient, input_gradient)
}

fn assert_close(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-6 + 1e-5 * b.abs(), "value {i}: {a} instead of {b}");
    }
}

fn assert_is(name: &str, results: Results) {
    let reference = reference(name);
    assert_close(&results.0, &reference.output);
    assert_close(&results.1, &reference.weights);
    assert_close(&results.2, &reference.input);
}

const SHAPE: MapShape = MapShape { height: 5, width: 7, channels: 3 };

#[test]
fn a_convolution_matches_pytorch() {
    let (weights, bias) = (wave(2, 135, 1.0), wave(3, 5, 1.0));
    let (input, gradient) = (wave(1, 105, 1.0), wave(4, 175, 1.0));
    let layer = Conv::new(SHAPE, 5);
    assert_is("conv", run_image(&layer, &Pass::inference(), SHAPE, &[&weights, &bias], (&input, &gradient)));
}

#[test]
fn pooling_of_odd_sizes_matches_pytorch() {
    let shape = MapShape { channels: 2, ..SHAPE };
    let (input, gradient) = (wave(5, 70, 1.0), wave(6, 12, 1.0));
    assert_is("max_pool", run_image(&MaxPool::new(shape), &Pass::inference(), shape, &[], (&input, &gradient)));
}

#[test]
fn a_dense_layer_matches_pytorch() {
    let (weights, bias) = (wave(8, 360, 1.0), wave(9, 18, 1.0));
    let (input, gradient) = (wave(7, 60, 1.0), wave(10, 54, 1.0));
    let layer = Dense::new(20, 18, true);
    assert_is("dense", run_rows(&layer, &Pass::inference(), &[&weights, &bias], 3, (&input, &gradient)));
}

/// Compares gradients with finite differences of Σ output · gradient in a few places. The steps avoid ReLU's kink.
fn check_differences(values: &[f32], gradient: &[f32], mut objective: impl FnMut(&[f32]) -> f64) {
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
    assert!(agreed * 10 >= places.len() * 7, "{agreed} of {}", places.len());
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn gradients_match_finite_differences() {
    let pass = Pass { dropout: Some(99), ..Pass::inference() };
    let (weights, bias) = (wave(2, 9 * 3 * 41, 1.0), wave(3, 41, 1.0));
    let (input, gradient) = (wave(1, 105, 4.0), wave(4, 35 * 41, 1.0));
    let image_layers: [&dyn ImageLayer; 3] =
        [&Conv::new(SHAPE, 41), &MaxPool::new(SHAPE), &ImageDropout::new(SHAPE, 0.4, 3)];
    for layer in image_layers {
        let has_weights = !layer.parameters().is_empty();
        let weights: Vec<&[f32]> = if has_weights { vec![&weights, &bias] } else { vec![] };
        let gradient = &gradient[..layer.output().len()];
        let run = |weights: &[&[f32]], input: &[f32]| run_image(layer, &pass, SHAPE, weights, (input, gradient));
        let (_, weight_gradient, input_gradient) = run(&weights, &input);
        check_differences(&input, &input_gradient, |input| dot(&run(&weights, input).0, gradient));
        if has_weights {
            let count = weights[0].len();
            check_differences(weights[0], &weight_gradient, |tried| dot(&run(&[tried, &bias], &input).0, gradient));
            check_differences(&bias, &weight_gradient[count..], |tried| {
                dot(&run(&[weights[0], tried], &input).0, gradient)
            });
        }
    }

    // More inputs than one task processes.
    let (weights, bias) = (wave(2, 1100 * 9, 0.2), wave(3, 9, 1.0));
    let (input, gradient) = (wave(1, 3 * 1100, 4.0), wave(4, 3 * 1100, 1.0));
    let dense = Dense::new(1100, 9, true);
    let run = |weights: &[f32], bias: &[f32], input: &[f32]| {
        run_rows(&dense, &pass, &[weights, bias], 3, (input, &gradient[..27]))
    };
    let (_, weight_gradient, input_gradient) = run(&weights, &bias, &input);
    check_differences(&input, &input_gradient, |tried| dot(&run(&weights, &bias, tried).0, &gradient));
    check_differences(&weights, &weight_gradient, |tried| dot(&run(tried, &bias, &input).0, &gradient));
    check_differences(&bias, &weight_gradient[1100 * 9..], |tried| dot(&run(&weights, tried, &input).0, &gradient));

    let dropout = RowDropout::new(1100, 0.5, 1);
    let run = |input: &[f32]| run_rows(&dropout, &pass, &[], 3, (input, &gradient));
    check_differences(&input, &run(&input).2, |tried| dot(&run(tried).0, &gradient));
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
