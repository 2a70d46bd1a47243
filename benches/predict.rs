//! How fast `hamflow predict` is beside what it cannot do without: decoding the images, and the model's forward pass.
//!
//! `cargo bench --bench predict -- MODEL FOLDER` takes the folder of a model, such as `out/train/model`, and a folder of images. It prints
//! images per second on all threads, medians of interleaved rounds: decoding with preparation alone, the forward pass alone, both
//! one after the other (the floor), and the whole program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hamflow::digest::{Digest, of_file};
use hamflow_stage_api::{Input, InputFile};
use hamflow_stages::kernels::imaging::Preparer;
use hamflow_stages::ml::classifier::Classifier;

const ROUNDS: usize = 5;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn load(model: &Path) -> Classifier {
    let file = |path: PathBuf| {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        InputFile { root: 0, path: name, digest: of_file(&path).expect("the model can be read").into(), source: path }
    };
    let files = files(model).into_iter().map(file).collect();
    let (name, digest) = (model.display().to_string(), Digest::of(b""));
    let input =
        Input { name, is_artifact: false, labels: Vec::new(), digest: digest.into(), files, folder: true, path: None };
    Classifier::load(&input).expect("it is a model")
}

/// Prepares all images on all threads.
fn prepare(classifier: &Classifier, images: &[PathBuf], threads: usize) -> Vec<Vec<u8>> {
    let preparation = classifier.preparation().expect("the card says it");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let some = || {
        let (mut preparer, mut done) = (Preparer::new(preparation), Vec::new());
        while let Some(path) = images.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let bytes = std::fs::read(path).expect("an image can be read");
            let mut tensor = vec![0; preparation.height * preparation.width * 3];
            preparer.prepare(&bytes, &mut tensor).expect("it is an image");
            done.push(tensor);
        }
        done
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no image fails")).collect()
    })
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [model, folder] = &named[..] else {
        println!("cargo bench --bench predict -- MODEL FOLDER");
        return;
    };
    let (model, folder) = (Path::new(model), Path::new(folder));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (classifier, images) = (load(model), files(folder));
    let tensors = prepare(&classifier, &images, threads);
    let tensors: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let decoding = seconds(|| drop(std::hint::black_box(prepare(&classifier, &images, threads))));
        let forward = seconds(|| drop(std::hint::black_box(classifier.probabilities(&tensors, 1, threads))));
        let program = seconds(|| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_hamflow"));
            command.arg("predict").arg(model).arg(folder).stdout(Stdio::null());
            assert!(command.status().expect("it starts").success());
        });
        for (kept, found) in rounds.iter_mut().zip([decoding, forward, decoding + forward, program]) {
            kept.push(found);
        }
    }
    let rates = rounds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        images.len() as f64 / times[ROUNDS / 2]
    });
    println!("{} images, {threads} threads, images/s, medians of {ROUNDS} rounds", images.len());
    for (name, rate) in ["decoding alone", "forward pass alone", "both, the floor", "hamflow predict"].iter().zip(rates)
    {
        println!("{name:20} {rate:8.0}");
    }
    println!("hamflow predict reaches {:.0} % of the floor", 100.0 * rates[3] / rates[2]);
}
