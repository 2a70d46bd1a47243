//! Where jobs run.

mod local;

use std::io;
use std::sync::mpsc::{Receiver, Sender};

use hamflow_stage_api::Job;

use super::Message;
pub use local::Local;

/// An executor and the channel of the run that it serves.
pub struct Workers<'a> {
    /// Runs the jobs.
    pub executor: &'a mut (dyn Executor + 'static),
    /// Sends messages to the run; the executor has a clone.
    pub sender: &'a Sender<Message>,
    /// Receives the messages.
    pub messages: &'a Receiver<Message>,
}

/// A place where jobs run. What its workers say goes to the channel that it was made with.
pub trait Executor {
    /// Starts a job.
    fn submit(&mut self, job: &Job) -> io::Result<()>;
    /// The job that a worker does now.
    fn job_of(&self, worker: usize) -> Option<u64>;
    /// The worker's job has ended, and it may get another.
    fn release(&mut self, worker: usize);
    /// Collects a dead worker; says how it ended.
    fn reap(&mut self, worker: usize) -> String;
    /// Ends all workers at once.
    fn stop(&mut self);
}
