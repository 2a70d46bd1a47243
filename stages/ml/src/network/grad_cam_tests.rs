use super::*;
use crate::network::tests::{baseline, wave_weights};
use hamflow_kernels::wave;

/// The heat map of a 13×18 image for each of three classes, by the formulas in `fixtures/reference.py`.
fn heat(class: usize) -> HeatMap {
    let network = baseline(13, 18, 3);
    let image = wave(2000, 13 * 18 * 3, 4.0);
    let grad_cam = GradCam::new(&network).unwrap();
    wave_weights(&network).with_slices(|weights| grad_cam.heat(weights, &image, class)).unwrap()
}

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().copied().fold(0.0, f64::max);
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-5 * largest, "{place}: {found} {expected}");
    }
}

// The lists are printed by fixtures/reference.py.
#[test]
fn heat_maps_match_pytorch() {
    for (class, expected) in HEAT.iter().enumerate() {
        let heat = heat(class);
        assert_eq!((heat.height, heat.width), (6, 9));
        assert_near(&heat.values, expected);
    }
}

#[test]
fn heat_maps_are_resized_as_in_pytorch() {
    let resized = heat(2).resized(13, 18);
    let every: Vec<f64> = (0..13)
        .step_by(4)
        .flat_map(|y| (0..18).step_by(5).map(move |x| (y, x)))
        .map(|(y, x)| resized.values[y * 18 + x])
        .collect();
    assert_near(&every, &RESIZED);
}

#[test]
fn a_network_without_a_feature_map_has_no_heat_map() {
    use crate::graph::Graph;
    use hamflow_kernels::shape::MapShape;
    let build = |b: &mut crate::graph::Builder<'_>, image| {
        let x = b.flatten("flatten", image);
        Ok(b.dense("dense", x, 2))
    };
    let network = Graph::build(MapShape { height: 2, width: 2, channels: 3 }, build).and_then(Network::new).unwrap();
    assert!(GradCam::new(&network).is_none());
}

const HEAT: [[f64; 54]; 3] = [
    [
        0.0,
        0.0,
        0.0,
        0.000148063,
        0.0,
        0.000137555,
        0.0,
        0.000787904,
        0.000633333,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.000457393,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.000157325,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    ],
    [
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    ],
    [
        0.000128437,
        0.00363027,
        0.00368763,
        0.00427088,
        0.00266553,
        0.00490428,
        0.00456602,
        0.00207903,
        0.000696645,
        0.00236166,
        0.00457237,
        0.00475444,
        0.00474809,
        0.00559628,
        0.00609937,
        0.00538345,
        0.00357285,
        0.00140364,
        0.00162383,
        0.00246522,
        0.00437874,
        0.00271473,
        0.00503078,
        0.00641719,
        0.00772558,
        0.004606,
        0.0,
        0.00127099,
        0.00317175,
        0.00444507,
        0.00378373,
        0.0051116,
        0.00406284,
        0.00539105,
        0.00193254,
        0.0,
        0.0017315,
        0.00194713,
        0.00398235,
        0.00221558,
        0.00528415,
        0.00471247,
        0.00644147,
        0.00333269,
        0.0,
        0.00210802,
        0.00279395,
        0.0026675,
        0.00204173,
        0.00245395,
        0.00370464,
        0.00258323,
        0.00169887,
        0.0,
    ],
];
const RESIZED: [f64; 16] = [
    0.000128437,
    0.00383344,
    0.00434459,
    0.00173343,
    0.00193599,
    0.00429702,
    0.00602955,
    0.00327513,
    0.00146582,
    0.00396705,
    0.00454941,
    0.00189369,
    0.00210802,
    0.00251106,
    0.00339197,
    0.00127415,
];
