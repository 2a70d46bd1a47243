//! Runs the fuzz targets of all parsers on their seeds and on mutated seeds: no panic, no hang.
//!
//! This is the short version. `fuzz/README.md` describes how to fuzz for longer.

use std::time::{Duration, Instant};

use hamflow::fuzzing;
use hamflow::store::Store;

/// Number of mutated inputs per target.
const CHANGED: u64 = 3000;

/// Maximum time per input. Generous, because other tests run concurrently.
const LONGEST: Duration = Duration::from_secs(10);

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }
}

/// Inputs that tend to break parsers: extreme numbers, escaping paths, control characters, other lengths.
const WORDS: [&[u8]; 12] = [
    b"..",
    b"/",
    b"",
    b"\0",
    b"\n",
    b"\t",
    b"\x1b[2J",
    b"18446744073709551615",
    b"-1",
    b"\xff\xfe",
    b"1e999",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

fn changed(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len() + 1);
        let end = (place + random.below(16)).min(bytes.len());
        match random.below(5) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
            1 => drop(bytes.drain(place..end)),
            2 => drop(bytes.splice(place..end, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => {
                let copy = bytes[place..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            _ => bytes.truncate(place),
        }
    }
    bytes
}

/// A memo of the question that the target `memo` asks.
fn memo() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    store.create().unwrap();
    store.memo.put("a question", &["an answer"]);
    let mut todo = vec![store.memo.folder().to_path_buf()];
    loop {
        let path = todo.pop().expect("the memo is there");
        match std::fs::read_dir(&path) {
            Ok(entries) => todo.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => return std::fs::read(path).unwrap(),
        }
    }
}

fn run(targets: &[fuzzing::Target]) {
    for (name, target) in targets {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut seeds: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|path| std::fs::read(path).unwrap()).collect();
        if *name == "memo" {
            seeds.push(memo());
        }
        let accepted = seeds.iter().filter(|seed| target(seed)).count();
        assert!(accepted > 0, "`{name}` rejects all of its {} seeds", seeds.len());
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let inputs = (0..CHANGED).map(|_| {
            let seed = &seeds[random.below(seeds.len())];
            changed(seed, &mut random)
        });
        let inputs: Vec<Vec<u8>> = inputs.collect();
        for bytes in seeds.iter().chain(&inputs) {
            let started = Instant::now();
            let outcome = std::panic::catch_unwind(|| target(bytes));
            let text = String::from_utf8_lossy(bytes);
            assert!(outcome.is_ok(), "`{name}` panics on {text:?}");
            assert!(started.elapsed() < LONGEST, "`{name}` takes {:?} for {text:?}", started.elapsed());
        }
    }
}

#[test]
fn parsers_neither_panic_nor_hang() {
    run(&fuzzing::TARGETS);
}

#[cfg(feature = "builtin")]
#[test]
fn parsers_of_the_stages_neither_panic_nor_hang() {
    run(&hamflow_stages::fuzzing::TARGETS);
}

#[test]
fn every_target_has_a_file_and_a_manifest_entry() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let engine = fuzzing::TARGETS.iter().map(|(name, _)| ("hamflow", *name));
    #[cfg(feature = "builtin")]
    let engine = engine.chain(hamflow_stages::fuzzing::TARGETS.iter().map(|(name, _)| ("hamflow_stages", *name)));
    for (package, name) in engine {
        let text = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("{package}::fuzzing::{name}(bytes)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
