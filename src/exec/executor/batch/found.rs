//! What earlier runs left in a queue: batches with tasks whose jobs may still run.
//!
//! | file of a batch | content |
//! | --- | --- |
//! | `batch.json` | what was submitted, and for which stage |
//! | `ids` | the number and the id of each task, a line per submission |

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::{Job, JobEvent, Symlinks, read_regular};
use serde::{Deserialize, Serialize};

use super::system::{State, Submission};
use super::systems;
use super::tasks::{self, TaskEvent};
use crate::config::ExecutorOptions;
use crate::digest::Digest;
use crate::exec::queue::{ENDED, QueuedTask};
use crate::fs;
use crate::sys;

/// A batch: what was submitted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchInfo {
    /// The stages of each task.
    pub stages: Vec<BTreeSet<String>>,
    /// What was submitted.
    pub submission: Submission,
    /// When, in milliseconds since 1970.
    #[serde(default)]
    pub submitted_ms: u64,
}

impl BatchInfo {
    /// The stages of a task.
    pub fn stages_of(&self, task: usize) -> BTreeSet<String> {
        self.stages.get(task).cloned().unwrap_or_default()
    }

    /// Writes it into the folder of its tasks.
    pub fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let path = self.submission.folder.join("batch.json");
        // It may have the key of the tasks. If it is incomplete, nothing was submitted.
        sys::create_private(&path)?.write_all(&text)?;
        fs::sync_files(std::iter::once(&*path)).map_err(|error| error.source)
    }
}

/// Remembers the ids of tasks, so that a later run can find them if this one is killed.
pub fn remember(folder: &Path, ids: &[(usize, String)]) {
    let lines: String = ids.iter().map(|(task, id)| format!("{task} {id}\n")).collect();
    let written = sys::append_private(&folder.join("ids")).and_then(|mut file| file.write_all(lines.as_bytes()));
    // Then they would go on without use, which wastes time on the cluster and nothing else.
    let _ = written;
}

/// A task of an earlier run.
#[derive(Debug, Clone)]
pub struct FoundTask {
    /// Its batch.
    pub batch: Arc<BatchInfo>,
    /// Its number in the batch.
    pub number: usize,
    /// Its id.
    pub id: String,
    /// How many jobs it has.
    pub jobs: usize,
    /// Those without a record.
    pub open: BTreeSet<u64>,
}

/// A job of an earlier run.
#[derive(Debug, Clone)]
pub struct FoundJob {
    /// The place of its task among those found.
    pub task: usize,
    /// Its number in the earlier run.
    pub id: u64,
    /// Its working directory.
    pub folder: PathBuf,
    /// Its directory for side outputs.
    pub side: PathBuf,
}

/// What earlier runs left.
#[derive(Debug, Default)]
pub struct Found {
    /// The tasks.
    pub tasks: Vec<FoundTask>,
    /// The jobs by what they do. Equal jobs are interchangeable.
    pub jobs: BTreeMap<Digest, Vec<FoundJob>>,
}

impl Found {
    /// Reads the folders of earlier runs with an executor.
    pub fn read(folder: &Path) -> Self {
        let mut found = Self::default();
        for batch in entries(folder).iter().flat_map(|run| entries(run)) {
            // A run that was killed while it wrote a batch had not submitted it.
            let text = read_regular(&batch.join("batch.json"), Symlinks::Refuse).unwrap_or_default();
            let Ok(info) = serde_json::from_slice::<BatchInfo>(&text) else { continue };
            let info =
                Arc::new(BatchInfo { submission: Submission { folder: batch.clone(), ..info.submission }, ..info });
            for (number, id) in ids(&batch) {
                found.add(&info, number, id);
            }
        }
        found
    }

    fn add(&mut self, batch: &Arc<BatchInfo>, number: usize, id: String) {
        let place = self.tasks.len();
        // Those of another version cannot be used, but they can be cancelled.
        let jobs = tasks::read_jobs(&batch.submission.folder, number).unwrap_or_default();
        let records = records(&tasks::events_file(&batch.submission.folder, number));
        let open = jobs.iter().map(|job| job.id).filter(|job| !records.contains_key(job)).collect();
        self.tasks.push(FoundTask { batch: Arc::clone(batch), number, id, jobs: jobs.len(), open });
        for job in jobs {
            let Some(folder) = job.output_dir.parent().map(Path::to_owned) else { continue };
            // One that failed is done again, and one whose outputs are gone was used.
            let is_usable = records.get(&job.id).is_none_or(|has_failed| !has_failed && job.output_dir.is_dir());
            if !is_usable {
                continue;
            }
            // The task creates it.
            if folder.parent().is_some_and(Path::is_dir) {
                let found = FoundJob { task: place, id: job.id, folder, side: job.side_dir.clone() };
                self.jobs.entry(identity(&job)).or_default().push(found);
            }
        }
    }

    /// Takes a job that does the same as `job`.
    pub fn take(&mut self, job: &Job) -> Option<FoundJob> {
        if self.jobs.is_empty() {
            return None;
        }
        self.jobs.get_mut(&identity(job))?.pop()
    }
}

