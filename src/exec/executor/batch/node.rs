//! A node that has no file system in common with the run: it gets its task and the inputs from the remote, and sends back outputs and events.
//!
//! The script of the batch system says where the remote is and has the key of the task. Files of the other machine are below a folder of this
//! one that lives as long as the attempt:
//!
//! | folder | files |
//! | --- | --- |
//! | `job-ID/` | the working directory of a job, its side outputs and its checkpoint |
//! | `project/` | inputs in the project and in its cache |
//! | `elsewhere/` | other inputs |

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hamflow_stage_api::{AnyKind, Job, StageError, Symlinks, read_regular};

use super::remote::{
    Entries, FirstError, RemoteJob, cannot, checkpoint_message, events_message, hashed, is_below, last_checkpoints,
    open, task_message,
};
use super::tasks::{self, Carrier, Sent, TaskEvent, Trouble};
use crate::digest::Digest;
use crate::fs::{self, Durability};
use crate::store::remote::{Mailbox, Place, RemoteError, for_each_parallel};
use crate::sys;

/// The variables of the script: the URL of the remote, and the key.
pub const URL: &str = "HAMFLOW_TASKS_URL";
/// See [`URL`].
pub const KEY: &str = "HAMFLOW_TASKS_KEY";

/// How often the events are sent.
const PAUSE: Duration = Duration::from_secs(3);

/// Does the jobs of a task that is in a remote.
pub fn perform(kinds: &[&dyn AnyKind], name: &str, task: usize) -> Result<(), StageError> {
    let variable = |name: &str| std::env::var(name).map_err(|_| StageError::bug(format!("`{name}` is not set")));
    let place = Place { url: variable(URL)?, key: variable(KEY)?, name: name.to_owned() };
    let mailbox = open(&place)?.patient();
    let get = |name: String| mailbox.read(&name).map_err(|error| cannot("get the task from the remote", &error));
    let text = get(task_message(task))?.ok_or_else(|| StageError::failed("the remote does not have the task"))?;
    let temporary = tempfile::Builder::new().prefix("hamflow-").tempdir();
    let temporary = temporary.map_err(|source| StageError::io("create", &std::env::temp_dir(), &source))?;
    let folder = temporary.path().to_owned();
    let failed = |source: io::Error| StageError::io("write", &folder, &source);
    let needs = write_task(&folder, task, &text).map_err(failed)?;
    if let Some(events) = get(events_message(task))? {
        bring_checkpoints(&mailbox, task, &events, &needs)?;
        let written =
            sys::create_private(&tasks::events_file(&folder, task)).and_then(|mut file| file.write_all(&events));
        written.map_err(failed)?;
    }
    let carrier = Arc::new(Remote {
        mailbox,
        task,
        needs,
        folder: folder.clone(),
        posted: Mutex::new(0),
        has_ended: AtomicBool::new(false),
    });
    let beside = Arc::clone(&carrier);
    let publisher = std::thread::spawn(move || {
        while !beside.has_ended.load(Ordering::Relaxed) {
            std::thread::park_timeout(PAUSE);
            // The last attempt to send them decides.
            let _ = beside.post();
        }
    });
    let done = tasks::perform_with(kinds, &folder, task, Arc::clone(&carrier) as Arc<dyn Carrier>);
    carrier.has_ended.store(true, Ordering::Relaxed);
    publisher.thread().unpark();
    let _ = publisher.join();
    let posted = carrier.post();
    done.map_err(failed)?;
    posted
}

/// What a job needs from the other machine.
struct Needs {
    files: Vec<(PathBuf, Digest)>,
    folders: Vec<PathBuf>,
    checkpoint: Option<PathBuf>,
}

/// Brings the last checkpoints of a former attempt.
fn bring_checkpoints(
    mailbox: &Mailbox,
    task: usize,
    events: &[u8],
    needs: &BTreeMap<u64, Needs>,
) -> Result<(), StageError> {
    for (job, files) in last_checkpoints(events) {
        let Some(folder) = needs.get(&job).and_then(|needs| needs.checkpoint.as_ref()) else { continue };
        for (path, _) in files {
            let text = mailbox.read(&checkpoint_message(task, job, &path));
            let text = text.map_err(|error| cannot("get a checkpoint from the remote", &error))?;
            let to = folder.join(&path);
            if let Some(text) = text.filter(|_| is_below(&path)) {
                fs::write(&to, &text, Durability::Synced).map_err(|error| fs::disk_error(&error))?;
            }
        }
    }
    Ok(())
}

