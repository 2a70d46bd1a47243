//! A graphics processor of NVIDIA, checked and measured.
//!
//! `cargo bench --bench cuda --features cuda` compares every operation and whole trainings with the processor's, then prints images
//! per second of training steps for each precision and batch size; `-- check` and `-- measure` do one of them. `-- operations` checks
//! in f32 without the models, `-- again` trains twice and without recordings, `-- algorithms` prints cuDNN's. With `-- serve`
//! it answers lines `MODEL PRECISION BATCH STEPS` with milliseconds per step: `bench/cuda.py` puts PyTorch beside it, in interleaved rounds.
//! The exit code is 1 where something differs, and 2 where there is no device.

use std::collections::HashMap;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::Instant;

use hamflow_kernels::shape::MapShape;
use hamflow_ml::cuda::buffer::Number;
use hamflow_ml::cuda::check::check;
use hamflow_ml::cuda::cursor::Cursor;
use hamflow_ml::cuda::epoch_buffer::{EpochBuffer, EpochValues};
use hamflow_ml::cuda::queue::Queue;
use hamflow_ml::cuda::rate::Rate;
use hamflow_ml::cuda::session::{Session, Settings, Source};
use hamflow_ml::cuda::{CudaError, Gpu, usable};
use hamflow_ml::loss::Target;
use hamflow_ml::model::{self, Model};
use hamflow_ml::normalisation::Normalisation;
use hamflow_ml::precision::Precision;
use hamflow_ml::weights::Weights;
use hamflow_stage_api::{Random, StageError};

const PRECISIONS: [(&str, Precision); 3] =
    [("f32", Precision::F32), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)];
const BATCHES: [usize; 3] = [10, 64, 512];
const ROUNDS: usize = 7;
const SHAPE: MapShape = MapShape { height: 75, width: 100, channels: 3 };
const CLASSES: usize = 7;
/// Images on the device that batches are gathered from.
const IMAGES: usize = 1024;
/// Images that the steps between two looks at the clock see, at most.
const PLACES: usize = 1_000_000;

/// A training step of one size, recorded.
struct Training {
    most_steps: usize,
    session: Session<Gpu>,
    source: Source,
    recording: <Gpu as Queue>::Recording,
}

impl Training {
    fn new(model: &Model, precision: Precision, batch: usize) -> Result<Self, CudaError> {
        let network = model.network(SHAPE, CLASSES).expect("it fits");
        let mut random = Random::new(1, "bench");
        let weights = Weights::draw(network.tensors(), &mut random).expect("there is memory");
        let settings = Settings::new(precision, batch, Normalisation::shared(128.0, 64.0));
        let mut session = Session::new(Gpu::new(precision)?, &network, &vec![0; network.parameters().len()], settings)?;
        let images = session.queue.allocate(Number::U8, IMAGES * SHAPE.len())?;
        let bytes: Vec<u8> = (0..IMAGES * SHAPE.len()).map(|_| random.below(256) as u8).collect();
        session.queue.upload(images, &bytes)?;
        let most_steps = PLACES / batch;
        let places = batch * most_steps;
        let epoch = EpochBuffer::new(&mut session.queue, places, most_steps, 1)?;
        let values = EpochValues {
            order: (0..places).map(|place| (place % IMAGES) as u32).collect(),
            targets: (0..places).map(|place| Target::new(place % IMAGES % CLASSES, 1.0)).collect(),
            rates: vec![Rate { alpha: 1e-5, decay: 1.0, epsilon: 1e-7, trains: true }; most_steps],
            ..EpochValues::default()
        };
        epoch.upload(&mut session.queue, &values)?;
        let cursor = session.queue.allocate(Number::U8, Cursor::SIZE)?;
        let source = Source { images, epoch, cursor };
        let convolutions = session.plan().convolutions(batch);
        session.queue.prepare(&convolutions)?;
        let weights = weights.with_slices(|slices| slices.concat()).expect("the weights are here");
        session.load(&weights)?;
        session.set_cursor(cursor, Cursor::default())?;
        session.train(&source, batch)?;
        session.queue.begin_recording()?;
        session.train(&source, batch)?;
        let recording = session.queue.end_recording()?;
        Ok(Self { most_steps, session, source, recording })
    }

