//! The transport through the remote, for nodes without a file system in common with this machine: the inputs of jobs go there as blobs and
//! the jobs as messages; the nodes send outputs and events back the same way ([`node`](super::node)).
//!
//! The events of a task are copied into the file where they would be with a shared file system, after the outputs that they speak of have
//! arrived, so that nothing else needs to know of the transport.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hamflow_stage_api::{
    Job, JobEvent, JobResult, ReadKind, StageError, Symlinks, UndeclaredRead, open_regular, read_regular,
};
use serde::{Deserialize, Serialize};

use super::tasks::{self, Sent, TaskEvent};
use crate::digest::{self, Digest};
use crate::fs::{self, Durability};
use crate::plan::{full, names};
use crate::store::remote::{Mailbox, Place, RemoteError, for_each_parallel};
use crate::sys;

/// A job for a node, with the files that it needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoteJob {
    /// The job, with the paths of the machine that the run is on.
    pub job: Job,
    /// The files, with their paths there.
    pub files: Vec<(PathBuf, Digest)>,
}

/// The name of the message with a task.
pub fn task_message(task: usize) -> String {
    format!("{task}.task")
}

/// The name of the message with the events of a task.
pub fn events_message(task: usize) -> String {
    format!("{task}.events")
}

/// The first error of requests that are made at the same time.
pub struct FirstError<E>(Mutex<Option<E>>);

impl<E> Default for FirstError<E> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<E> FirstError<E> {
    /// Takes note of an error.
    pub fn note(&self, error: E) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn is_noted(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The first error, if there was one.
    pub fn result(self) -> Result<(), E> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// The name of the message with a file of the last checkpoint of a job.
pub fn checkpoint_message(task: usize, job: u64, path: &str) -> String {
    format!("{task}.checkpoint/{job}/{path}")
}

/// What was sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Sends and receives for the executors of a run.
#[derive(Default)]
pub struct Transport {
    /// Set when the run ends: then nothing more is sent.
    pub is_ending: Arc<AtomicBool>,
    /// The events of each task that have been received, by its file.
    received: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    /// Held while messages are received: their files and events must not be taken twice at the same time.
    receiving: Mutex<()>,
}

/// A task whose events may be in a remote.
pub struct Awaited {
    /// Its id in the batch system.
    pub id: String,
    /// Where they are.
    pub place: Place,
    /// The folder of its batch on this machine.
    pub folder: PathBuf,
    /// Its number.
    pub task: usize,
}

impl Transport {
    /// Sends tasks with the files that their jobs need.
    pub fn send(&self, place: &Place, tasks: &[&[Job]]) -> Result<Amount, StageError> {
        let mailbox = open(place)?.until(&self.is_ending);
        let mut blobs = BTreeMap::new();
        let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut messages = Vec::new();
        for (number, jobs) in tasks.iter().enumerate() {
            let mut message = tasks::head();
            for job in *jobs {
                let files = files_of(job)?;
                blobs.extend(files.iter().map(|(path, digest)| (*digest, path.clone())));
                serde_json::to_writer(&mut message, &RemoteJob { job: job.clone(), files })
                    .map_err(io::Error::other)
                    .and_then(|()| message.write_all(b"\n"))
                    .map_err(|source| StageError::failed(source.to_string()))?;
            }
            messages.push((number, message));
        }
        let problem = FirstError::default();
        let may_go_on = || !self.is_ending.load(Ordering::Relaxed) && !problem.is_noted();
        let blobs: Vec<(Digest, PathBuf)> = blobs.into_iter().collect();
        for_each_parallel(&blobs, |(digest, path)| match may_go_on().then(|| mailbox.put_blob(path, *digest)) {
            Some(Ok(true)) => {
                files.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(digest.size(), Ordering::Relaxed);
            }
            Some(Err(error)) => problem.note(error),
            Some(Ok(false)) | None => {}
        });
        for_each_parallel(&messages, |(number, message)| {
            if may_go_on()
                && let Err(error) = mailbox.post(&task_message(*number), message)
            {
                problem.note(error);
            }
        });
        if self.is_ending.load(Ordering::Relaxed) {
            return Err(StageError::failed("the run has ended"));
        }
        let what = || format!("send the inputs of the jobs to {}", mailbox.location());
        problem.result().map_err(|error| cannot(&what(), &error))?;
        Ok(Amount { files: files.into_inner(), bytes: bytes.into_inner() })
    }

    /// Receives what nodes have sent. Returns the tasks of which nothing is known, since the remote does not answer, and the first problem.
    pub fn receive(&self, awaited: &[Awaited]) -> (BTreeSet<String>, Option<String>) {
        let _guard = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let (unknown, problem) = (Mutex::new(BTreeSet::new()), FirstError::default());
        for_each_parallel(awaited, |awaited| {
            let Err(error) = self.receive_one(awaited) else { return };
            // A message that is damaged or forged is none.
            if !matches!(error, RemoteError::Corrupt(_)) {
                unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(awaited.id.clone());
            }
            problem.note(error.to_string());
        });
        (unknown.into_inner().unwrap_or_else(PoisonError::into_inner), problem.result().err())
    }

    fn receive_one(&self, Awaited { place, folder, task, .. }: &Awaited) -> Result<(), RemoteError> {
        let mailbox = Mailbox::open(place).map_err(RemoteError::Refused)?.until(&self.is_ending);
        let Some(text) = mailbox.read(&events_message(*task))? else { return Ok(()) };
        let path = tasks::events_file(folder, *task);
        let known = self.received.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        // A run that goes on with tasks of an earlier one knows what that one has received.
        let local = read_regular(&path, Symlinks::Refuse).unwrap_or_default();
        let new = new_lines(known.as_deref().unwrap_or(&local), &text);
        if new.is_empty() {
            return Ok(());
        }
        let jobs = tasks::read_jobs(folder, *task).unwrap_or_default();
        let mut taking = Taking { mailbox: &mailbox, task: *task, jobs: &jobs, finished: finished(&local) };
        let checkpoints = last_checkpoints(new);
        // After a line that could not be written whole.
        let mut lines = if local.ends_with(b"\n") || local.is_empty() { Vec::new() } else { b"\n".to_vec() };
        for line in new.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(event) => taking.event(event, &checkpoints, &mut lines)?,
                // The empty line with which an attempt begins.
                Err(_) => lines.extend_from_slice(line),
            }
        }
        let written = sys::append_private(&path).and_then(|mut file| file.write_all(&lines));
        written.map_err(RemoteError::Local)?;
        self.received.lock().unwrap_or_else(PoisonError::into_inner).insert(path, text);
        Ok(())
    }
}

