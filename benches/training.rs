//! How long a step of training takes: forward, backward, Adam, over batches that are in memory; and a prediction.
//!
//! `cargo bench --bench training` prints milliseconds per step, medians of rounds. With `-- serve` it answers lines
//! `NETWORK train|predict HEIGHT WIDTH BATCH STEPS` with milliseconds per step: `bench/training.py` puts other programs
//! beside it, in interleaved rounds.

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Instant;

use candle_core::{Device, Tensor};
use hamflow_kernels::shape::MapShape;
use hamflow_ml::loss::{Loss, Target};
use hamflow_ml::model;
use hamflow_ml::network::{Batch, Network, Predictor, Workspace};
use hamflow_ml::op::{Pass, mix};
use hamflow_ml::optim::{self, Adam, OptimiserState};
use hamflow_ml::weights::Weights;
use hamflow_stage_api::Random;

const CASES: [&str; 6] = [
    "baseline train 75 100 10",
    "baseline train 75 100 32",
    "baseline train 75 100 64",
    "efficientnet-lite0 train 112 150 32",
    "efficientnet-lite0 predict 112 150 32",
    "resnet-18 train 112 150 32",
];
const ROUNDS: usize = 5;
const CLASSES: usize = 7;

/// A network with a batch.
struct Case {
    network: Network,
    weights: Weights,
    optimiser: OptimiserState,
    rates: Vec<Option<f64>>,
    work: Workspace,
    images: Vec<f32>,
    targets: Vec<Target>,
    is_training: bool,
}

impl Case {
    /// From `NETWORK train|predict HEIGHT WIDTH BATCH`.
    fn new(text: &str) -> Self {
        let [name, mode, height, width, batch] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let [height, width, batch] = [height, width, batch].map(|number| number.parse::<usize>().expect("a number"));
        let shape = MapShape { height, width, channels: 3 };
        let model = model::find(name).expect("a model");
        let network = model.network(shape, CLASSES).expect("it fits");
        let mut random = Random::new(1, "bench");
        let weights = Weights::draw(network.tensors(), &mut random).expect("there is memory");
        Self {
            optimiser: OptimiserState::zeros(2, network.parameter_count()),
            rates: vec![Some(1e-3); network.parameters().len()],
            images: (0..batch * shape.len()).map(|_| random.uniform(-2.0, 2.0) as f32).collect(),
            targets: (0..batch).map(|row| Target::new(row % CLASSES, 1.0)).collect(),
            network,
            weights,
            work: Workspace::default(),
            is_training: mode == "train",
        }
    }

    fn predict(&self, predictor: &Predictor<'_>) {
        let MapShape { height, width, channels } = self.network.input();
        let shape = (self.targets.len(), height, width, channels);
        let images = Tensor::from_slice(&self.images, shape, &Device::Cpu).expect("there is memory");
        std::hint::black_box(predictor.predict(&images).expect("the weights are here"));
    }

    fn train(&mut self) {
        let pass = Pass::training(mix(1, self.optimiser.steps));
        let batch = Batch { images: &self.images, targets: &self.targets, loss: Loss::default(), offsets: &[] };
        let (network, work) = (&self.network, &mut self.work);
        let loss = self.weights.with_slices(|weights| network.gradients(weights, &pass, batch, work));
        std::hint::black_box(loss.expect("the weights are here"));
        network.update_statistics(&self.work, &self.weights).expect("the weights are here");
        let parameters = (network.parameters(), &self.rates[..]);
        let (gradient, weights) = (self.work.gradient(), &self.weights);
        optim::step(&Adam, &mut self.optimiser, pass.level, parameters, gradient, weights)
            .expect("the weights are here");
    }

    /// Milliseconds per step. The weights are rearranged once for all predictions, as in `evaluate`.
    fn measure(&mut self, steps: usize) -> f64 {
        if self.is_training {
            return milliseconds(steps, || self.train());
        }
        let predictor = self.network.predictor(&self.weights).expect("the weights are here");
        milliseconds(steps, || self.predict(&predictor))
    }
}

/// Milliseconds per step, after a first one.
fn milliseconds(steps: usize, mut step: impl FnMut()) -> f64 {
    step();
    let started = Instant::now();
    (0..steps).for_each(|_| step());
    started.elapsed().as_secs_f64() * 1e3 / steps as f64
}

fn main() {
    let mut cases: HashMap<String, Case> = HashMap::new();
    if std::env::args().any(|argument| argument == "serve") {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let (text, steps) = line.rsplit_once(' ').expect("CASE STEPS");
            let case = cases.entry(text.to_owned()).or_insert_with(|| Case::new(text));
            println!("{:.3}", case.measure(steps.parse().expect("a number of steps")));
        }
        return;
    }
    for text in CASES {
        let mut case = Case::new(text);
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| case.measure(4)).collect();
        rounds.sort_by(f64::total_cmp);
        println!("{text}: {:>7.1} ms per step, least {:.1}", rounds[ROUNDS / 2], rounds[0]);
    }
}
