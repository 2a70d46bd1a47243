//! How long a step of training takes: forward, backward, Adam, over batches that are in memory.
//!
//! `cargo bench --bench training` prints milliseconds per step, medians of rounds. With `-- serve` it answers lines `BATCH STEPS`
//! with milliseconds per step: `bench/training.py` puts other programs beside it, in interleaved rounds.

use std::io::BufRead;
use std::time::Instant;

use hamflow_stage_api::Random;
use hamflow_stages::ml::kernels::Level;
use hamflow_stages::ml::layer::{Pass, mix};
use hamflow_stages::ml::loss::{Loss, Target};
use hamflow_stages::ml::model;
use hamflow_stages::ml::network::{Batch, Network, Workspace};
use hamflow_stages::ml::optimiser::Adam;
use hamflow_stages::ml::shape::MapShape;
use hamflow_stages::ml::weights::Weights;

const BATCHES: [usize; 3] = [10, 32, 64];
const ROUNDS: usize = 5;
const SHAPE: MapShape = MapShape { height: 75, width: 100, channels: 3 };
const CLASSES: usize = 7;

struct Training {
    network: Network,
    weights: Weights,
    adam: Adam,
    work: Workspace,
    images: Vec<f32>,
    targets: Vec<Target>,
}

impl Training {
    fn new() -> Self {
        let layers = (model::find("baseline").expect("there is a baseline").layers)(CLASSES);
        let network = Network::new(SHAPE, &layers).expect("it fits");
        let mut random = Random::new(1, "bench");
        let weights = Weights::draw(network.parameters(), &mut random).expect("there is memory");
        let most = BATCHES[BATCHES.len() - 1];
        Self {
            adam: Adam::new(network.parameter_count()),
            images: (0..most * SHAPE.len()).map(|_| random.uniform(-2.0, 2.0) as f32).collect(),
            targets: (0..most).map(|row| Target::new(row % CLASSES, 1.0)).collect(),
            network,
            weights,
            work: Workspace::default(),
        }
    }

    fn step(&mut self, batch: usize) {
        let pass = Pass { level: Level::detect(), dropout: Some(mix(1, self.adam.steps())) };
        let of_batch = Batch {
            images: &self.images[..batch * SHAPE.len()],
            targets: &self.targets[..batch],
            loss: Loss::default(),
        };
        let (network, work) = (&self.network, &mut self.work);
        let loss = self.weights.with_slices(|weights| network.gradients(weights, &pass, of_batch, work));
        std::hint::black_box(loss.expect("the weights are here"));
        let gradient = self.work.gradient();
        self.adam.step(pass.level, 1e-3, network.parameters(), gradient, &self.weights).expect("the weights are here");
    }

    /// Milliseconds per step.
    fn measure(&mut self, batch: usize, steps: usize) -> f64 {
        self.step(batch);
        let started = Instant::now();
        (0..steps).for_each(|_| self.step(batch));
        started.elapsed().as_secs_f64() * 1e3 / steps as f64
    }
}

fn main() {
    let mut training = Training::new();
    if std::env::args().any(|argument| argument == "serve") {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let mut numbers = line.split(' ').map(|number| number.parse::<usize>().expect("BATCH STEPS"));
            let (batch, steps) = (numbers.next().expect("a batch"), numbers.next().expect("steps"));
            println!("{:.3}", training.measure(batch, steps));
        }
        return;
    }
    for batch in BATCHES {
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| training.measure(batch, (200 / batch).max(4))).collect();
        rounds.sort_by(f64::total_cmp);
        println!("batch {batch:>2}: {:>7.1} ms per step, least {:.1}", rounds[ROUNDS / 2], rounds[0]);
    }
}
