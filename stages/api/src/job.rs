//! A piece of work as plain data, and what is heard of it while it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Inputs, Output, Params, PartOutput, StageError};

/// Which piece of a stage's work a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobPart {
    /// All of it.
    Whole,
    /// One part.
    Part {
        /// The part's name.
        name: String,
        /// [`Part::key`](crate::Part::key).
        key: Value,
        /// [`Part::data`](crate::Part::data).
        data: Value,
    },
    /// The assembly of all parts.
    Merge {
        /// What the parts made, in the plan's order.
        parts: Vec<PartOutput>,
    },
}

/// Everything that a worker needs to know to do a piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Numbers the job within its run, so that events find their way back.
    pub id: u64,
    /// The stage's name, for messages only.
    pub stage: String,
    /// The kind's name.
    pub kind: String,
    /// The resolved parameters.
    pub params: Params,
    /// The seed, for kinds that declare randomness.
    pub seed: Option<u64>,
    /// Which piece.
    pub part: JobPart,
    /// What it reads; for a part, only the files that the part names.
    pub inputs: Inputs,
    /// What it must make.
    pub outputs: Vec<Output>,
    /// Where it writes its outputs: exists and is empty.
    pub output_dir: PathBuf,
    /// Where it may write anything else: exists and is empty.
    pub scratch_dir: PathBuf,
    /// Where side outputs go (live history, events); kept with the run, never an artifact.
    pub side_dir: PathBuf,
    /// Where progress of an unfinished or extendable job is kept between runs; its content may vanish.
    pub checkpoint_dir: Option<PathBuf>,
    /// How many threads the job may use.
    pub threads: usize,
    /// How many threads the worker's libraries start by themselves.
    pub pool_threads: usize,
    /// The project's root; only `command` may look at it.
    pub project_dir: PathBuf,
    /// The declared environment, secret variables included.
    pub env: BTreeMap<String, String>,
}

/// What a worker says while and after it works, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobEvent {
    /// How far it is.
    Progress {
        /// What is done, in `unit`.
        done: u64,
        /// What there is to do; 0 where nobody knows.
        total: u64,
        /// Such as `images` or `epochs`.
        unit: String,
        /// A few words more, such as the validation accuracy; may be empty.
        message: String,
    },
    /// A line for the stage's log.
    Log {
        /// The line, without its end.
        line: String,
    },
    /// Something the user would like to know, such as that the work goes on from a checkpoint.
    Note {
        /// One sentence.
        message: String,
    },
    /// Something the user should know although the work goes on.
    Warning {
        /// One sentence.
        message: String,
    },
    /// What is made is kept, but is not as it should be.
    Flaw {
        /// One sentence.
        message: String,
    },
    /// What a part has read, for a kind that [reads once](crate::KindSpec::reads_once).
    Read {
        /// The port.
        port: String,
        /// Of the part's files there, in their order.
        digests: Vec<Digest>,
    },
    /// The end of the job.
    Finished(JobResult),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's number.
    pub id: u64,
    /// Why it failed, if it did.
    pub error: Option<StageError>,
    /// The largest resident size of the worker so far, in bytes; 0 where unknown.
    pub peak_memory: u64,
}
