//! The interface of a running stage to the engine.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::{Digest, Input, Inputs, Job, JobEvent, JobPart, OutputFile, Random, StageError, UndeclaredRead};

/// Receives the events of a running stage.
pub trait EventSink: Sync {
    /// Handles one event; must not block for long.
    fn emit(&self, event: JobEvent);
}

/// The parameters, inputs, seed and output directory of a running stage.
pub struct StageContext<'a> {
    job: &'a Job,
    events: &'a dyn EventSink,
}

impl<'a> StageContext<'a> {
    /// Wraps `job` for its kind.
    pub fn new(job: &'a Job, events: &'a dyn EventSink) -> Self {
        Self { job, events }
    }

    /// The same context with another job.
    pub fn with_job<'b>(&self, job: &'b Job) -> StageContext<'b>
    where
        'a: 'b,
    {
        StageContext { job, events: self.events }
    }

    /// The stage's name, for messages.
    pub fn stage(&self) -> &str {
        &self.job.stage
    }

    /// The job as plain data.
    pub fn job(&self) -> &'a Job {
        self.job
    }

    /// The inputs by port.
    pub fn inputs(&self) -> &'a Inputs {
        &self.job.inputs
    }

    /// The input of a required port.
    pub fn input(&self, port: &str) -> Result<&'a Input, StageError> {
        self.job.inputs.one(port)
    }

    /// The part's name, key and data. An error outside [`Parts::run_part`](crate::Parts::run_part).
    pub fn part(&self) -> Result<(&'a str, &'a Value, &'a Value), StageError> {
        match &self.job.part {
            JobPart::Part { name, key, data } => Ok((name, key, data)),
            _ => Err(StageError::bug("this job is not a part")),
        }
    }

    /// The full path of an output file; creates its parent folder. A path outside the output directory is an internal error.
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

    /// Creates an output file that is written in pieces; creates its parent folder.
    pub fn create(&self, path: &str) -> Result<OutputFile, StageError> {
        let full = self.output_file(path)?;
        OutputFile::create(full.clone()).map_err(|source| StageError::io("create", &full, &source))
    }

    /// A directory for temporary files.
    pub fn scratch_dir(&self) -> &'a Path {
        &self.job.scratch_dir
    }

    /// The directory for side outputs.
    pub fn side_dir(&self) -> &'a Path {
        &self.job.side_dir
    }

    /// The directory for the checkpoints of an extendable kind. Its content may be deleted at any time.
    pub fn checkpoint_dir(&self) -> Option<&'a Path> {
        self.job.checkpoint_dir.as_deref()
    }

    /// Says that a checkpoint was saved. If the job must end soon, it may end here.
    pub fn saved_checkpoint(&self) {
        self.events.emit(JobEvent::Saved);
    }

    /// The maximum number of threads.
    pub fn threads(&self) -> usize {
        self.job.threads.max(1)
    }

    /// The seed; an error if the kind is not seeded.
    pub fn seed(&self) -> Result<u64, StageError> {
        self.job.seed.ok_or_else(|| StageError::bug("this kind does not declare randomness"))
    }

    /// An independent stream of random numbers for one purpose.
    pub fn random(&self, purpose: &str) -> Result<Random, StageError> {
        Ok(Random::new(self.seed()?, purpose))
    }

    /// Reports the digests of the part's files at a port, in order.
    pub fn read(&self, port: &str, digests: Vec<Digest>) {
        self.events.emit(JobEvent::Read { port: port.to_owned(), digests });
    }

    /// Reports progress; a `total` of 0 means unknown.
    pub fn progress(&self, done: u64, total: u64, unit: &str, message: impl Into<String>) {
        let (unit, message) = (unit.to_owned(), message.into());
        self.events.emit(JobEvent::Progress { done, total, unit, round: None, message });
    }

    /// Reports progress of work in rounds; `round` says how the amounts read, e.g. `epoch 3/6 · 412/1007 images`.
    pub fn progress_of_round(&self, done: u64, total: u64, unit: &str, round: String, message: String) {
        self.events.emit(JobEvent::Progress { done, total, unit: unit.to_owned(), round: Some(round), message });
    }

    /// Reports the files that a program used without a declaration. They become part of the stage's key.
    pub fn undeclared(&self, reads: Option<Vec<UndeclaredRead>>, warn: bool, problem: Option<String>) {
        self.events.emit(JobEvent::Undeclared { reads, warn, problem });
    }

    /// Adds a line to the stage's log.
    pub fn log(&self, line: impl Into<String>) {
        self.events.emit(JobEvent::Log { line: line.into() });
    }

    /// Informs the user of something that is not a problem.
    pub fn note(&self, message: impl Into<String>) {
        self.events.emit(JobEvent::Note { message: message.into() });
    }

    /// Warns the user of a problem that does not stop the work.
    pub fn warn(&self, message: impl Into<String>) {
        self.events.emit(JobEvent::Warning { message: message.into() });
    }

    /// Reports a defect of a result that is worth keeping, e.g. a metric that is undefined.
    ///
    /// The message is stored with the result. Every run that uses the result repeats the message and exits with code 1.
    pub fn flaw(&self, message: impl Into<String>) {
        self.events.emit(JobEvent::Flaw { message: message.into() });
    }
}