/// Writes the jobs of a message as those of a task on this machine. Returns what they need.
fn write_task(folder: &Path, task: usize, text: &[u8]) -> io::Result<BTreeMap<u64, Needs>> {
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head = lines.next().unwrap_or_default();
    let mut needs = BTreeMap::new();
    let mut jobs = Vec::new();
    for line in lines {
        match serde_json::from_slice::<RemoteJob>(line) {
            Ok(remote) => {
                let (job, of_job) = settled(folder, remote)?;
                needs.insert(job.id, of_job);
                serde_json::to_writer(&mut jobs, &job)?;
            }
            // Of another version: only the number counts, since the job will be refused.
            Err(_) => {
                let remote: serde_json::Value = serde_json::from_slice(line)?;
                serde_json::to_writer(&mut jobs, &remote["job"])?;
            }
        }
        jobs.push(b'\n');
    }
    let mut file = sys::create_private(&tasks::task_file(folder, task))?;
    file.write_all(&[head, b"\n", &jobs].concat())?;
    Ok(needs)
}

/// A job with the paths of this machine, in folders that exist.
fn settled(folder: &Path, remote: RemoteJob) -> io::Result<(Job, Needs)> {
    let RemoteJob { mut job, files } = remote;
    let places = Places::of(folder, &job);
    let files = files.into_iter().map(|(path, digest)| (places.here(&path), digest)).collect();
    let mut folders = Vec::new();
    for input in job.inputs.0.values_mut().flatten() {
        input.files.iter_mut().for_each(|file| file.source = places.here(&file.source));
        input.path = input.path.take().map(|path| places.here(&path));
        folders.extend(input.path.iter().filter(|_| input.folder).cloned());
    }
    job.own_paths.iter_mut().chain(&mut job.params_file).for_each(|path| *path = places.here(path));
    job.checkpoint_dir = job.checkpoint_dir.take().map(|path| places.here(&path));
    job.side_dir = places.here(&job.side_dir);
    job.output_dir = places.here(&job.output_dir);
    job.scratch_dir = places.here(&job.scratch_dir);
    job.project_dir = places.here(&job.project_dir);
    let all = [&job.side_dir, &job.output_dir, &job.scratch_dir, &job.project_dir];
    all.into_iter().chain(&job.checkpoint_dir).try_for_each(std::fs::create_dir_all)?;
    let checkpoint = job.checkpoint_dir.clone();
    Ok((job, Needs { files, folders, checkpoint }))
}

/// Folders of the other machine and where they are here; the first one that holds a path decides.
struct Places {
    moved: Vec<(PathBuf, PathBuf)>,
    elsewhere: PathBuf,
}

impl Places {
    fn of(folder: &Path, job: &Job) -> Self {
        let work = folder.join(format!("job-{}", job.id));
        let mut moved: Vec<(PathBuf, PathBuf)> =
            // Checkpoints are sealed with the name of their folder.
            job.checkpoint_dir.iter().map(|path| (path.clone(), work.join("checkpoint").join(name_of(path)))).collect();
        moved.push((job.side_dir.clone(), work.join("side")));
        moved.extend(job.output_dir.parent().map(|path| (path.to_owned(), work)));
        moved.push((job.project_dir.clone(), folder.join("project")));
        Self { moved, elsewhere: folder.join("elsewhere") }
    }

    fn here(&self, path: &Path) -> PathBuf {
        let moved = self.moved.iter().find_map(|(from, to)| Some(to.join(path.strip_prefix(from).ok()?)));
        moved.unwrap_or_else(|| {
            let names = path.components().filter(|component| matches!(component, Component::Normal(_)));
            self.elsewhere.join(names.collect::<PathBuf>())
        })
    }
}

fn name_of(folder: &Path) -> &std::ffi::OsStr {
    folder.file_name().unwrap_or_default()
}

/// Carries files between this machine and the remote.
struct Remote {
    mailbox: Mailbox,
    task: usize,
    needs: BTreeMap<u64, Needs>,
    folder: PathBuf,
    /// How many bytes of the events were sent.
    posted: Mutex<usize>,
    has_ended: AtomicBool,
}

impl Remote {
    /// Sends the events if there are new ones.
    fn post(&self) -> Result<(), StageError> {
        let mut posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        let events = read_regular(&tasks::events_file(&self.folder, self.task), Symlinks::Refuse).unwrap_or_default();
        if events.len() != *posted {
            let sent = self.mailbox.post(&events_message(self.task), &events);
            sent.map_err(|error| cannot("send events to the remote", &error))?;
            *posted = events.len();
        }
        Ok(())
    }