/// The jobs that have a record.
fn finished(events: &[u8]) -> BTreeSet<u64> {
    let events = events.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let of_finished = |event| match event {
        TaskEvent::Job { job, event: JobEvent::Finished(_) } => Some(job),
        _ => None,
    };
    events.filter_map(of_finished).collect()
}

/// Takes the events of a task, with the files that they speak of.
struct Taking<'a> {
    mailbox: &'a Mailbox,
    task: usize,
    jobs: &'a [Job],
    finished: BTreeSet<u64>,
}

impl Taking<'_> {
    /// Adds an event to the lines of this machine's file.
    fn event(
        &mut self,
        event: TaskEvent,
        checkpoints: &BTreeMap<u64, Files>,
        lines: &mut Vec<u8>,
    ) -> Result<(), RemoteError> {
        let id = match &event {
            TaskEvent::Job { job, .. } | TaskEvent::Sent { job, .. } => Some(*job),
            TaskEvent::Began { .. } | TaskEvent::Left => None,
        };
        let job = id.and_then(|id| self.jobs.iter().find(|job| job.id == id));
        // Another attempt may be late; the first record decides.
        if id.is_some_and(|id| self.finished.contains(&id)) {
            return Ok(());
        }
        let mut event = event;
        let problem = match (&mut event, job) {
            (TaskEvent::Sent { what: Sent::Checkpoint, files, .. }, Some(job)) => {
                if checkpoints.get(&job.id) == Some(files) {
                    self.take_checkpoint(job, files)?;
                }
                None
            }
            (TaskEvent::Sent { what, files, folders, .. }, Some(job)) => {
                take(self.mailbox, job, *what, (files, folders))?
            }
            (TaskEvent::Job { event: JobEvent::Undeclared { reads: Some(reads), .. }, .. }, Some(job)) => {
                // What a program used outside of the project is software of the node.
                reads.retain(|read| !read.path.starts_with('/') && !read.path.starts_with("~/"));
                reads.iter().find(|read| is_missed(job, read)).map(not_sent)
            }
            _ => None,
        };
        // It comes before the job's own record, so it decides.
        for event in problem.map(|error| failed(id.unwrap_or_default(), error)).into_iter().chain([event]) {
            if let TaskEvent::Job { job, event: JobEvent::Finished(_) } = &event {
                self.finished.insert(*job);
            }
            lines.extend(serde_json::to_vec(&event).map_err(|error| RemoteError::Local(error.into()))?);
            lines.push(b'\n');
        }
        Ok(())
    }

    /// Takes a checkpoint, so that the job can go on here, too. Without one, the job begins anew, which is no failure.
    fn take_checkpoint(&self, job: &Job, files: &Files) -> Result<(), RemoteError> {
        let Some(folder) = job.checkpoint_dir.as_ref().filter(|folder| folder.is_dir()) else { return Ok(()) };
        for (path, _) in files.iter().filter(|(path, _)| is_below(path)) {
            if let Some(text) = self.mailbox.read(&checkpoint_message(self.task, job.id, path))? {
                let written = fs::write(&folder.join(path), &text, Durability::Synced);
                written.map_err(|error| RemoteError::Local(error.source))?;
            }
        }
        Ok(())
    }
}

