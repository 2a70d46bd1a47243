//! Tests of the generated data set on disk.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::test_support::{resolve, run_kind_with};

fn read_all(folder: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}/{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read_all(&path, &name, files);
        } else {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
}

fn made(seed: u64, threads: usize) -> BTreeMap<String, Vec<u8>> {
    let params = json!({ "images": 100, "height": 30, "width": 40 });
    let ran = run_kind_with(&Synthetic, &params, &[], |job| {
        job.seed = Some(seed);
        job.threads = threads;
    });
    let mut files = BTreeMap::new();
    read_all(&ran.unwrap().output_dir(), "", &mut files);
    files
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let one = made(1, 1);
    assert_eq!(one.len(), 101);
    assert_eq!(one, made(1, 3));
    assert_ne!(one, made(2, 3));
}

#[test]
fn every_row_has_its_image_and_two_are_byte_identical() {
    let files = made(1, 2);
    let csv = String::from_utf8(files["/HAM10000_metadata.csv"].clone()).unwrap();
    let mut images: Vec<&Vec<u8>> = Vec::new();
    for row in csv.lines().skip(1) {
        let id = row.split(',').nth(1).unwrap();
        let paths = [1, 2].map(|part| format!("/images/HAM10000_images_part_{part}/{id}.jpg"));
        let found: Vec<_> = paths.iter().filter_map(|path| files.get(path)).collect();
        assert_eq!(found.len(), 1, "{id}");
        assert_eq!(hamflow_kernels::imaging::decode(found[0]).unwrap().dimensions(), (40, 30));
        images.push(found[0]);
    }
    images.sort();
    images.dedup();
    assert_eq!(images.len(), 99);
}

#[test]
fn parameters_out_of_range_are_rejected() {
    for (name, value) in [("images", 99), ("height", 3), ("width", 5000), ("quality", 0)] {
        let params = json!({ name: value });
        assert_eq!(resolve(&Synthetic, &params).unwrap_err().path, [name]);
    }
}

#[test]
fn the_output_bytes_match_the_revision() {
    let digests: String =
        made(1, 2).iter().map(|(name, bytes)| format!("{name} {}\n", hamflow_stage_api::Digest::of(bytes))).collect();
    let digest = hamflow_stage_api::Digest::of(digests.as_bytes()).short();
    assert_eq!((Synthetic.spec().revision, digest.as_str()), (2, "b67f72038ada"));
}
