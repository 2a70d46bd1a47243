//! Tasks: jobs that a worker on another machine does one after the other, and its records of them, as files that both see.
//!
//! | file | content |
//! | --- | --- |
//! | `task-N.jsonl` | the version of hamflow, then one job per line |
//! | `events-N.jsonl` | the node of each attempt, and a line for each event of a job, as it happens |
//!
//! A line without its end is still being written. A job that ended has an event that says so, so the lines are the records.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hamflow_stage_api::{
    AnyKind, EventSink, Job, JobEvent, JobResult, StageError, Symlinks, open_regular, read_regular,
};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::exec::{now_ms, worker};
use crate::fs;
use crate::sys;

/// The version of hamflow.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The first line of a file of tasks.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: String,
}

/// A line of the events.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskEvent {
    /// An attempt began.
    Began {
        /// The node.
        host: String,
        /// The version of hamflow there.
        version: String,
        /// When, in milliseconds since 1970 by the node's clock; 0 if it did not say.
        #[serde(default)]
        began_ms: u64,
    },
    /// Something happened to a job.
    Job {
        /// The job.
        job: u64,
        /// What happened.
        event: JobEvent,
    },
    /// Files of a job were sent to the remote; only if that is the transport.
    Sent {
        /// The job.
        job: u64,
        /// What they are.
        what: Sent,
        /// The files with their paths below their folder.
        files: Vec<(String, Digest)>,
        /// The folders below it.
        folders: Vec<String>,
    },
    /// The attempt ended before its jobs, because its time is soon over. Another one continues.
    Left,
}

/// Files of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sent {
    /// Its outputs.
    Outputs,
    /// Its side outputs.
    Side,
    /// Its last checkpoint.
    Checkpoint,
}

/// Why inputs cannot be brought, or results sent.
#[derive(Debug)]
pub enum Trouble {
    /// The job fails.
    OfJob(StageError),
    /// The node cannot go on; another attempt may do it.
    OfNode(StageError),
}

/// What brings inputs to a node and takes results away. With a shared file system there is nothing to do.
pub trait Carrier: Send + Sync {
    /// Brings the inputs of a job.
    fn bring(&self, _job: &Job) -> Result<(), Trouble> {
        Ok(())
    }
    /// Sends files of a job. Returns the event that says so.
    fn send(&self, _job: &Job, _what: Sent) -> Result<Option<TaskEvent>, Trouble> {
        Ok(None)
    }
    /// Sends the last events and removes what the attempt leaves, before its process ends.
    fn leave(&self) {}
}

struct SharedFileSystem;

impl Carrier for SharedFileSystem {}

/// The file with the jobs of a task.
pub fn task_file(folder: &Path, task: usize) -> PathBuf {
    folder.join(format!("task-{task}.jsonl"))
}

/// The file with the events of a task.
pub fn events_file(folder: &Path, task: usize) -> PathBuf {
    folder.join(format!("events-{task}.jsonl"))
}

/// The first line of a task.
pub fn head() -> Vec<u8> {
    let head = Head { version: VERSION.to_owned() };
    let mut line = serde_json::to_vec(&head).expect("a text can be written as JSON");
    line.push(b'\n');
    line
}

