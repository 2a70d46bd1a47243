//! Executors, which run jobs on workers.

mod batch;
mod local;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use hamflow_stage_api::Job;
use serde::{Deserialize, Serialize};

use super::Message;
use crate::config::{ExecutorOptions, Requests};
use batch::Batch;
pub use batch::{NO_REMOTE, left_in_queue, node, tasks};
pub use local::Local;

/// An executor and the message channel of its run.
pub struct Workers<'a> {
    /// Runs the jobs.
    pub executor: &'a mut (dyn Executor + 'static),
    /// Sends messages to the run; the executor holds a clone.
    pub sender: &'a Sender<Message>,
    /// Receives the messages.
    pub messages: &'a Receiver<Message>,
}

/// Where a job runs, and what it asks for there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The name of the stage without its axes. Jobs of its instances are submitted together.
    pub base: String,
    /// The executor, if it is not this machine.
    pub executor: Option<String>,
    /// The bytes of memory that the stage declares.
    pub memory: Option<u64>,
    /// Time, GPUs and partition.
    pub requests: Requests,
    /// How long a job will probably take.
    pub estimate: Option<Duration>,
}

/// A job that is already being done, because an earlier run submitted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Its working directory.
    pub folder: PathBuf,
    /// Its directory for side outputs.
    pub side: PathBuf,
}

/// What becomes of jobs that have not ended with the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// They are ended.
    Cancel,
    /// They stay where they can, and a later run goes on with them.
    Leave,
}

/// What executors know of a run.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The stages of the run.
    pub requested: Arc<BTreeSet<String>>,
    /// All stages of the pipeline.
    pub known: Arc<BTreeSet<String>>,
    /// The URL of the remote, if there is one; absolute if it is a folder.
    pub remote: Option<String>,
}

impl Scope {
    /// Whether jobs of a stage that the run has no use for are of no use to any other: the stage is in the run, or no longer in the
    /// pipeline.
    pub fn covers(&self, stage: &str) -> bool {
        self.requested.contains(stage) || !self.known.contains(stage)
    }
}

/// Runs jobs on workers. Messages of the workers are sent to the channel that the executor was created with.
pub trait Executor {
    /// Where the working directories of jobs must be; `None` if that does not matter.
    fn folder(&self, _placement: &Placement) -> Option<PathBuf> {
        None
    }
    /// Starts a job, or keeps it until [`flush`](Self::flush), or goes on with a job of an earlier run that does the same.
    fn submit(&mut self, job: Job, placement: &Placement) -> io::Result<Option<Adopted>>;
    /// Starts all jobs that were kept, so that those of a stage can be started together. Called when there is nothing more to submit.
    fn flush(&mut self) {}
    /// The current job of a worker.
    fn job_of(&self, worker: usize) -> Option<u64>;
    /// Marks a worker as idle after its job has ended.
    fn release(&mut self, worker: usize);
    /// Removes a worker that has ended, and describes how it ended.
    fn reap(&mut self, worker: usize) -> String;
    /// Returns when everything is submitted, and all messages of jobs that have ended meanwhile are sent.
    fn settle(&mut self) {}
    /// Ends all workers, or leaves what can be left.
    fn stop(&mut self, end: End);
    /// What went wrong when it stopped.
    fn problem(&mut self) -> Option<String> {
        None
    }
    /// Removes the files of jobs that have ended. Called after [`stop`](Self::stop), when their outputs are stored.
    fn clear(&mut self) {}
}

/// This machine, and the executors of a pipeline.
pub struct Executors {
    local: Local,
    others: BTreeMap<String, Box<dyn Executor>>,
}

impl Executors {
    /// Creates the executors of a pipeline; those of batch systems have a folder each below `folder`.
    pub fn new(executors: &[(String, ExecutorOptions)], folder: &Path, scope: &Scope, heard: &Sender<Message>) -> Self {
        let other = |(number, (name, options)): (usize, &(String, ExecutorOptions))| {
            let batch = Batch::new(number, (name, options), &folder.join(name), scope.clone(), heard.clone());
            (name.clone(), Box::new(batch) as Box<dyn Executor>)
        };
        Self { local: Local::new(heard.clone()), others: executors.iter().enumerate().map(other).collect() }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut dyn Executor> {
        let others = self.others.values_mut().map(|other| &mut **other as &mut dyn Executor);
        others.chain([&mut self.local as &mut dyn Executor])
    }
}

impl Executor for Executors {
    fn folder(&self, placement: &Placement) -> Option<PathBuf> {
        self.others.get(placement.executor.as_ref()?)?.folder(placement)
    }

    fn submit(&mut self, job: Job, placement: &Placement) -> io::Result<Option<Adopted>> {
        let other = placement.executor.as_ref().and_then(|name| self.others.get_mut(name));
        match other {
            Some(other) => other.submit(job, placement),
            None => self.local.submit(job, placement),
        }
    }

    fn flush(&mut self) {
        self.all().for_each(Executor::flush);
    }

    fn settle(&mut self) {
        self.all().for_each(Executor::settle);
    }

    fn job_of(&self, worker: usize) -> Option<u64> {
        self.others.values().find_map(|other| other.job_of(worker)).or_else(|| self.local.job_of(worker))
    }

    fn release(&mut self, worker: usize) {
        self.all().for_each(|executor| executor.release(worker));
    }

    fn reap(&mut self, worker: usize) -> String {
        let owner = self.others.values_mut().find(|other| other.job_of(worker).is_some());
        match owner {
            Some(other) => other.reap(worker),
            None => self.local.reap(worker),
        }
    }

    fn stop(&mut self, end: End) {
        self.all().for_each(|executor| executor.stop(end));
    }

    fn problem(&mut self) -> Option<String> {
        self.all().find_map(Executor::problem)
    }

    fn clear(&mut self) {
        self.all().for_each(Executor::clear);
    }
}
