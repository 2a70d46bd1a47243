//! Compares the decoders with libjpeg-turbo on the files of `tests/jpegs.py`: one of every structure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::imaging::{Decoder, Pixels, decode};

/// An entry of `corpus.json`.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    group: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Picture,
    Damaged,
    Unsupported,
}

/// Writes the corpus to a folder.
fn corpus(folder: &Path) -> Vec<Entry> {
    let python = std::env::var("HAMFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/jpegs.py");
    let made = Command::new(python).arg(script).arg(folder).status().unwrap();
    assert!(made.success());
    serde_json::from_slice(&std::fs::read(folder.join("corpus.json")).unwrap()).unwrap()
}

/// The largest and the mean difference; `None` if the sizes differ.
fn difference(image: &Pixels, expected: &Pixels) -> Option<(u8, f64)> {
    if (image.width, image.height) != (expected.width, expected.height) {
        return None;
    }
    let differences = || image.bytes.iter().zip(&expected.bytes).map(|(a, b)| a.abs_diff(*b));
    let mean = differences().map(f64::from).sum::<f64>() / image.bytes.len() as f64;
    Some((differences().max().unwrap_or(0), mean))
}

/// The image at half its size, each pixel the mean of four.
fn halved(image: &Pixels) -> Pixels {
    let mut half = Pixels { width: image.width.div_ceil(2), height: image.height.div_ceil(2), ..Pixels::default() };
    for y in 0..half.height {
        for x in 0..half.width {
            for channel in 0..3 {
                let at = |dx: usize, dy: usize| {
                    let (x, y) = ((2 * x + dx).min(image.width - 1), (2 * y + dy).min(image.height - 1));
                    u32::from(image.bytes[(y * image.width + x) * 3 + channel])
                };
                half.bytes.push(((at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1) + 2) / 4) as u8);
            }
        }
    }
    half
}

/// What was found in the corpus, by kind of finding.
#[derive(Default)]
struct Findings(BTreeMap<&'static str, Vec<String>>);

impl Findings {
    fn add(&mut self, kind: &'static str, entry: &Entry, what: &str) {
        self.0.entry(kind).or_default().push(format!("{} ({}): {what}", entry.name, entry.group));
    }
}

/// libjpeg-turbo does not smooth chroma that is at most two pixels wide; the decoders here do.
fn is_narrow(expected: &Pixels) -> bool {
    expected.width <= 4
}

fn check(folder: &Path, entry: &Entry, findings: &mut Findings) {
    let file = |ending: &str| -> PathBuf { folder.join(format!("{}.{ending}", entry.name)) };
    let bytes = std::fs::read(file("jpg")).unwrap();
    let expected = std::fs::read(file("png")).ok().map(|png| Pixels::from(decode(&png).unwrap()));
    let mut decoder = Decoder::default();
    match decoder.decode(&bytes) {
        Ok(image) => match (entry.state, expected.as_ref().map(|expected| difference(image, expected))) {
            (State::Picture | State::Unsupported, Some(Some((largest, mean)))) => {
                let expected = expected.as_ref().unwrap();
                let (most, in_the_mean) = if is_narrow(expected) { (40, 20.0) } else { (16, 1.0) };
                if largest > most || mean > in_the_mean {
                    findings.add("other pixels", entry, &format!("{largest}, {mean:.2} in the mean"));
                }
            }
            (State::Picture | State::Unsupported, found) => findings.add("another size", entry, &format!("{found:?}")),
            (State::Damaged, _) if bytes.windows(2).any(|pair| pair == [0xff, 0xd9]) => {
                findings.add("damaged and accepted", entry, "");
            }
            (State::Damaged, _) => findings.add("truncated and accepted", entry, ""),
        },
        Err(bad) => {
            let blames = ["damaged", "truncated"].iter().any(|word| bad.reason.contains(word));
            match entry.state {
                State::Damaged => {}
                _ if blames => findings.add("called damaged", entry, &bad.reason),
                State::Picture => findings.add("not supported", entry, &bad.reason),
                State::Unsupported => {}
            }
        }
    }
    let Some(expected) = expected.filter(|expected| entry.state != State::Damaged && !is_narrow(expected)) else {
        return;
    };
    let mut reduced = expected.clone();
    for scale in [0.5, 0.25, 0.125] {
        reduced = halved(&reduced);
        // In smaller ones, most pixels are at an edge, where the two methods differ.
        if reduced.width < 4 || reduced.height < 4 {
            break;
        }
        let Ok(image) = decoder.decode_reduced(&bytes, |_, _| scale) else { continue };
        let is_reduced = image.width != expected.width;
        match difference(image, if is_reduced { &reduced } else { &expected }) {
            Some((_, mean)) if mean <= 6.0 => {}
            found => findings.add("other pixels at reduced size", entry, &format!("{scale}: {found:?}")),
        }
        if is_reduced {
            findings.add("reduced", entry, "");
        }
    }
}

#[test]
#[ignore = "needs cjpeg"]
fn every_structure_of_jpeg_is_the_picture_of_libjpeg_turbo_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let entries = corpus(folder.path());
    assert!(entries.len() > 3000);
    let mut findings = Findings::default();
    for entry in &entries {
        check(folder.path(), entry, &mut findings);
    }
    for kind in
        ["other pixels", "other pixels at reduced size", "another size", "called damaged", "truncated and accepted"]
    {
        let found = findings.0.get(kind).cloned().unwrap_or_default();
        assert!(found.is_empty(), "{} {kind}:\n{}", found.len(), found.join("\n"));
    }
    // What no decoder here can read. A new entry is a regression, or a new structure in the corpus.
    let count = |kind: &str, what: &str| {
        findings.0.get(kind).map_or(0, |found| found.iter().filter(|line| line.contains(what)).count())
    };
    for (what, expected) in [
        ("has an unusual sampling", 113),
        ("stores its height after the pixels", 3),
        ("has several components of the same id", 1),
        ("", 117),
    ] {
        assert_eq!(count("not supported", what), expected, "{what}");
    }
    assert!(count("reduced", "") > 500, "{}", count("reduced", ""));
    // libjpeg-turbo only warns of these: bits are wrong, but the codes go on to the end.
    assert_eq!(count("damaged and accepted", ""), 359);
}
