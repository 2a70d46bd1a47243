//! Test helpers: inputs and jobs in temporary folders.

pub mod allocations;
// Shared with the tests of `hamflow-ml`.
#[path = "../ml/src/test_support.rs"]
mod files;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{
    AnyKind, ArtifactType, Digest, EventSink, Input, InputFile, Inputs, Job, JobEvent, JobPart, ParamError, Redactor,
    Resolved, StageError, perform,
};
use serde_json::Value;
use tempfile::TempDir;

pub use files::{file, files_input, shard, shared};

/// Writes a file and returns it as an input. `artifact_type` is `None` for an external input.
pub fn file_input(folder: &Path, path: &str, bytes: &[u8], artifact_type: Option<ArtifactType>) -> Input {
    one_file(file(folder, path, bytes), artifact_type)
}

/// An input for an existing file.
pub fn existing_file_input(source: &Path, artifact_type: Option<ArtifactType>) -> Input {
    let path = source.file_name().unwrap().to_str().unwrap().to_owned();
    let digest = Digest::of(&fs::read(source).unwrap());
    one_file(InputFile { root: 0, path, digest: digest.into(), source: source.to_path_buf() }, artifact_type)
}

fn one_file(file: InputFile, artifact_type: Option<ArtifactType>) -> Input {
    Input {
        name: format!("test.{}", file.path),
        is_artifact: artifact_type.is_some(),
        labels: Vec::new(),
        digest: file.digest,
        path: Some(file.source.clone()),
        files: vec![file],
        folder: false,
    }
}

/// An input for existing folders with all files below them; hashes every file.
pub fn folder_input(roots: &[&Path], artifact_type: Option<ArtifactType>) -> Input {
    let mut files = Vec::new();
    for (root, folder) in (0u32..).zip(roots) {
        let mut pending = vec![folder.to_path_buf()];
        while let Some(current) = pending.pop() {
            for entry in fs::read_dir(&current).unwrap() {
                let source = entry.unwrap().path();
                if source.is_dir() {
                    pending.push(source);
                    continue;
                }
                let path = source.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                let digest = Digest::of(&fs::read(&source).unwrap());
                files.push(InputFile { root, path, digest: digest.into(), source });
            }
        }
    }
    files_input(files, artifact_type)
}

/// The result of a run: its output folder and events.
pub struct Ran {
    folder: TempDir,
    /// The events, in order.
    pub events: Vec<JobEvent>,
}

impl Ran {
    /// The folder with the outputs.
    pub fn output_dir(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// The bytes of one output file.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.output_dir().join(path)).unwrap()
    }

    /// One output file as JSON.
    pub fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.bytes(path)).unwrap()
    }

    /// An output file as an input of the next stage.
    pub fn input(&self, path: &str, artifact_type: ArtifactType) -> Input {
        file_input(&self.output_dir(), path, &self.bytes(path), Some(artifact_type))
    }

    /// An output file as a table.
    pub fn table(&self, path: &str) -> polars::prelude::DataFrame {
        crate::table::read(&file(&self.output_dir(), path, &self.bytes(path)), None).unwrap()
    }
}

/// The digest of all output files of a run, for tests that tie a revision to its bytes.
///
/// An unintended change means that something is not deterministic, or that a library changed its output. For an
/// intended change, increment the kind's revision.
pub fn golden(ran: &Ran, paths: &[&str]) -> String {
    let digests: String = paths.iter().map(|path| format!("{path} {}\n", Digest::of(&ran.bytes(path)))).collect();
    Digest::of(digests.as_bytes()).short()
}

struct Events(std::sync::Mutex<Vec<JobEvent>>);

impl EventSink for Events {
    fn emit(&self, event: JobEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// Resolves the parameters of a kind, a JSON object as in `pipeline.toml`.
pub fn resolve(kind: &dyn AnyKind, params: &Value) -> Result<Resolved, ParamError> {
    kind.resolve(params.as_object().unwrap())
}

/// A job for a whole stage in a temporary folder that must outlive it, with seed 1234 and two threads.
///
/// `params` is a JSON object as in `pipeline.toml`; the kind resolves it.
pub fn job(kind: &dyn AnyKind, params: &Value, inputs: &[(&str, Input)], folder: &Path) -> Job {
    let spec = kind.spec();
    let params = resolve(kind, params).unwrap();
    let mut by_port: BTreeMap<String, Vec<Input>> = BTreeMap::new();
    for (port, input) in inputs {
        by_port.entry((*port).to_owned()).or_default().push(input.clone());
    }
    let make = |name: &str| {
        let path = folder.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    Job {
        id: 1,
        stage: spec.name.to_owned(),
        kind: spec.name.to_owned(),
        seed: spec.seeded.then_some(1234),
        part: JobPart::Whole,
        lineage: None,
        inputs: Inputs(by_port),
        params: params.json().clone(),
        output_dir: make("out"),
        scratch_dir: make("scratch"),
        side_dir: make("side"),
        checkpoint_dir: None,
        threads: 2,
        pool_threads: 1,
        own_paths: Vec::new(),
        params_file: None,
        project_dir: folder.to_path_buf(),
        env: BTreeMap::new(),
        redactor: Redactor::default(),
    }
}

/// Runs a stage without parts and returns its result.
pub fn run_kind(kind: &dyn AnyKind, params: &Value, inputs: &[(&str, Input)]) -> Result<Ran, StageError> {
    run_kind_with(kind, params, inputs, |_| ())
}

/// Like [`run_kind`], with `change` applied to the job (seed, threads).
pub fn run_kind_with(
    kind: &dyn AnyKind,
    params: &Value,
    inputs: &[(&str, Input)],
    change: impl FnOnce(&mut Job),
) -> Result<Ran, StageError> {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(kind, params, inputs, folder.path());
    change(&mut job);
    let events = Events(std::sync::Mutex::new(Vec::new()));
    perform(kind, &job, &events)?;
    for output in kind.outputs(&kind.resolve(&job.params).unwrap()) {
        assert!(job.output_dir.join(&output.path).exists(), "the output `{}` is missing", output.name);
    }
    Ok(Ran { folder, events: events.0.into_inner().unwrap() })
}
