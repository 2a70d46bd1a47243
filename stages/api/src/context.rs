//! What a stage sees while it works.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Digest, Input, Inputs, Job, JobEvent, JobPart, OutputFile, Random, StageError};

/// Takes what a stage says while it works.
pub trait EventSink: Sync {
    /// Passes one event on; never blocks for long.
    fn emit(&self, event: JobEvent);
}

/// A stage's parameters, inputs, seed and output directory: all that it may look at.
pub struct StageContext<'a> {
    job: &'a Job,
    events: &'a dyn EventSink,
}

impl<'a> StageContext<'a> {
    /// Shows `job` to its kind.
    pub fn new(job: &'a Job, events: &'a dyn EventSink) -> Self {
        Self { job, events }
    }

    /// The stage's name, for messages.
    pub fn stage(&self) -> &str {
        &self.job.stage
    }

    /// The job as plain data.
    pub fn job(&self) -> &'a Job {
        self.job
    }

    /// The parameters as the kind's own struct.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, StageError> {
        serde_json::from_value(Value::Object(self.job.params.clone()))
            .map_err(|error| StageError::bug(format!("resolved parameters do not parse: {error}")))
    }

    /// The inputs by port.
    pub fn inputs(&self) -> &'a Inputs {
        &self.job.inputs
    }

    /// The input at a required port.
    pub fn input(&self, port: &str) -> Result<&'a Input, StageError> {
        self.job.inputs.one(port)
    }

    /// The part's name, key and data, inside [`Kind::run_part`](crate::Kind::run_part).
    pub fn part(&self) -> Result<(&'a str, &'a Value, &'a Value), StageError> {
        match &self.job.part {
            JobPart::Part { name, key, data } => Ok((name, key, data)),
            _ => Err(StageError::bug("this job is not a part")),
        }
    }

    /// Where to write below the output directory; its folder exists afterwards. A path that leads elsewhere is a bug.
    pub fn output_file(&self, path: &str) -> Result<PathBuf, StageError> {
        if !Path::new(path).components().all(|step| matches!(step, Component::Normal(_))) {
            return Err(StageError::bug(format!("the output `{path}` would lie outside the stage's folder")));
        }
        let full = self.job.output_dir.join(path);
        if let Some(folder) = full.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StageError::io("create", folder, &source))?;
        }
        Ok(full)
    }

    /// Writes one output file.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), StageError> {
        let full = self.output_file(path)?;
        std::fs::write(&full, bytes).map_err(|source| StageError::io("write", &full, &source))
    }

    /// Starts an output file that is written in pieces; its folder exists afterwards.
    pub fn create(&self, path: &str) -> Result<OutputFile, StageError> {
        let full = self.output_file(path)?;
        OutputFile::create(full.clone()).map_err(|source| StageError::io("create", &full, &source))
    }

    /// Where anything may be written that nobody keeps.
    pub fn scratch_dir(&self) -> &'a Path {
        &self.job.scratch_dir
    }

    /// Where side outputs go.
    pub fn side_dir(&self) -> &'a Path {
        &self.job.side_dir
    }

    /// Where a kind with extendable parameters keeps its progress; what is there may vanish at any time.
    pub fn checkpoint_dir(&self) -> Option<&'a Path> {
        self.job.checkpoint_dir.as_deref()
    }

    /// How many threads may be used.
    pub fn threads(&self) -> usize {
        self.job.threads.max(1)
    }

    /// The seed of a kind that declares randomness.
    pub fn seed(&self) -> Result<u64, StageError> {
        self.job.seed.ok_or_else(|| StageError::bug("this kind does not declare randomness"))
    }

    /// The stream of random numbers for one purpose.
    pub fn random(&self, purpose: &str) -> Result<Random, StageError> {
        Ok(Random::new(self.seed()?, purpose))
    }

    /// Says what the part has read at a port: the digests of its files there, in their order.
    pub fn read(&self, port: &str, digests: Vec<Digest>) {
        self.events.emit(JobEvent::Read { port: port.to_owned(), digests });
    }

    /// Says how far the work is; `total` 0 where nobody knows.
    pub fn progress(&self, done: u64, total: u64, unit: &str, message: impl Into<String>) {
        self.events.emit(JobEvent::Progress { done, total, unit: unit.to_owned(), message: message.into() });
    }

    /// Adds a line to the stage's log.
    pub fn log(&self, line: impl Into<String>) {
        self.events.emit(JobEvent::Log { line: line.into() });
    }

    /// Tells the user something that is in order.
    pub fn note(&self, message: impl Into<String>) {
        self.events.emit(JobEvent::Note { message: message.into() });
    }

    /// Tells the user something although the work goes on.
    pub fn warn(&self, message: impl Into<String>) {
        self.events.emit(JobEvent::Warning { message: message.into() });
    }

    /// Says that what is made is not as it should be, although it is worth keeping: a number that does not exist.
    ///
    /// The sentence is kept with the result, and every run that has this result says it and ends with exit code 1.
    pub fn flaw(&self, message: impl Into<String>) {
        self.events.emit(JobEvent::Flaw { message: message.into() });
    }
}
