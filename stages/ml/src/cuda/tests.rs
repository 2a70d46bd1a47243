//! The device commands on the CPU, and compilation of the kernels with NVRTC.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::check::{Finding, check, check_operations, train_for_an_epoch};
use super::compile::{capabilities, compile, compile_with, compiled, is_possible};
use super::host_tests::{HostQueue, replay};
use super::kernel::Kernel;
use super::{CudaEngine, CudaError, Gpu, usable};
use crate::model::{self, MODELS};
use crate::normalisation::Normalisation;
use crate::precision::Precision;
use crate::recipe::Recipe;
use crate::trainer::{Data, Restored, Samples, Trainer, first_weights};
use hamflow_kernels::shape::MapShape;

#[test]
#[ignore = "needs NVRTC"]
fn every_kernel_compiles() {
    assert!(is_possible(), "no NVRTC (`pip install nvidia-cuda-nvrtc`, its folder on LD_LIBRARY_PATH)");
    let capabilities = capabilities().unwrap();
    assert!(capabilities.len() > 6, "{capabilities:?}");
    for capability in capabilities.into_iter().map(|capability| (capability / 10, capability % 10)) {
        let (code, log) =
            compile_with(capability, &["--ptxas-options=-v"]).unwrap_or_else(|error| panic!("{capability:?}: {error}"));
        assert!(code.starts_with(b"\x7fELF"), "{capability:?}");
        // Registers that do not suffice, and arrays that are indexed at run time, go to slow local memory.
        let lines = |what: &'static str| log.lines().filter(move |line| line.contains(what));
        assert_eq!(lines("Compiling entry function").count(), Kernel::ALL.len(), "{capability:?}: {log}");
        let empty = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
        let frames: Vec<&str> = lines("bytes stack frame").filter(|line| !line.ends_with(empty)).collect();
        assert!(frames.is_empty(), "{capability:?}: {frames:?} in {log}");
    }
    assert!(matches!(compile((1, 0)), Err(CudaError::Compile { .. })), "an unsupported compute capability");
}

/// Asserts that the device commands, executed on the CPU, match the CPU kernels.
fn check_on_the_processor(precision: Precision, models: &[&str]) {
    let models: Vec<_> = models.iter().map(|name| model::find(name).unwrap()).collect();
    let findings = check(precision, &models, |precision| Ok::<_, CudaError>(HostQueue::new(precision))).unwrap();
    for Finding { what, difference, allowed } in &findings {
        eprintln!("{difference:.1e} of {allowed:.1e}: {what}");
    }
    let bad: Vec<_> = findings.iter().filter(|finding| !finding.is_good()).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(findings.len() > 40, "{}", findings.len());
}

#[test]
#[ignore = "needs a C++ compiler"]
fn device_commands_match_the_cpu_in_f32() {
    check_on_the_processor(Precision::F32, &["efficientnet-lite0"]);
}

#[test]
#[ignore = "needs a C++ compiler"]
fn device_commands_match_the_cpu_in_tf32() {
    check_on_the_processor(Precision::Tf32, &[]);
}

#[test]
#[ignore = "needs a C++ compiler"]
fn device_commands_match_the_cpu_in_bf16() {
    check_on_the_processor(Precision::Bf16, &[]);
}

