//! Tests that drawn lesions are reproducible and that the mean colour does not reveal the class.

use hamflow_stage_api::Random;

use super::*;

#[test]
fn the_same_streams_draw_the_same_image() {
    let draw = || {
        let lesion = Lesion::new(Diagnosis::Mel, &mut Random::new(1, "lesion"));
        lesion.view(60, 45, &mut Random::new(1, "view")).into_raw()
    };
    assert_eq!(draw(), draw());
}

#[test]
fn views_of_one_lesion_differ() {
    let lesion = Lesion::new(Diagnosis::Nv, &mut Random::new(1, "lesion"));
    let view = |purpose| lesion.view(60, 45, &mut Random::new(1, purpose)).into_raw();
    assert_ne!(view("first"), view("second"));
}

/// Features for a linear classifier on the mean colour, and the class.
fn mean_colours(purpose: &str, per_class: usize) -> Vec<([f64; 4], usize)> {
    let mut random = Random::new(5, purpose);
    let mut rows = Vec::new();
    for (class, diagnosis) in Diagnosis::ALL.into_iter().enumerate() {
        for _ in 0..per_class {
            let view = Lesion::new(diagnosis, &mut random).view(40, 30, &mut random);
            let count = f64::from(view.width() * view.height());
            let mean = |channel: usize| {
                let sum: f64 = view.pixels().map(|pixel| f64::from(pixel.0[channel])).sum();
                (sum / count - 128.0) / 64.0
            };
            rows.push(([mean(0), mean(1), mean(2), 1.0], class));
        }
    }
    rows
}

// Softmax regression by gradient descent on the same number of lesions of each class, which maximises the balanced
// accuracy that the mean colour allows.
#[test]
fn a_classifier_on_the_mean_colour_stays_below_two_fifths() {
    let train = mean_colours("train", 150);
    let test = mean_colours("test", 150);
    let mut weights = [[0.0; 4]; 7];
    let scores =
        |weights: &[[f64; 4]; 7], x: &[f64; 4]| weights.map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>());
    for _ in 0..400 {
        let mut gradient = [[0.0; 4]; 7];
        for (x, class) in &train {
            let scores = scores(&weights, x).map(libm::exp);
            let total: f64 = scores.iter().sum();
            for (k, row) in gradient.iter_mut().enumerate() {
                let error = scores[k] / total - f64::from(u8::from(k == *class));
                for (slope, x) in row.iter_mut().zip(x) {
                    *slope += error * x / train.len() as f64;
                }
            }
        }
        for (weight, slope) in weights.as_flattened_mut().iter_mut().zip(gradient.as_flattened()) {
            *weight -= 2.0 * slope;
        }
    }
    let right = test.iter().filter(|(x, class)| {
        let scores = scores(&weights, x);
        (0..7).max_by(|a, b| scores[*a].total_cmp(&scores[*b])) == Some(*class)
    });
    let accuracy = right.count() as f64 / test.len() as f64;
    assert!(accuracy < 0.4, "{accuracy}");
    // It is not zero either: colour is a weak cue.
    assert!(accuracy > 1.0 / 7.0, "{accuracy}");
}
