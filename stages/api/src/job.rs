//! Jobs and their events as plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Inputs, Lineage, Params, PartOutput, Redactor, StageError, UndeclaredRead};

/// Which piece of a stage's work a job does.
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
    /// The merge of all parts.
    Merge {
        /// The outputs of the parts, in plan order.
        parts: Vec<PartOutput>,
    },
}

/// Everything that a worker needs to do one piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Identifies the job within its run.
    pub id: u64,
    /// The stage's name, used only in messages.
    pub stage: String,
    /// The kind's name.
    pub kind: String,
    /// The resolved parameters.
    pub params: Params,
    /// The seed, for seeded kinds.
    pub seed: Option<u64>,
    /// The piece of work.
    pub part: JobPart,
    /// The stages that the inputs come from, for kinds that [ask](crate::KindSpec::lineage) for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The inputs; for a part, only the files that the part lists.
    pub inputs: Inputs,
    /// Where outputs are written; exists and is empty.
    pub output_dir: PathBuf,
    /// Where temporary files are written; exists and is empty.
    pub scratch_dir: PathBuf,
    /// Where side outputs are written (live history, events). They are kept with the run but are not artifacts.
    pub side_dir: PathBuf,
    /// Where checkpoints of an unfinished or extendable job are kept between runs. Its content may be deleted at any time.
    pub checkpoint_dir: Option<PathBuf>,
    /// Maximum number of threads of the job.
    pub threads: usize,
    /// Number of threads that the worker's libraries start on their own.
    pub pool_threads: usize,
    /// The project's root; only for `command`.
    pub project_dir: PathBuf,
    /// What hamflow itself keeps in the project: the cache, the lock. What a program reads there does not count.
    pub own_paths: Vec<PathBuf>,
    /// The file that the values of a program come from.
    pub params_file: Option<PathBuf>,
    /// The declared environment variables, including secrets.
    pub env: BTreeMap<String, String>,
    /// Hides the secrets in what a program prints.
    pub redactor: Redactor,
}

/// An event of a worker, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobEvent {
    /// The progress so far.
    Progress {
        /// The amount done, in `unit`.
        done: u64,
        /// The total amount; 0 if unknown.
        total: u64,
        /// The unit, e.g. `images` or `epochs`.
        unit: String,
        /// How the amounts read if the work has rounds, e.g. `epoch 3/6 · 412/1007 images`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        round: Option<String>,
        /// Further information, e.g. the validation accuracy; may be empty.
        message: String,
    },
    /// A line for the stage's log.
    Log {
        /// The line, without its line feed.
        line: String,
    },
    /// Information for the user, e.g. that training resumes from a checkpoint.
    Note {
        /// One sentence.
        message: String,
    },
    /// A problem that does not stop the work.
    Warning {
        /// One sentence.
        message: String,
    },
    /// A defect of a result that is kept anyway.
    Flaw {
        /// One sentence.
        message: String,
    },
    /// The digests of the files that a part has read, for a kind that [reads once](crate::KindSpec::reads_once).
    Read {
        /// The port.
        port: String,
        /// The digests of the part's files at that port, in order.
        digests: Vec<Digest>,
    },
    /// The files that a program used without a declaration.
    Undeclared {
        /// The uses; `None` if nothing was observed.
        reads: Option<Vec<UndeclaredRead>>,
        /// Whether each run warns of them.
        warn: bool,
        /// Why nothing was observed.
        problem: Option<String>,
    },
    /// A checkpoint was saved: if the job ends now, another one continues from here.
    Saved,
    /// The end of the job.
    Finished(JobResult),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's id.
    pub id: u64,
    /// The error, if it failed.
    pub error: Option<StageError>,
    /// The worker's peak resident memory so far, in bytes; 0 if unknown.
    pub peak_memory: u64,
    /// The time that the job took, in milliseconds.
    pub wall_ms: u64,
}
