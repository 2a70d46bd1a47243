//! Tasks: jobs that a worker on another machine does one after the other, and its records of them, as files that both see.
//!
//! | file | content |
//! | --- | --- |
//! | `task-N.jsonl` | the version of hamflow, then one job per line |
//! | `events-N.jsonl` | a line for each event of a job, as it happens |
//!
//! A line without its end is still being written. A job that ended has an event that says so, so the lines are the records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hamflow_stage_api::{AnyKind, EventSink, Job, JobEvent, Symlinks, open_regular};
use serde::{Deserialize, Serialize};

use crate::exec::worker;
use crate::fs;
use crate::sys;

/// The first line of a file of tasks.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: String,
}

/// A line of the events.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The job.
    pub job: u64,
    /// What happened.
    pub event: JobEvent,
}

fn task_file(folder: &Path, task: usize) -> PathBuf {
    folder.join(format!("task-{task}.jsonl"))
}

/// The file with the events of a task.
pub fn events_file(folder: &Path, task: usize) -> PathBuf {
    folder.join(format!("events-{task}.jsonl"))
}

/// Writes the jobs of a task. They hold the variables of the environment, so only the user can read the file.
pub fn write<'a>(folder: &Path, task: usize, jobs: impl Iterator<Item = &'a Job>) -> io::Result<()> {
    let path = task_file(folder, task);
    let mut file = io::BufWriter::new(sys::create_private(&path)?);
    serde_json::to_writer(&mut file, &Head { version: env!("CARGO_PKG_VERSION").to_owned() })?;
    file.write_all(b"\n")?;
    for job in jobs {
        serde_json::to_writer(&mut file, job)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    sync(&path)
}

/// Does the jobs of a task. Jobs that an earlier attempt has finished are not done again.
pub fn perform(kinds: &[&dyn AnyKind], folder: &Path, task: usize) -> io::Result<()> {
    let invalid = |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut lines = BufReader::new(open_regular(&task_file(folder, task), Symlinks::Refuse)?).lines();
    let head: Head = serde_json::from_str(&lines.next().unwrap_or_else(|| Ok(String::new()))?).map_err(invalid)?;
    let own = env!("CARGO_PKG_VERSION");
    if head.version != own {
        let message = format!("this node has hamflow {own}, but the run is one of hamflow {}", head.version);
        return Err(io::Error::other(message));
    }
    let finished: Vec<u64> = read_events(&events_file(folder, task), &mut 0)
        .into_iter()
        .filter(|line| matches!(line.event, JobEvent::Finished(_)))
        .map(|line| line.job)
        .collect();
    let file = sys::append_private(&events_file(folder, task))?;
    let events = Events { file: Mutex::new(file), job: Mutex::new(0) };
    // An earlier attempt may have been killed within a line.
    events.write(b"\n");
    for line in lines {
        let job: Job = serde_json::from_str(&line?).map_err(invalid)?;
        if finished.contains(&job.id) {
            continue;
        }
        if let Ok(mut current) = events.job.lock() {
            *current = job.id;
        }
        let result = worker::perform_job(kinds, &job, &events);
        events.emit(JobEvent::Finished(result));
        // So that other machines see it.
        sync(&events_file(folder, task))?;
    }
    Ok(())
}

fn sync(path: &Path) -> io::Result<()> {
    fs::sync_files(std::iter::once(path)).map_err(|error| error.source)
}

struct Events {
    file: Mutex<File>,
    job: Mutex<u64>,
}

impl Events {
    fn write(&self, bytes: &[u8]) {
        // If the disk is full, the job has no record and counts as lost.
        if let Ok(mut file) = self.file.lock() {
            let _ = file.write_all(bytes);
        }
    }
}

impl EventSink for Events {
    fn emit(&self, event: JobEvent) {
        let job = self.job.lock().map_or(0, |job| *job);
        let mut line = serde_json::to_string(&TaskEvent { job, event }).expect("an event has only string keys");
        line.push('\n');
        self.write(line.as_bytes());
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
