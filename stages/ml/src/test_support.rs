//! Test helpers: files as inputs, shards, and access to the real dataset.

use std::fs;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{ArtifactType, Digest, Input, InputFile, OutputFile};
use serde_json::Value;

use crate::shard::{Dtype, ShardWriter};

/// The folder with the real dataset: `$HAMFLOW_DATA`, or `shared` next to the repository.
///
/// If it is missing, the calling test fails; such tests are ignored by default.
pub fn shared(path: &str) -> PathBuf {
    let root = std::env::var_os("HAMFLOW_DATA").map_or_else(|| repository().join("../shared"), PathBuf::from);
    let full = root.join(path);
    assert!(full.exists(), "`{}` is missing; `$HAMFLOW_DATA` names the folder with the real dataset", full.display());
    full
}

/// The folder of the workspace.
fn repository() -> &'static Path {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.find(|folder| folder.join("Cargo.lock").exists()).unwrap()
}

/// Writes a file below `folder` and returns it as an input file.
pub fn file(folder: &Path, path: &str, bytes: &[u8]) -> InputFile {
    let source = folder.join(path);
    fs::create_dir_all(source.parent().unwrap()).unwrap();
    fs::write(&source, bytes).unwrap();
    InputFile { root: 0, path: path.to_owned(), digest: Digest::of(bytes).into(), source }
}

/// An input for a folder or list of folders with these files.
pub fn files_input(mut files: Vec<InputFile>, artifact_type: Option<ArtifactType>) -> Input {
    files.sort_by(|a, b| (a.root, &a.path).cmp(&(b.root, &b.path)));
    let listing: String = files.iter().map(|file| format!("{} {} {}\n", file.root, file.path, file.digest)).collect();
    Input {
        name: "inputs.folder".to_owned(),
        is_artifact: artifact_type.is_some(),
        labels: Vec::new(),
        digest: Digest::of(listing.as_bytes()).into(),
        files,
        folder: true,
        path: None,
    }
}

/// The bytes of a shard with the given `u8` tensors.
pub fn shard<'a>(shape: [usize; 3], card: &Value, rows: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let (ids, tensors): (Vec<String>, Vec<&[u8]>) =
        rows.into_iter().map(|(id, tensor)| (id.to_owned(), tensor)).unzip();
    let folder = tempfile::tempdir().unwrap();
    let file = OutputFile::create(folder.path().join("shard.arrow")).unwrap();
    let path = file.path().to_owned();
    let mut writer = ShardWriter::create(file, shape, Dtype::U8, card, &ids).unwrap();
    for tensor in tensors {
        writer.push(tensor).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}