    fn get(&self, path: &Path, digest: Digest) -> Result<(), Trouble> {
        if path.exists() {
            return Ok(());
        }
        let what = format!("get an input from {}", self.mailbox.location());
        match self.mailbox.get_blob(digest, path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Trouble::OfJob(StageError::failed(format!("cannot {what}: `{digest}` is not there")))),
            Err(error) => Err(trouble(&what, &error)),
        }
    }
}

impl Carrier for Remote {
    fn bring(&self, job: &Job) -> Result<(), Trouble> {
        let Some(Needs { files, folders, .. }) = self.needs.get(&job.id) else { return Ok(()) };
        let problem = FirstError::default();
        for_each_parallel(files, |(path, digest)| {
            if let Err(error) = self.get(path, *digest) {
                problem.note(error);
            }
        });
        for folder in folders {
            fs::create_dir(folder).map_err(|error| Trouble::OfNode(fs::disk_error(&error)))?;
        }
        problem.result()
    }

    fn send(&self, job: &Job, what: Sent) -> Result<Option<TaskEvent>, Trouble> {
        let folder = match what {
            Sent::Outputs => Some(&job.output_dir),
            Sent::Side => Some(&job.side_dir),
            Sent::Checkpoint => job.checkpoint_dir.as_ref(),
        };
        let Some(folder) = folder else { return Ok(None) };
        let below = |path: &Path| {
            let below = path.strip_prefix(folder).unwrap_or(path).components();
            let names: Vec<_> = below.map(|component| component.as_os_str().to_string_lossy()).collect();
            names.join("/")
        };
        let found = Entries::of(folder);
        let mut files = Vec::new();
        for path in &found.files {
            let digest = hashed(path).map_err(Trouble::OfJob)?;
            let sent = match what {
                Sent::Outputs | Sent::Side => self.mailbox.put_blob(path, digest).map(drop),
                // The next one replaces it.
                Sent::Checkpoint => {
                    let text = read_regular(path, Symlinks::Refuse).map_err(RemoteError::Local);
                    let name = checkpoint_message(self.task, job.id, &below(path));
                    text.and_then(|text| self.mailbox.post(&name, &text))
                }
            };
            sent.map_err(|error| trouble(&format!("send results to {}", self.mailbox.location()), &error))?;
            files.push((below(path), digest));
        }
        let folders = found.folders.iter().map(|path| below(path)).collect();
        Ok(Some(TaskEvent::Sent { job: job.id, what, files, folders }))
    }

    fn leave(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        // If it fails, the attempt counts as lost, and another one continues as well.
        let _ = self.post();
        let _ = fs::remove(&self.folder);
    }
}

/// What an error of the remote means for a job.
fn trouble(what: &str, error: &RemoteError) -> Trouble {
    match error {
        RemoteError::Unreachable(_) | RemoteError::Failed(_) => Trouble::OfNode(cannot(what, error)),
        RemoteError::Refused(_) | RemoteError::Corrupt(_) | RemoteError::Local(_) => {
            Trouble::OfJob(cannot(what, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_other_machine_are_below_the_folder_of_the_task() {
        let mut job = tasks::example_job(7, Path::new("/home/a/project/cache/executors/c/r/job-7"));
        job.output_dir = job.scratch_dir.join("output");
        job.project_dir = PathBuf::from("/home/a/project");
        job.side_dir = PathBuf::from("/home/a/project/cache/runs/r/x");
        job.checkpoint_dir = Some(PathBuf::from("/home/a/project/cache/checkpoints/k"));
        let places = Places::of(Path::new("/tmp/n"), &job);
        let here = |path: &str| places.here(Path::new(path)).display().to_string();
        assert_eq!(here("/home/a/project/cache/executors/c/r/job-7/output/x"), "/tmp/n/job-7/output/x");
        assert_eq!(here("/home/a/project/cache/runs/r/x/history.csv"), "/tmp/n/job-7/side/history.csv");
        assert_eq!(here("/home/a/project/cache/checkpoints/k/state"), "/tmp/n/job-7/checkpoint/k/state");
        assert_eq!(here("/home/a/project/fit.py"), "/tmp/n/project/fit.py");
        assert_eq!(here("/data/images/1.jpg"), "/tmp/n/elsewhere/data/images/1.jpg");
    }
}