fn failed(id: u64, error: StageError) -> TaskEvent {
    let result = JobResult { id, error: Some(error), peak_memory: 0, wall_ms: 0 };
    TaskEvent::Job { job: id, event: JobEvent::Finished(result) }
}

/// Whether a program saw less of the project on a node than there is. A Python that lacks a module of the project fails by itself.
fn is_missed(job: &Job, read: &UndeclaredRead) -> bool {
    let path = full(&read.path, &job.project_dir);
    if read.was_absent {
        return path.exists();
    }
    let inputs = || job.inputs.0.values().flatten();
    let sources = || inputs().flat_map(|input| &input.files).map(|file| &file.source).chain(&job.params_file);
    let is_sent = |entry: &Path| sources().any(|source| source.starts_with(entry));
    let listed = (read.kind == ReadKind::Names).then(|| names(&path, read.kind, path == job.project_dir)).flatten();
    listed.is_some_and(|names| names.lines().any(|name| !is_sent(&path.join(name))))
}

/// What a text has after the lines that it shares with another one. A task that was submitted again may have begun with less than its former
/// attempt, if that one went on unseen; a line that is received twice does no harm.
fn new_lines<'a>(known: &[u8], text: &'a [u8]) -> &'a [u8] {
    let shared = known.iter().zip(text).take_while(|(a, b)| a == b).count();
    let start = text[..shared].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.get(start..end).unwrap_or_default()
}

/// Files with their paths below a folder.
type Files = Vec<(String, Digest)>;

/// The files of the last checkpoint of each job in lines of events: the earlier ones are of no use.
pub fn last_checkpoints(lines: &[u8]) -> BTreeMap<u64, Files> {
    let events = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let of_checkpoint = |event| match event {
        TaskEvent::Sent { job, what: Sent::Checkpoint, files, .. } => Some((job, files)),
        _ => None,
    };
    events.filter_map(of_checkpoint).collect()
}

/// Takes files of a job to where the job would have written them here. Returns why the job has failed, if the remote has lost them.
fn take(
    mailbox: &Mailbox,
    job: &Job,
    what: Sent,
    (files, folders): (&[(String, Digest)], &[String]),
) -> Result<Option<StageError>, RemoteError> {
    let (folder, is_needed) = match what {
        Sent::Outputs => (&job.output_dir, job.output_dir.ancestors().nth(2).is_some_and(Path::is_dir)),
        Sent::Side | Sent::Checkpoint => (&job.side_dir, job.side_dir.is_dir()),
    };
    // The folders of a run that has ended are gone.
    if !is_needed {
        return Ok(None);
    }
    for path in folders.iter().filter(|path| is_below(path)) {
        fs::create_dir(&folder.join(path)).map_err(|error| RemoteError::Local(error.source))?;
    }
    fs::create_dir(folder).map_err(|error| RemoteError::Local(error.source))?;
    let problem = FirstError::default();
    for_each_parallel(files, |(path, digest)| {
        let got = match is_below(path) {
            true => mailbox.get_blob(*digest, &folder.join(path)),
            false => Err(RemoteError::Corrupt(format!("`{path}` is not a path in a folder"))),
        };
        let error = match got {
            Ok(true) => return,
            Ok(false) => RemoteError::Corrupt(format!("`{path}` is not there any more")),
            Err(error) => error,
        };
        problem.note(error);
    });
    let problem = problem.result();
    match problem {
        Ok(()) => Ok(None),
        Err(error @ RemoteError::Corrupt(_)) => {
            Ok(Some(cannot(&format!("get the results of the job from {}", mailbox.location()), &error)))
        }
        Err(error) => Err(error),
    }
}