/// Launches of every kernel in f32, with threads of the system under the sanitizers of the compiler.
#[test]
#[ignore = "needs a C++ compiler"]
fn kernels_have_no_races_and_stay_within_their_buffers() {
    let launches = Arc::default();
    check_operations(&mut HostQueue::remembering(&launches), Precision::F32).unwrap();
    train_for_an_epoch(HostQueue::remembering(&launches)).unwrap();
    let launches = launches.lock().unwrap();
    for sanitizer in ["-fsanitize=thread", "-fsanitize=address,undefined"] {
        replay(&launches, sanitizer);
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_real_device_matches_the_cpu() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        usable(precision).unwrap();
        let findings = check(precision, &MODELS.iter().collect::<Vec<_>>(), Gpu::new).unwrap();
        let bad: Vec<_> = findings.iter().filter(|finding| !finding.is_good()).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

const SHAPE: MapShape = MapShape { height: 8, width: 9, channels: 3 };

fn recipe() -> Recipe {
    Recipe { seed: 5, epochs: 3, batch_size: 7, learning_rate: 2e-3, ..Recipe::default() }
}

/// Passes a trainer on a CPU queue to `work`.
fn with_trainer<R>(recipe: Recipe, count: usize, work: impl FnOnce(Trainer<'_>) -> R) -> R {
    with_trainer_on(HostQueue::new(Precision::F32), recipe, count, |trainer| work(trainer.unwrap()))
}

/// Passes a trainer on this queue to `work`, or why there is none.
fn with_trainer_on<R>(
    queue: HostQueue,
    recipe: Recipe,
    count: usize,
    work: impl FnOnce(Result<Trainer<'_>, CudaError>) -> R,
) -> R {
    let network = model::find("baseline").unwrap().network(SHAPE, 3).unwrap();
    let images: Vec<Vec<u8>> =
        (0..count + 5).map(|i| (0..SHAPE.len()).map(|k| ((i * 31 + k * (1 + i % 3)) % 256) as u8).collect()).collect();
    let samples = |range: std::ops::Range<usize>| Samples {
        images: images[range.clone()].iter().map(Vec::as_slice).collect(),
        classes: range.map(|i| i % 3).collect(),
        weights: Vec::new(),
    };
    let (training, validation) = (samples(0..count), samples(count..count + 5));
    let data = Data { normalisation: Normalisation::fit(&training.images), training, validation };
    let weights = first_weights(&network, &recipe).unwrap();
    let engine = CudaEngine::new(queue, &network, &recipe, Precision::F32, &data, weights);
    work(engine.map(|engine| Trainer::with_engine(&network, recipe, data.clone(), Box::new(engine))))
}

#[test]
#[ignore = "needs a C++ compiler"]
fn a_recording_ends_even_if_a_command_fails() {
    let mut queue = HostQueue::new(Precision::F32);
    queue.fails = true;
    let open = Arc::clone(&queue.open_recordings);
    let error = with_trainer_on(queue, recipe(), 17, |trainer| trainer.err().unwrap());
    assert_eq!(error.to_string(), "the CUDA device cannot convolve: \"it does not\"");
    assert_eq!(open.load(Ordering::Relaxed), 0);
}

#[test]
#[ignore = "needs a C++ compiler"]
fn an_epoch_that_stops_early_without_a_reason_is_an_error() {
    let mut queue = HostQueue::new(Precision::F32);
    queue.lies = true;
    let recipe = Recipe { batch_size: 1, ..recipe() };
    let error = with_trainer_on(queue, recipe, 200, |trainer| trainer.unwrap().run_epoch(|_| ()).err().unwrap());
    assert!(error.message.contains("it stopped after 128 of 200 images"), "{error}");
}

#[test]
#[ignore = "needs NVRTC"]
fn kernels_are_compiled_once_per_process() {
    let first = compiled((9, 0)).unwrap();
    let started = std::time::Instant::now();
    assert!(compiled((9, 0)).unwrap() == first);
    assert!(started.elapsed().as_millis() < 100, "NVRTC takes seconds");
}

#[test]
#[ignore = "needs a C++ compiler"]
fn training_on_a_device_resumes_bit_identically_from_a_checkpoint() {
    let run = |trainer: &mut Trainer<'_>, epochs: usize| {
        (0..epochs).for_each(|_| {
            trainer.run_epoch(|_| ()).unwrap();
        });
    };
    let (saved, whole) = with_trainer(recipe(), 17, |mut trainer| {
        run(&mut trainer, 1);
        let saved = trainer.checkpoint().unwrap();
        run(&mut trainer, 2);
        (saved, trainer.checkpoint().unwrap())
    });
    let gone_on = with_trainer(recipe(), 17, |mut trainer| {
        // Previous state on the device must be overwritten.
        run(&mut trainer, 2);
        assert_eq!(trainer.restore(&saved, 3).unwrap(), Restored::After(1));
        run(&mut trainer, 2);
        trainer.checkpoint().unwrap()
    });
    assert!(gone_on == whole, "weights, moments, schedule, best and history");
}

#[test]
#[ignore = "needs a C++ compiler"]
fn progress_is_reported_during_an_epoch() {
    let (told, loss) = with_trainer(Recipe { batch_size: 1, ..recipe() }, 200, |mut trainer| {
        let mut told = Vec::new();
        let record = trainer.run_epoch(|report| told.push((report.images, report.loss))).unwrap();
        (told, record.train_loss)
    });
    assert_eq!(told.iter().map(|(images, _)| *images).collect::<Vec<_>>(), [64, 128, 200]);
    assert!(told.iter().all(|(_, loss)| loss.is_finite()));
    assert_eq!(told[2].1, loss);
}

#[test]
#[ignore = "needs a C++ compiler"]
fn a_nan_loss_names_its_step_and_keeps_the_best_weights() {
    let error = with_trainer(Recipe { learning_rate: 1e30, ..recipe() }, 17, |mut trainer| {
        let error = trainer.run_epoch(|_| ()).err().unwrap();
        assert!(trainer.diverged() && !trainer.has_best());
        error
    });
    assert!(error.message.starts_with("the loss became ") && error.message.contains("at step 2 (epoch 1)"), "{error}");
    assert!(error.message.contains("the worst gradient was not finite in `"), "{error}");
}