/// What is in the queue of an executor, as far as earlier runs left it there: the tasks of each stage.
pub fn left_in_queue(options: &ExecutorOptions, folder: &Path) -> BTreeMap<String, Vec<QueuedTask>> {
    let found = Found::read(folder);
    let mut stages: BTreeMap<String, Vec<QueuedTask>> = BTreeMap::new();
    if found.tasks.is_empty() {
        return stages;
    }
    let system = systems::system(options);
    let ids: Vec<String> = found.tasks.iter().map(|task| task.id.clone()).collect();
    let states = system.states(&ids);
    for task in found.tasks {
        let state = states.as_ref().map(|states| states.get(&task.id).cloned());
        let of_task = task.batch.stages_of(task.number);
        let shown = task.shown(state);
        for stage in of_task {
            stages.entry(stage).or_default().push(shown.clone());
        }
    }
    stages
}

impl FoundTask {
    /// The task as its records and the batch system show it; `state` is `None` if that does not answer.
    fn shown(self, state: Option<Option<State>>) -> QueuedTask {
        let path = tasks::events_file(&self.batch.submission.folder, self.number);
        let (jobs, is_remote) = (self.jobs, self.batch.submission.remote.is_some());
        let submitted_ms = self.batch.submitted_ms;
        let mut shown = QueuedTask { id: self.id, jobs, submitted_ms, attempts: 1, ..QueuedTask::default() };
        let mut finished = 0;
        for event in tasks::read_events(&path, &mut 0) {
            match event {
                TaskEvent::Began { host, began_ms, .. } => (shown.host, shown.began_ms) = (Some(host), Some(began_ms)),
                TaskEvent::Job { event: JobEvent::Finished(result), .. } => {
                    finished += 1;
                    shown.wall_ms += result.wall_ms;
                    shown.peak_memory = shown.peak_memory.max(result.peak_memory);
                }
                TaskEvent::Job { .. } | TaskEvent::Sent { .. } | TaskEvent::Left => {}
            }
        }
        (shown.state, shown.reason) = match state {
            _ if finished >= jobs => (ENDED.to_owned(), String::new()),
            Some(None) if is_remote => (ENDED.to_owned(), "its records are in the remote".to_owned()),
            Some(Some(State { name, reason })) => (name, reason),
            Some(None) => ("gone".to_owned(), "the batch system no longer has it".to_owned()),
            None => ("unknown".to_owned(), "the batch system does not answer".to_owned()),
        };
        shown
    }
}

/// The jobs that have a record, and whether they failed.
fn records(events: &Path) -> BTreeMap<u64, bool> {
    let record = |event| match event {
        TaskEvent::Job { job, event: JobEvent::Finished(result) } => Some((job, result.error.is_some())),
        _ => None,
    };
    // The first one decides.
    tasks::read_events(events, &mut 0).into_iter().rev().filter_map(record).collect()
}

/// The last id of each task of a batch.
fn ids(batch: &Path) -> BTreeMap<usize, String> {
    let text = read_regular(&batch.join("ids"), Symlinks::Refuse).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = |line: &str| {
        let (task, id) = line.split_once(' ')?;
        Some((task.parse().ok()?, id.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// The entries of a folder, sorted.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What a job does, whatever its number and wherever it writes: equal for jobs that make the same bytes.
fn identity(job: &Job) -> Digest {
    let mut plain = job.clone();
    plain.id = 0;
    let mut text = serde_json::to_string(&plain).expect("a job has only string keys");
    for folder in [job.output_dir.parent().unwrap_or(&job.output_dir), &job.side_dir] {
        let written = serde_json::to_string(folder).unwrap_or_default();
        // Without the quotes, since paths below it are written, too.
        text = text.replace(written.trim_matches('"'), "");
    }
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::executor::Placement;
    use crate::exec::executor::batch::tasks::example_job;

    #[test]
    fn jobs_are_found_by_what_they_do() {
        let folder = tempfile::tempdir().unwrap();
        let batch = folder.path().join("run-1/batch-0");
        let work = folder.path().join("run-1/job-5");
        std::fs::create_dir_all(&work).unwrap();
        std::fs::create_dir_all(&batch).unwrap();
        let job = |id: u64, work: &Path, kind: &str| Job {
            kind: kind.to_owned(),
            output_dir: work.join("output"),
            scratch_dir: work.join("scratch"),
            ..example_job(id, work)
        };
        tasks::write(&batch, 3, [job(5, &work, "a")].iter()).unwrap();
        let submission = Submission {
            name: "x".to_owned(),
            threads: 1,
            placement: Placement::default(),
            folder: batch.clone(),
            program: PathBuf::from("hamflow"),
            is_probe: false,
            avoided: Vec::new(),
            remote: None,
        };
        assert!(Found::read(folder.path()).tasks.is_empty(), "not submitted");
        BatchInfo { stages: vec![BTreeSet::from(["x".to_owned()]); 4], submission, submitted_ms: 0 }.write().unwrap();
        remember(&batch, &[(3, "7_3".to_owned())]);
        remember(&batch, &[(3, "9_3".to_owned())]);
        let mut found = Found::read(folder.path());
        assert_eq!(found.tasks.len(), 1);
        assert_eq!((found.tasks[0].number, &found.tasks[0].id[..]), (3, "9_3"));
        let elsewhere = folder.path().join("elsewhere");
        assert!(found.take(&job(0, &elsewhere, "b")).is_none());
        let same = found.take(&job(0, &elsewhere, "a")).unwrap();
        assert_eq!((same.task, same.id, same.folder), (0, 5, work));
        assert!(found.take(&job(0, &elsewhere, "a")).is_none(), "taken");
    }
}
