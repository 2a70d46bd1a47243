//! The real dataset, for tests of this and downstream kinds.

use std::fs;

use hamflow_stage_api::{ArtifactType, Digest, Input, InputFile};
use serde_json::json;

use super::Metadata;
use crate::test_support::{Ran, existing_file_input, files_input, run_kind, shared};

/// The real CSV and the file names of the real images.
pub fn real_inputs() -> (Input, Input) {
    let folder = shared("ham10000");
    let csv = existing_file_input(&folder.join("HAM10000_metadata.csv"), None);
    let mut files = Vec::new();
    for root in 0..2 {
        for entry in fs::read_dir(folder.join(format!("HAM10000_images_part_{}", root + 1))).unwrap() {
            let source = entry.unwrap().path();
            let path = source.file_name().unwrap().to_str().unwrap().to_owned();
            files.push(InputFile { root, digest: Digest::of(path.as_bytes()).into(), path, source });
        }
    }
    (csv, files_input(files, None))
}

/// The output of `metadata` on the real dataset, and its table.
pub fn real_table() -> (Ran, Input) {
    let (csv, images) = real_inputs();
    let ran = run_kind(&Metadata, &json!({}), &[("csv", csv), ("images", images)]).unwrap();
    let table = ran.input("table.parquet", ArtifactType::TABLE);
    (ran, table)
}