    /// Milliseconds per step.
    fn measure(&mut self, steps: usize) -> Result<f64, CudaError> {
        let steps = steps.clamp(1, self.most_steps);
        self.session.set_cursor(self.source.cursor, Cursor::default())?;
        let started = Instant::now();
        for _ in 0..steps {
            self.session.queue.replay(&self.recording)?;
        }
        self.session.queue.wait()?;
        Ok(started.elapsed().as_secs_f64() * 1e3 / steps as f64)
    }
}

/// Prints every comparison; says whether all are good.
fn checked() -> Result<bool, StageError> {
    let mut findings = Vec::new();
    let models: Vec<_> = model::MODELS.iter().collect();
    for (_, precision) in PRECISIONS {
        findings.extend(check(precision, &models, Gpu::new)?);
    }
    for finding in &findings {
        let word = if finding.is_good() { "good" } else { "BAD " };
        println!("{word} {:<80} {:.2e} of {:.2e}", finding.what, finding.difference, finding.allowed);
    }
    let bad = findings.iter().filter(|finding| !finding.is_good()).count();
    println!("{} comparisons with the processor, {bad} bad", findings.len());
    Ok(bad == 0)
}

/// Prints the comparisons of operations and small trainings in f32, among them the same training twice.
fn compared(filter: &str) -> Result<bool, StageError> {
    let findings = check(Precision::F32, &[], Gpu::new)?;
    let mut is_good = true;
    for finding in findings.iter().filter(|finding| finding.what.contains(filter)) {
        println!("{} {:.2e} of {:.2e}", finding.what, finding.difference, finding.allowed);
        is_good &= finding.is_good();
    }
    Ok(is_good)
}

/// Prints the algorithms of each convolution of the models, forward and backward.
fn algorithms() -> Result<(), StageError> {
    for (name, precision) in PRECISIONS {
        for model in model::MODELS {
            let training = Training::new(model, precision, BATCHES[1])?;
            let mut chosen = training.session.queue.algorithms();
            chosen.sort_by_key(|(convolution, _)| (convolution.height, convolution.inputs, convolution.outputs));
            for (convolution, algorithms) in chosen {
                println!("{name} {}: {convolution:?}: {}", model.name, algorithms.join(", "));
            }
        }
    }
    Ok(())
}

fn measured() -> Result<(), StageError> {
    let baseline = model::find("baseline").expect("there is a baseline");
    for (name, precision) in PRECISIONS {
        for batch in BATCHES {
            let mut training = Training::new(baseline, precision, batch)?;
            let once = training.measure(50)?;
            let steps = (500.0 / once) as usize;
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(training.measure(steps)?);
            }
            rounds.sort_by(f64::total_cmp);
            let median = rounds[ROUNDS / 2];
            println!(
                "{name:<4} batch {batch:>3}: {median:>8.3} ms per step, {:>8.0} images/s",
                batch as f64 / median * 1e3
            );
        }
    }
    Ok(())
}

fn serve() -> Result<(), StageError> {
    let mut trainings: HashMap<String, Training> = HashMap::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let (case, steps) = line.rsplit_once(' ').expect("MODEL PRECISION BATCH STEPS");
        let steps = steps.parse().expect("a number of steps");
        if !trainings.contains_key(case) {
            let [model, precision, batch]: [&str; 3] =
                case.split(' ').collect::<Vec<_>>().try_into().expect("MODEL PRECISION BATCH STEPS");
            let (_, precision) = *PRECISIONS.iter().find(|known| known.0 == precision).expect("a precision");
            let batch = batch.parse().expect("a batch size");
            // One at a time, so that what is measured does not depend on what was measured before.
            trainings.clear();
            let training = Training::new(model::find(model).expect("a model"), precision, batch)?;
            trainings.insert(case.to_owned(), training);
        }
        let training = trainings.get_mut(case).expect("it was just made");
        training.measure(3)?;
        println!("{:.4}", training.measure(steps)?);
    }
    Ok(())
}

fn main() -> ExitCode {
    match usable(Precision::F32) {
        Ok(usable) => eprintln!("{}", usable.class()),
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            return ExitCode::from(2);
        }
    }
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    let done = if asked("serve") {
        serve().map(|()| true)
    } else if asked("check") {
        checked()
    } else if asked("operations") {
        compared("")
    } else if asked("again") {
        compared("the same training")
    } else if asked("algorithms") {
        algorithms().map(|()| true)
    } else if asked("measure") {
        measured().map(|()| true)
    } else {
        checked().and_then(|is_good| measured().map(|()| is_good))
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
