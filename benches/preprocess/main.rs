//! How fast JPEGs decode, decoder beside decoder, in a bare loop over bytes in memory.
//!
//! `cargo run --release --manifest-path benches/preprocess/Cargo.toml [FOLDER]` prints images per second on all threads: medians of interleaved rounds.
//! `… FOLDER --alone HEIGHTxWIDTH` decodes each file of a large folder once, with the chosen decoder and nothing else.
//! `bench/preprocess.py` puts whole runs and other programs beside it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hamflow_kernels::imaging::{ColourConstancy, Decoder, Decoding, Filter, Fit, HairRemoval, Preparation, Preparer};

const ROUNDS: usize = 5;

/// Does one image; made once for each thread.
type Work<'a> = Box<dyn FnMut(&[u8]) + 'a>;

struct Case {
    name: String,
    make: Box<dyn Fn() -> Work<'static> + Sync>,
}

fn case(name: &str, make: impl Fn() -> Work<'static> + Sync + 'static) -> Case {
    Case { name: name.to_owned(), make: Box::new(make) }
}

fn zune() -> Work<'static> {
    let mut decoder = Decoder::default();
    Box::new(move |bytes| {
        std::hint::black_box(decoder.decode(bytes).expect("the originals decode"));
    })
}

fn reduced(width: usize, height: usize) -> Work<'static> {
    let mut decoder = Decoder::default();
    Box::new(move |bytes| {
        let least = |w: usize, h: usize| (width as f64 / w as f64).max(height as f64 / h as f64);
        std::hint::black_box(decoder.decode_reduced(bytes, least).expect("the originals decode"));
    })
}

fn jpeg_decoder(width: u16, height: u16) -> Work<'static> {
    Box::new(move |bytes| {
        let mut decoder = jpeg_decoder::Decoder::new(bytes);
        decoder.scale(width, height).expect("the originals have headers");
        std::hint::black_box(decoder.decode().expect("the originals decode"));
    })
}

/// libjpeg-turbo's code as mozjpeg carries it, compiled by a C compiler alone.
fn mozjpeg(eighths: u8) -> Work<'static> {
    let mut rows = Vec::new();
    Box::new(move |bytes| {
        let mut decompress = mozjpeg::Decompress::new_mem(bytes).expect("the originals have headers");
        decompress.scale(eighths);
        let mut decompress = decompress.rgb().expect("the originals are YCbCr");
        rows.resize(decompress.width() * decompress.height() * 3, 0u8);
        decompress.read_scanlines_into(&mut rows).expect("the originals decode");
        decompress.finish().expect("the originals are whole");
        std::hint::black_box(&rows);
    })
}

fn prepare(width: usize, height: usize) -> Work<'static> {
    let mut preparer = Preparer::new(Preparation {
        height,
        width,
        filter: Filter::Bicubic,
        fit: Fit::Stretch,
        decode: Decoding::Reduced,
        colour_constancy: ColourConstancy::None,
        hair_removal: HairRemoval::None,
    });
    let mut tensor = vec![0; width * height * 3];
    Box::new(move |bytes| preparer.prepare(bytes, &mut tensor).expect("the originals decode"))
}

/// Seconds for all files on all threads.
fn time(case: &Case, files: &[Vec<u8>], threads: usize) -> f64 {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut work = (case.make)();
                while let Some(bytes) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(bytes);
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}

/// So many files are in memory at a time where a folder has many.
const BATCH: usize = 256;

/// Seconds of all processors that this process has worked so far (proc(5), stat: the fields 14 and 15, in hundredths).
fn worked() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = behind_name.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    fields.iter().sum::<f64>() / 100.0
}

/// Decodes each file once for a tensor of that size; reading them is not timed.
fn alone(paths: &[PathBuf], (height, width): (usize, usize), threads: usize) {
    let case = case(&format!("own, reduced for {height}x{width}"), move || reduced(width, height));
    let (mut seconds, mut work) = (0.0, 0.0);
    for (number, batch) in paths.chunks(BATCH).enumerate() {
        let files: Vec<Vec<u8>> =
            batch.iter().map(|path| std::fs::read(path).expect("the image can be read")).collect();
        if number == 0 {
            time(&case, &files, threads);
        }
        let before = worked();
        seconds += time(&case, &files, threads);
        work += worked() - before;
    }
    let rate = |seconds: f64| paths.len() as f64 / seconds;
    println!("{:<46} {:>10} {:>10}", "images/s", "by clock", "by work");
    println!("{:<46} {:>10.0} {:>10.0}", case.name, rate(seconds), rate(work / threads as f64));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let size = arguments.iter().position(|argument| argument == "--alone").map(|place| {
        let size = arguments.get(place + 1).and_then(|size| size.split_once('x'));
        let number = |text: &str| text.parse::<usize>().expect("a size is two numbers");
        size.map(|(height, width)| (number(height), number(width))).expect("`--alone` is followed by HEIGHTxWIDTH")
    });
    let folder = arguments.first().filter(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
        std::env::var_os("HAMFLOW_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from).join("ham10000-originals")
    });
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: there are no images at {}", folder.display());
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(size) = size {
        return alone(&paths, size, threads);
    }
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("the image can be read")).collect();
    let mut cases = vec![
        case("zune-jpeg, whole", zune),
        case("jpeg-decoder, whole", || jpeg_decoder(u16::MAX, u16::MAX)),
        case("mozjpeg without nasm, whole", || mozjpeg(8)),
    ];
    for (height, width, eighths) in [(75, 100, 2), (224, 224, 4)] {
        let name = |what: &str| format!("{what} for {height}x{width}");
        cases.push(case(&name("own, reduced"), move || reduced(width, height)));
        cases.push(case(&name("own, reduced, with resizing"), move || prepare(width, height)));
        cases.push(case(&name("mozjpeg without nasm, reduced"), move || mozjpeg(eighths)));
        cases.push(case(&name("jpeg-decoder, reduced"), move || jpeg_decoder(width as u16, height as u16)));
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..=ROUNDS {
        for (case, times) in cases.iter().zip(&mut times) {
            let seconds = time(case, &files, threads);
            if round > 0 {
                times.push(seconds);
            }
        }
    }
    println!("{} images of {}, {threads} threads", files.len(), folder.display());
    println!("{:<46} {:>10} {:>10}", "images/s", "median", "most");
    for (case, times) in cases.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let rate = |seconds: f64| files.len() as f64 / seconds;
        println!("{:<46} {:>10.0} {:>10.0}", case.name, rate(times[ROUNDS / 2]), rate(times[0]));
    }
}
