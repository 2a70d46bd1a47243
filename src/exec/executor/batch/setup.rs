//! What a keeper is given, is told, and leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use hamflow_stage_api::{Job, StageError};

use super::remote::Transport;
use super::system::{BatchSystem, States};
use super::{End, Scope};
use crate::config::ExecutorOptions;
use crate::exec::Message;
use crate::exec::executor::Placement;
use crate::store::remote::Place;

/// Jobs of a stage and its instances, with equal requests, that are not submitted yet.
pub struct Unsent {
    /// What each job asks for.
    pub placement: Placement,
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// What a keeper is told to do.
pub enum Order {
    /// Submit jobs.
    Submit(Unsent),
    /// A job of this run is one that an earlier run submitted.
    Adopt {
        /// The place of the task among those found.
        task: usize,
        /// The job in the earlier run.
        theirs: u64,
        /// The job in this run.
        ours: u64,
    },
    /// Answer when everything before is done and all records were read.
    Settle(Sender<()>),
    /// End.
    Stop(End),
}

/// What the batch system said about the tasks that it was asked about. Nothing is known about those that were submitted later.
pub struct Known {
    /// The tasks that it was asked about.
    pub ids: BTreeSet<String>,
    /// The states of those that it has.
    pub states: States,
}

/// Why jobs were lost, for the run that asks later.
pub type Lost = Arc<Mutex<BTreeMap<u64, String>>>;

/// What a keeper has to do with.
pub struct Setup {
    /// The name of the executor.
    pub name: String,
    /// The settings of the executor.
    pub options: ExecutorOptions,
    /// The batch system.
    pub system: Arc<dyn BatchSystem>,
    /// The folder of the executor, for all runs.
    pub folder: PathBuf,
    /// The name of this run, which no other run has.
    pub run: String,
    /// The worker of job 0.
    pub first: usize,
    /// The stages of the run and of the pipeline.
    pub scope: Scope,
    /// Where tasks go, if the nodes have no file system in common with this machine.
    pub remote: Option<Place>,
    /// Sends them there.
    pub transport: Arc<Transport>,
    /// Where messages go.
    pub heard: Sender<Message>,
    /// Where reasons for losses go.
    pub lost: Lost,
}

/// What is left when a keeper has ended.
#[derive(Debug, Default)]
pub struct Stopped {
    /// The batches that go on.
    pub going: Vec<PathBuf>,
    /// Why jobs could not be cancelled.
    pub problem: Option<String>,
}

/// The path of this program. It is there on the nodes, too, unlike one below `/proc`.
pub fn program() -> Result<PathBuf, StageError> {
    std::env::current_exe().map_err(|source| StageError::failed(format!("hamflow does not find itself: {source}")))
}