/// Writes the jobs of a task to a file, which must still be synced. They hold the variables of the environment, so only the user can read
/// it.
pub fn write<'a>(folder: &Path, task: usize, jobs: impl Iterator<Item = &'a Job>) -> io::Result<()> {
    let path = task_file(folder, task);
    let mut file = io::BufWriter::new(sys::create_private(&path)?);
    file.write_all(&head())?;
    for job in jobs {
        serde_json::to_writer(&mut file, job)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// The jobs of a task that this version of hamflow wrote; `None` if another one did, or the file is incomplete.
pub fn read_jobs(folder: &Path, task: usize) -> Option<Vec<Job>> {
    let text = read_regular(&task_file(folder, task), Symlinks::Refuse).ok()?;
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head: Head = serde_json::from_slice(lines.next()?).ok()?;
    (head.version == VERSION).then(|| lines.map(|line| serde_json::from_slice(line).ok()).collect())?
}

/// Does the jobs of a task. Jobs that an earlier attempt has finished are not done again.
pub fn perform(kinds: &[&dyn AnyKind], folder: &Path, task: usize) -> io::Result<()> {
    perform_with(kinds, folder, task, Arc::new(SharedFileSystem))
}

/// Like [`perform`], with something that carries inputs and results.
pub fn perform_with(kinds: &[&dyn AnyKind], folder: &Path, task: usize, carrier: Arc<dyn Carrier>) -> io::Result<()> {
    let invalid = |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut lines = BufReader::new(open_regular(&task_file(folder, task), Symlinks::Refuse)?).lines();
    let head: Head = serde_json::from_str(&lines.next().unwrap_or_else(|| Ok(String::new()))?).map_err(invalid)?;
    if head.version != VERSION {
        return refuse(folder, task, &head.version, lines);
    }
    let finished: BTreeSet<u64> = read_events(&events_file(folder, task), &mut 0)
        .into_iter()
        .filter_map(|line| match line {
            TaskEvent::Job { job, event: JobEvent::Finished(_) } => Some(job),
            _ => None,
        })
        .collect();
    let events = Events::open(folder, task, Arc::clone(&carrier))?;
    for line in lines {
        let job: Job = serde_json::from_str(&line?).map_err(invalid)?;
        if finished.contains(&job.id) {
            continue;
        }
        if events.must_leave() {
            events.leave();
            return Ok(());
        }
        events.begin(&job);
        let result = carrier.bring(&job).map_or_else(Err, |()| {
            let result = attempt(kinds, &job, &events).map_err(|error| {
                Trouble::OfNode(StageError::io("write", job.output_dir.parent().unwrap_or(folder), &error))
            })?;
            let sent = if result.error.is_none() { &[Sent::Side, Sent::Outputs][..] } else { &[Sent::Side] };
            for what in sent {
                carrier.send(&job, *what)?.iter().for_each(|event| events.line(event));
            }
            Ok(result)
        });
        let result = match result {
            Ok(result) => result,
            Err(Trouble::OfJob(error)) => JobResult { id: job.id, error: Some(error), peak_memory: 0, wall_ms: 0 },
            Err(Trouble::OfNode(error)) => return Err(io::Error::other(error.to_string())),
        };
        events.emit(JobEvent::Finished(result));
        // So that other machines see it.
        sync(&events_file(folder, task))?;
    }
    Ok(())
}

/// Does a job in directories of its own, since a former attempt that was given up may have left something, or still be at work. The first
/// attempt that is done gives the outputs.
fn attempt(kinds: &[&dyn AnyKind], job: &Job, events: &dyn EventSink) -> io::Result<JobResult> {
    let own = fs::unique_name();
    let beside = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        folder.with_file_name(format!("{name}-{}", own.trim_matches('.')))
    };
    let of_attempt = Job { output_dir: beside(&job.output_dir), scratch_dir: beside(&job.scratch_dir), ..job.clone() };
    let Job { output_dir, scratch_dir, .. } = &of_attempt;
    [output_dir, scratch_dir].into_iter().try_for_each(std::fs::create_dir_all)?;
    let result = worker::perform_job(kinds, &of_attempt, events);
    // What cannot be removed is removed with the folder of the run.
    let _ = fs::remove(scratch_dir);
    let moved = match result.error {
        None => fs::rename(output_dir, &job.output_dir).map_err(|error| error.source),
        Some(_) => Ok(()),
    };
    let _ = fs::remove(output_dir);
    if job.output_dir.is_dir() { Ok(result) } else { moved.map(|()| result) }
}

/// Records that the jobs of another version of hamflow cannot be done here.
fn refuse(folder: &Path, task: usize, theirs: &str, lines: impl Iterator<Item = io::Result<String>>) -> io::Result<()> {
    let error = other_version(VERSION, theirs);
    let events = Events::open(folder, task, Arc::new(SharedFileSystem))?;
    for line in lines {
        // Only the number of the job is surely understood.
        let job: serde_json::Value = serde_json::from_str(&line?).unwrap_or_default();
        let Some(id) = job.get("id").and_then(serde_json::Value::as_u64) else { continue };
        let result = JobResult { id, error: Some(error.clone()), peak_memory: 0, wall_ms: 0 };
        events.line(&TaskEvent::Job { job: id, event: JobEvent::Finished(result) });
    }
    sync(&events_file(folder, task))
}

/// Nodes have another version than where the run is.
pub fn other_version(node: &str, run: &str) -> StageError {
    StageError::input(format!("the node has hamflow {node}, but the run is one of hamflow {run}"))
        .hint("install the same version where hamflow is started and on the nodes")
}

/// The name of the node as the batch system knows it, if it says so.
fn node_name() -> String {
    std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(sys::host_name)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::sync_files(std::iter::once(path)).map_err(|error| error.source)
}

struct Events {
    path: PathBuf,
    file: Mutex<File>,
    job: Mutex<Option<Job>>,
    carrier: Arc<dyn Carrier>,
    /// Set by the batch system's signal before the time is over.
    ending: Arc<AtomicBool>,
}

impl Events {
    fn open(folder: &Path, task: usize, carrier: Arc<dyn Carrier>) -> io::Result<Self> {
        let path = events_file(folder, task);
        let file = sys::append_private(&path)?;
        let events = Self { path, file: Mutex::new(file), job: Mutex::new(None), carrier, ending: Arc::default() };
        sys::set_on_notice(&events.ending)?;
        // An earlier attempt may have been killed within a line.
        events.write(b"\n");
        events.line(&TaskEvent::Began { host: node_name(), version: VERSION.to_owned(), began_ms: now_ms() });
        Ok(events)
    }

    /// Whether the time is soon over.
    fn must_leave(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Says that another attempt must continue.
    fn leave(&self) {
        self.line(&TaskEvent::Left);
        // If it fails, the attempt counts as lost, and another one continues as well.
        let _ = sync(&self.path);
    }

    fn line(&self, event: &TaskEvent) {
        let mut line = serde_json::to_string(event).expect("an event has only string keys");
        line.push('\n');
        self.write(line.as_bytes());
    }

    /// What follows is about this job.
    fn begin(&self, job: &Job) {
        if let Ok(mut current) = self.job.lock() {
            *current = Some(job.clone());
        }
    }

    fn write(&self, bytes: &[u8]) {
        // If the disk is full, the job has no record and counts as lost.
        if let Ok(mut file) = self.file.lock() {
            let _ = file.write_all(bytes);
        }
    }
}

impl EventSink for Events {
    fn emit(&self, event: JobEvent) {
        let current = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = current.as_ref() else { return };
        let is_saved = matches!(event, JobEvent::Saved);
        if is_saved && let Ok(Some(sent)) = self.carrier.send(job, Sent::Checkpoint) {
            self.line(&sent);
        }
        self.line(&TaskEvent::Job { job: job.id, event });
        if is_saved && self.must_leave() {
            self.leave();
            self.carrier.leave();
            // Whatever the job would do now is done again from its checkpoint.
            std::process::exit(0);
        }
    }
}

/// Reads the events that were written since `offset`, which moves behind the last whole line.
pub fn read_events(path: &Path, offset: &mut u64) -> Vec<TaskEvent> {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    let read = open_regular(path, Symlinks::Refuse).and_then(|mut file| {
        file.seek(SeekFrom::Start(*offset))?;
        file.read_to_end(&mut text)
    });
    // The file appears with the first event.
    if read.is_err() {
        return Vec::new();
    }
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    *offset += end as u64;
    text[..end].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// A job of a kind that no worker knows, so that it ends with an error.
#[cfg(test)]
pub fn example_job(id: u64, folder: &Path) -> Job {
    use hamflow_stage_api::{Inputs, JobPart, Params, Redactor};
    Job {
        id,
        stage: "x".to_owned(),
        kind: "unknown".to_owned(),
        params: Params::new(),
        seed: None,
        part: JobPart::Whole,
        lineage: None,
        inputs: Inputs::default(),
        output_dir: folder.to_owned(),
        scratch_dir: folder.to_owned(),
        side_dir: folder.to_owned(),
        checkpoint_dir: None,
        threads: 1,
        pool_threads: 1,
        project_dir: folder.to_owned(),
        own_paths: Vec::new(),
        params_file: None,
        env: std::collections::BTreeMap::new(),
        redactor: Redactor::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The jobs that have ended, with the messages of their errors.
    fn ended(folder: &Path, offset: &mut u64) -> Vec<(u64, String)> {
        let events = read_events(&events_file(folder, 3), offset).into_iter();
        let result = |line: TaskEvent| match line {
            TaskEvent::Job { job, event: JobEvent::Finished(result) } => {
                Some((job, result.error.map(|error| error.message).unwrap_or_default()))
            }
            _ => None,
        };
        events.filter_map(result).collect()
    }

    #[test]
    fn each_job_has_one_record_however_often_its_task_is_performed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 3, [example_job(5, folder), example_job(6, folder)].iter()).unwrap();
        let mut offset = 0;
        assert_eq!(ended(folder, &mut offset), []);
        // An attempt that was killed after its first job, within the next line.
        perform(&[], folder, 3).unwrap();
        let text = std::fs::read_to_string(events_file(folder, 3)).unwrap();
        // After the line's beginning, the node, and the first record.
        let first = text.match_indices('\n').nth(2).unwrap().0 + 1;
        std::fs::write(events_file(folder, 3), &text[..first + 10]).unwrap();
        let jobs = |ended: Vec<(u64, String)>| ended.into_iter().map(|(job, _)| job).collect::<Vec<_>>();
        assert_eq!(jobs(ended(folder, &mut offset)), [5]);
        perform(&[], folder, 3).unwrap();
        assert_eq!(jobs(ended(folder, &mut offset)), [6]);
        perform(&[], folder, 3).unwrap();
        assert_eq!(jobs(ended(folder, &mut offset)), Vec::<u64>::new());
    }

    #[test]
    fn jobs_of_another_version_are_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 3, [example_job(5, folder)].iter()).unwrap();
        let path = task_file(folder, 3);
        let text = std::fs::read_to_string(&path).unwrap().replacen(VERSION, "9.9.9", 1);
        std::fs::write(&path, text).unwrap();
        perform(&[], folder, 3).unwrap();
        let message = format!("the node has hamflow {VERSION}, but the run is one of hamflow 9.9.9");
        assert_eq!(ended(folder, &mut 0), [(5, message)]);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_user_can_read_tasks_and_events() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, 3, [example_job(5, folder)].iter()).unwrap();
        perform(&[], folder, 3).unwrap();
        for path in [task_file(folder, 3), events_file(folder, 3)] {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
}
