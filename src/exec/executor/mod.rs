//! Executors, which run jobs on workers.

mod local;
mod slurm;
pub mod tasks;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender};

use hamflow_stage_api::Job;

use super::Message;
use crate::config::{ExecutorKind, ExecutorOptions, Requests};
pub use local::Local;
use slurm::Slurm;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The executor, if it is not this machine.
    pub executor: Option<String>,
    /// The bytes of memory that the stage declares.
    pub memory: Option<u64>,
    /// Time, GPUs and partition.
    pub requests: Requests,
}

/// Runs jobs on workers. Messages of the workers are sent to the channel that the executor was created with.
pub trait Executor {
    /// Starts a job, or keeps it until [`flush`](Self::flush).
    fn submit(&mut self, job: &Job, placement: &Placement) -> io::Result<()>;
    /// Starts all jobs that were kept, so that those of a stage can be started together. Called when there is nothing more to submit.
    fn flush(&mut self) {}
    /// The current job of a worker.
    fn job_of(&self, worker: usize) -> Option<u64>;
    /// Marks a worker as idle after its job has ended.
    fn release(&mut self, worker: usize);
    /// Removes a worker that has ended, and describes how it ended.
    fn reap(&mut self, worker: usize) -> String;
    /// Kills all workers.
    fn stop(&mut self);
}

/// This machine, and the executors of a pipeline.
pub struct Executors {
    local: Local,
    others: BTreeMap<String, Box<dyn Executor>>,
}

impl Executors {
    /// Creates the executors of a pipeline; `tmp` is a folder that their workers see, too.
    pub fn new(executors: &[(String, ExecutorOptions)], tmp: &Path, heard: &Sender<Message>) -> Self {
        let other = |(number, (name, options)): (usize, &(String, ExecutorOptions))| {
            let executor: Box<dyn Executor> = match options.kind {
                ExecutorKind::Slurm => Box::new(Slurm::new(number, name, options.clone(), tmp, heard.clone())),
            };
            (name.clone(), executor)
        };
        Self { local: Local::new(heard.clone()), others: executors.iter().enumerate().map(other).collect() }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut dyn Executor> {
        let others = self.others.values_mut().map(|other| &mut **other as &mut dyn Executor);
        others.chain([&mut self.local as &mut dyn Executor])
    }
}

impl Executor for Executors {
    fn submit(&mut self, job: &Job, placement: &Placement) -> io::Result<()> {
        let other = placement.executor.as_ref().and_then(|name| self.others.get_mut(name));
        match other {
            Some(other) => other.submit(job, placement),
            None => self.local.submit(job, placement),
        }
    }

    fn flush(&mut self) {
        self.all().for_each(Executor::flush);
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

    fn stop(&mut self) {
        self.all().for_each(Executor::stop);
    }
}
