//! Executors, which run jobs on workers.

mod local;

use std::io;
use std::sync::mpsc::{Receiver, Sender};

use hamflow_stage_api::Job;

use super::Message;
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

/// Runs jobs on workers. Messages of the workers are sent to the channel that the executor was created with.
pub trait Executor {
    /// Starts a job.
    fn submit(&mut self, job: &Job) -> io::Result<()>;
    /// The current job of a worker.
    fn job_of(&self, worker: usize) -> Option<u64>;
    /// Marks a worker as idle after its job has ended.
    fn release(&mut self, worker: usize);
    /// Removes a worker that has ended, and describes how it ended.
    fn reap(&mut self, worker: usize) -> String;
    /// Kills all workers.
    fn stop(&mut self);
}
