//! Runs jobs with Slurm: those of a stage together, as an array of tasks.
//!
//! A task is a job of Slurm that does several jobs of hamflow ([`tasks`]). Its records decide, never its exit status or what Slurm says:
//! Slurm is asked only about tasks without a record. If a task has gone and no record appears for a while, its jobs are lost: they are
//! submitted again, unless Slurm names a reason that would hold again.

mod command;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hamflow_stage_api::{Job, JobEvent, JobResult, StageError};

use super::{Executor, Placement, tasks};
use crate::config::ExecutorOptions;
use crate::exec::Message;
use crate::fs as files;
use command::{Slurmctl, Submission};
use watch::{Task, Watched};

/// The numbers of the workers of the first executor begin here; each job has a worker of its own.
const FIRST_WORKER: usize = 1 << 32;

/// An executor that submits jobs to Slurm.
pub struct Slurm {
    name: String,
    options: ExecutorOptions,
    folder: PathBuf,
    first_worker: usize,
    heard: Sender<Message>,
    kept: Vec<(Job, Placement)>,
    watched: Arc<Mutex<Watched>>,
    watching: Option<JoinHandle<()>>,
    batches: usize,
}

impl Slurm {
    /// Creates an executor without jobs, and cancels those of a run that was killed. `tmp` must be on a file system that the nodes have, too.
    ///
    /// The caller must hold the run lock.
    pub fn new(number: usize, name: &str, options: ExecutorOptions, tmp: &Path, heard: Sender<Message>) -> Self {
        cancel_abandoned(&options, name, tmp);
        Self {
            name: name.to_owned(),
            options,
            folder: tmp.join(format!("executor-{name}-{}", std::process::id())),
            first_worker: FIRST_WORKER * (number + 1),
            heard,
            kept: Vec::new(),
            watched: Arc::default(),
            watching: None,
            batches: 0,
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // What it holds is right after every statement.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits the jobs of one stage with equal requests as one array.
    fn submit_batch(&mut self, placement: &Placement, jobs: &[Job]) -> Result<(), StageError> {
        let ctl = Slurmctl::new(&self.options);
        let limit = self.options.max_jobs.min(ctl.max_array_size()?).max(1);
        let per_task = jobs.len().div_ceil(limit).max(1);
        let folder = self.folder.join(format!("batch-{}", self.batches));
        self.batches += 1;
        files::create_dir(&folder).map_err(|error| StageError::io("create", &folder, &io::Error::other(error)))?;
        let chunks: Vec<&[Job]> = jobs.chunks(per_task).collect();
        for (number, chunk) in chunks.iter().enumerate() {
            tasks::write(&folder, number, chunk.iter()).map_err(|source| StageError::io("write", &folder, &source))?;
        }
        let first = &jobs[0];
        let submission = Submission {
            name: format!("hamflow-{}-{}", std::process::id(), first.stage),
            threads: first.threads,
            placement: placement.clone(),
            folder: folder.clone(),
        };
        let all: Vec<usize> = (0..chunks.len()).collect();
        let array = ctl.submit(&submission, &all)?;
        command::remember(&folder, &array);
        let mut watched = self.watched();
        let submission = Arc::new(submission);
        for (number, chunk) in chunks.iter().enumerate() {
            watched.add(Task::new(Arc::clone(&submission), number, &array, chunk.iter().map(|job| job.id)));
        }
        drop(watched);
        let what = if chunks.len() == 1 { "job" } else { "array" };
        for job in jobs {
            self.say(job.id, JobEvent::Log { line: format!("submitted to `{}` as {what} {array}", self.name) });
        }
        Ok(())
    }

    fn say(&self, job: u64, event: JobEvent) {
        let worker = self.first_worker + usize::try_from(job).unwrap_or_default();
        // The run has ended if nobody listens.
        let _ = self.heard.send(Message::Worker { worker, event });
    }

    /// The job of a worker of this executor.
    fn own(&self, worker: usize) -> Option<u64> {
        let job = worker.checked_sub(self.first_worker).filter(|job| *job < FIRST_WORKER)?;
        u64::try_from(job).ok()
    }
}

/// Cancels the arrays of runs that did not end, as far as they say which they are.
fn cancel_abandoned(options: &ExecutorOptions, name: &str, tmp: &Path) {
    let prefix = format!("executor-{name}-");
    for entry in std::fs::read_dir(tmp).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let arrays = command::remembered(&entry.path());
        if !arrays.is_empty() {
            Slurmctl::new(options).cancel(&arrays);
        }
        // If it stays, the temporary files are removed when the run starts.
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

impl Executor for Slurm {
    fn submit(&mut self, job: &Job, placement: &Placement) -> io::Result<()> {
        self.kept.push((job.clone(), placement.clone()));
        self.watched().live.insert(job.id);
        Ok(())
    }

    fn flush(&mut self) {
        let mut batches: BTreeMap<(String, usize), (Placement, Vec<Job>)> = BTreeMap::new();
        for (job, placement) in std::mem::take(&mut self.kept) {
            let batch = batches.entry((job.stage.clone(), job.threads)).or_insert_with(|| (placement, Vec::new()));
            batch.1.push(job);
        }
        for (placement, jobs) in batches.into_values() {
            if let Err(error) = self.submit_batch(&placement, &jobs) {
                for job in jobs {
                    let result = JobResult { id: job.id, error: Some(error.clone()), peak_memory: 0, wall_ms: 0 };
                    self.say(job.id, JobEvent::Finished(result));
                }
                continue;
            }
            if self.watching.is_none() {
                let (watched, heard) = (Arc::clone(&self.watched), self.heard.clone());
                let (options, first) = (self.options.clone(), self.first_worker);
                self.watching = Some(std::thread::spawn(move || watch::watch(&watched, &options, first, &heard)));
            }
        }
    }

    fn job_of(&self, worker: usize) -> Option<u64> {
        self.own(worker).filter(|job| self.watched().live.contains(job))
    }

    fn release(&mut self, worker: usize) {
        if let Some(job) = self.own(worker) {
            self.watched().live.remove(&job);
        }
    }

    fn reap(&mut self, worker: usize) -> String {
        let Some(job) = self.own(worker) else { return "it ended".to_owned() };
        let mut watched = self.watched();
        watched.live.remove(&job);
        watched.lost.remove(&job).unwrap_or_else(|| "it ended".to_owned())
    }

    fn stop(&mut self) {
        let arrays = {
            let mut watched = self.watched();
            watched.is_stopped = true;
            watched.live.clear();
            watched.unfinished()
        };
        if !arrays.is_empty() {
            Slurmctl::new(&self.options).cancel(&arrays);
        }
        if let Some(watching) = self.watching.take() {
            // It ends within its pause.
            let _ = watching.join();
        }
        // The tasks hold variables of the environment. What cannot be removed now goes with the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.stop();
    }
}