/// Whether a path with `/` stays in its folder.
pub fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}

fn not_sent(UndeclaredRead { path, was_absent, .. }: &UndeclaredRead) -> StageError {
    match was_absent {
        true => {
            StageError::input(format!("the program looked for `{path}`, which the node does not have")).hint(format!(
                "declare it: `{{file:{path}}}` in the command, or an input; only declared inputs are sent to nodes"
            ))
        }
        false => StageError::input(format!(
            "the program listed the folder `{path}`, of which the node has only what is declared"
        ))
        .hint("declare the folder as an input; only declared inputs are sent to nodes"),
    }
}

/// Opens a place.
pub fn open(place: &Place) -> Result<Mailbox, StageError> {
    Mailbox::open(place).map_err(|problem| StageError::input(format!("cannot use the remote: {problem}")))
}

/// An error with what could not be done.
pub fn cannot(what: &str, error: &RemoteError) -> StageError {
    StageError::failed(format!("cannot {what}: {error}"))
}

/// The files that a job needs, with their digests.
fn files_of(job: &Job) -> Result<Vec<(PathBuf, Digest)>, StageError> {
    let mut files = Vec::new();
    for file in job.inputs.0.values().flatten().flat_map(|input| &input.files) {
        files.push((file.source.clone(), file.known_digest()?));
    }
    let more =
        job.params_file.iter().cloned().chain(job.checkpoint_dir.iter().flat_map(|folder| Entries::of(folder).files));
    for path in more {
        files.push((path.clone(), hashed(&path)?));
    }
    Ok(files)
}

/// The digest of a file.
pub fn hashed(path: &Path) -> Result<Digest, StageError> {
    let failed = |source: io::Error| StageError::io("read", path, &source);
    let mut file = open_regular(path, Symlinks::Follow).map_err(failed)?;
    digest::of_pieces(&mut file, |_| Ok::<(), StageError>(()))?.map_err(failed)
}

/// What is below a folder.
#[derive(Default)]
pub struct Entries {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The folders.
    pub folders: Vec<PathBuf>,
}

impl Entries {
    /// Reads a folder.
    pub fn of(folder: &Path) -> Self {
        let mut found = Self::default();
        found.add(folder);
        found.files.sort();
        found
    }

    fn add(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    self.add(&entry.path());
                    self.folders.push(entry.path());
                }
                Ok(kind) if kind.is_file() => self.files.push(entry.path()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_whole_lines_are_received() {
        let new = |known: &str, text: &'static str| {
            String::from_utf8(new_lines(known.as_bytes(), text.as_bytes()).to_vec()).unwrap()
        };
        assert_eq!(new("", "a\nb\nc"), "a\nb\n");
        assert_eq!(new("a\nb\n", "a\nb\nc\n"), "c\n");
        assert_eq!(new("a\nb\n", "a\nb\n"), "");
        assert_eq!(new("a\nb\nx\n", "a\nb\n"), "", "a late message of an earlier attempt");
        assert_eq!(new("a\nb1\nx\n", "a\nb2\nc\n"), "b2\nc\n", "another attempt");
    }

    #[test]
    fn paths_of_nodes_stay_in_their_folder() {
        let below = ["a", "a/b.txt"].map(is_below);
        assert_eq!(below, [true; 2]);
        let outside = ["", "/a", "../a", "a/../../b"].map(is_below);
        assert_eq!(outside, [false; 4]);
    }
}
