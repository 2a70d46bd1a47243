//! Runs jobs with a batch system: those of a stage and its instances together, as an array of tasks.
//!
//! A task is a job of the batch system that does several jobs of hamflow ([`tasks`]). Its records decide, never its exit status or what the
//! batch system says: it is asked only about tasks without a record. If a task has gone and no record appears for a while, its jobs are
//! lost: they are submitted again, unless there is a reason that would hold again.
//!
//! Everything that a task needs is in the folder of its run, below the folder of the executor in the cache, so a later run can go on with
//! what an earlier one has left in the queue ([`found`]).

mod chunks;
mod found;
mod keeper;
pub mod node;
mod probe;
mod remote;
mod setup;
mod slurm;
mod system;
mod systems;
mod task;
pub mod tasks;
mod template;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use hamflow_stage_api::Job;

use super::{Adopted, End, Executor, Placement, Scope};
use crate::config::{ExecutorOptions, TransportKind};
use crate::exec::Message;
use crate::fs;
use crate::store::remote::Place;
use found::Found;
use keeper::Keeper;
use remote::Transport;
use setup::{Lost, Order, Setup, Stopped, Unsent};
use system::BatchSystem;

pub use found::left_in_queue;
pub use system::NO_REMOTE;

/// The numbers of the workers of the first executor begin here; each job has a worker of its own.
const FIRST_WORKER: usize = 1 << 32;

/// An executor that submits jobs to a batch system.
pub struct Batch {
    name: String,
    options: ExecutorOptions,
    system: Arc<dyn BatchSystem>,
    /// For all runs.
    folder: PathBuf,
    /// The name of this run.
    run: String,
    scope: Scope,
    first_worker: usize,
    heard: Sender<Message>,
    kept: Vec<(Job, Placement)>,
    found: Found,
    /// The jobs that the run waits for.
    live: BTreeSet<u64>,
    lost: Lost,
    transport: Arc<Transport>,
    keeper: Option<(Sender<Order>, JoinHandle<Stopped>)>,
    /// What is left after the run.
    stopped: Stopped,
}

impl Batch {
    /// Creates an executor without jobs. `folder` must be on a file system that the nodes have, too.
    ///
    /// The caller must hold the run lock.
    pub fn new(
        number: usize,
        (name, options): (&str, &ExecutorOptions),
        folder: &Path,
        scope: Scope,
        heard: Sender<Message>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            system: systems::system(options),
            options: options.clone(),
            found: Found::read(folder),
            folder: folder.to_owned(),
            run: format!("{}-{}", std::process::id(), crate::exec::now_ms()),
            scope,
            first_worker: FIRST_WORKER * (number + 1),
            heard,
            kept: Vec::new(),
            live: BTreeSet::new(),
            lost: Lost::default(),
            transport: Arc::default(),
            keeper: None,
            stopped: Stopped::default(),
        }
    }

    /// Tells the keeper, which starts with its first order.
    fn order(&mut self, order: Order) {
        let (sender, _) = self.keeper.get_or_insert_with(|| {
            let remote = self.scope.remote.as_ref().filter(|_| self.options.transport == TransportKind::Remote);
            let setup = Setup {
                name: self.name.clone(),
                options: self.options.clone(),
                system: Arc::clone(&self.system),
                folder: self.folder.clone(),
                run: self.run.clone(),
                first: self.first_worker,
                scope: self.scope.clone(),
                remote: remote.map(|url| Place::new(url).expect("the system has random numbers")),
                transport: Arc::clone(&self.transport),
                heard: self.heard.clone(),
                lost: Arc::clone(&self.lost),
            };
            let keeper = Keeper::new(setup, &self.found.tasks);
            let (sender, orders) = channel();
            (sender, std::thread::spawn(move || keeper.keep(&orders)))
        });
        // It ends only after an order to stop.
        let _ = sender.send(order);
    }

    /// The job of a worker of this executor.
    fn own(&self, worker: usize) -> Option<u64> {
        let job = worker.checked_sub(self.first_worker).filter(|job| *job < FIRST_WORKER)?;
        u64::try_from(job).ok()
    }
}

impl Executor for Batch {
    fn folder(&self, _placement: &Placement) -> Option<PathBuf> {
        Some(self.folder.join(&self.run))
    }

    fn submit(&mut self, job: Job, placement: &Placement) -> io::Result<Option<Adopted>> {
        self.live.insert(job.id);
        match self.found.take(&job) {
            Some(found) => {
                self.order(Order::Adopt { task: found.task, theirs: found.id, ours: job.id });
                Ok(Some(Adopted { folder: found.folder, side: found.side }))
            }
            None => {
                self.kept.push((job, placement.clone()));
                Ok(None)
            }
        }
    }

    fn flush(&mut self) {
        let mut batches: Vec<Unsent> = Vec::new();
        for (job, placement) in std::mem::take(&mut self.kept) {
            let asks_for_the_same =
                |batch: &&mut Unsent| batch.placement == placement && batch.jobs[0].threads == job.threads;
            match batches.iter_mut().find(asks_for_the_same) {
                Some(batch) => batch.jobs.push(job),
                None => batches.push(Unsent { placement, jobs: vec![job] }),
            }
        }
        for unsent in batches {
            self.order(Order::Submit(unsent));
        }
    }

    fn settle(&mut self) {
        if self.keeper.is_some() {
            let (answer, answered) = channel();
            self.order(Order::Settle(answer));
            let _ = answered.recv();
        }
    }

    fn job_of(&self, worker: usize) -> Option<u64> {
        self.own(worker).filter(|job| self.live.contains(job))
    }

    fn release(&mut self, worker: usize) {
        if let Some(job) = self.own(worker) {
            self.live.remove(&job);
        }
    }

    fn reap(&mut self, worker: usize) -> String {
        let Some(job) = self.own(worker) else { return "it ended".to_owned() };
        self.live.remove(&job);
        let why = self.lost.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        why.unwrap_or_else(|| "it ended".to_owned())
    }

    fn stop(&mut self, end: End) {
        if self.keeper.is_none() && self.found.tasks.is_empty() {
            return;
        }
        self.transport.is_ending.store(true, Ordering::Relaxed);
        self.order(Order::Stop(end));
        self.live.clear();
        self.found = Found::default();
        if let Some((_, keeper)) = self.keeper.take() {
            // Only a bug could panic there, and then nothing is known of what goes on.
            self.stopped = keeper.join().unwrap_or_default();
        }
    }

    fn problem(&mut self) -> Option<String> {
        self.stopped.problem.take()
    }

    fn clear(&mut self) {
        for run in found::entries(&self.folder).into_iter().filter(|entry| entry.is_dir()) {
            if !self.stopped.going.iter().any(|batch| batch.starts_with(&run)) {
                // They hold variables of the environment. What cannot be removed now is removed by a later run.
                let _ = fs::remove(&run);
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.stop(End::Cancel);
    }
}
