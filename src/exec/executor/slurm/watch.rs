//! Watches the tasks of Slurm by their records, and asks Slurm about those without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hamflow_stage_api::{JobEvent, Symlinks, read_regular};

use super::command::{Slurmctl, State, Submission, remember};
use crate::config::ExecutorOptions;
use crate::exec::Message;
use crate::exec::executor::tasks;

/// How often the records are read.
const PAUSE: Duration = Duration::from_millis(300);

/// The shortest time between two questions to Slurm.
const MIN_POLL: Duration = Duration::from_secs(5);

/// How often a task is submitted at most.
const MAX_ATTEMPTS: u32 = 4;

/// A task that was submitted.
#[derive(Debug)]
pub struct Task {
    submission: Arc<Submission>,
    number: usize,
    /// The number of the array.
    array: String,
    /// Its jobs without a record.
    open: BTreeSet<u64>,
    offset: u64,
    attempts: u32,
    /// Since when Slurm has it no more.
    gone: Option<Instant>,
    /// The last state that Slurm told.
    state: Option<State>,
}

impl Task {
    /// A task that was just submitted.
    pub fn new(submission: Arc<Submission>, number: usize, array: &str, jobs: impl Iterator<Item = u64>) -> Self {
        let open = jobs.collect();
        Self { submission, number, array: array.to_owned(), open, offset: 0, attempts: 1, gone: None, state: None }
    }

    /// The name that Slurm has for it.
    fn id(&self) -> String {
        format!("{}_{}", self.array, self.number)
    }
}

/// What is known of the tasks of a run.
#[derive(Debug, Default)]
pub struct Watched {
    tasks: Vec<Task>,
    /// The jobs that the run waits for.
    pub live: BTreeSet<u64>,
    /// Why jobs were lost.
    pub lost: BTreeMap<u64, String>,
    /// Whether the run has ended.
    pub is_stopped: bool,
}

impl Watched {
    /// Watches a task.
    pub fn add(&mut self, task: Task) {
        self.tasks.push(task);
    }

    /// The arrays with tasks that have not ended.
    pub fn unfinished(&self) -> Vec<String> {
        let arrays: BTreeSet<&String> = self.tasks.iter().map(|task| &task.array).collect();
        arrays.into_iter().cloned().collect()
    }
}

/// The states of tasks by their names.
type States = BTreeMap<String, State>;

/// Why a task has ended without records.
enum Cause {
    /// It would end so again.
    Final(String),
    /// Another attempt may succeed.
    Passing(String),
}

/// What a state of Slurm means for a task without a record; `None` if it is still there. Unknown states are.
fn cause(state: Option<&State>, was: Option<&State>) -> Option<Cause> {
    let Some(State { name, .. }) = state else {
        let last = was.map_or("unknown", |state| &state.name[..]);
        return Some(Cause::Passing(format!("Slurm no longer has it (its last state was {last})")));
    };
    Some(match &name[..] {
        "OUT_OF_MEMORY" => {
            Cause::Final("Slurm ended it, because it needed more memory than `resources` asks for".to_owned())
        }
        "TIMEOUT" | "DEADLINE" => Cause::Passing(format!("its time was over ({name})")),
        "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" | "CANCELLED" | "REVOKED" => {
            Cause::Passing(format!("it was ended ({name})"))
        }
        "FAILED" => Cause::Passing("it failed without a record".to_owned()),
        "COMPLETED" => Cause::Passing("it ended without a record".to_owned()),
        _ => return None,
    })
}

/// Watches until the run has ended.
pub fn watch(watched: &Mutex<Watched>, options: &ExecutorOptions, first: usize, heard: &Sender<Message>) {
    let mut asked = Instant::now();
    // Slurm may take a minute to answer, and records are read meanwhile.
    let mut asking: Option<JoinHandle<Option<States>>> = None;
    loop {
        std::thread::sleep(PAUSE);
        let mut known = watched.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_stopped {
            return;
        }
        let said: Vec<(u64, JobEvent)> = known.tasks.iter_mut().flat_map(read).collect();
        known.tasks.retain(|task| !task.open.is_empty());
        let arrays = known.unfinished();
        drop(known);
        for (job, event) in said {
            let worker = first + usize::try_from(job).unwrap_or_default();
            if heard.send(Message::Worker { worker, event }).is_err() {
                return;
            }
        }
        if asking.is_none() && !arrays.is_empty() && asked.elapsed() >= options.poll.max(MIN_POLL) {
            asked = Instant::now();
            let options = options.clone();
            asking = Some(std::thread::spawn(move || Slurmctl::new(&options).states(&arrays)));
        }
        let Some(answered) = asking.take_if(|asking| asking.is_finished()) else { continue };
        // If Slurm does not answer, nothing is known, and nothing is lost.
        let Ok(Some(states)) = answered.join() else { continue };
        let mut known = watched.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_stopped {
            return;
        }
        judge(&mut known, &states, options, first, heard);
    }
}

/// What a task has recorded since the last time.
fn read(task: &mut Task) -> Vec<(u64, JobEvent)> {
    let path = tasks::events_file(&task.submission.folder, task.number);
    let mut events = Vec::new();
    for line in tasks::read_events(&path, &mut task.offset) {
        if !task.open.contains(&line.job) {
            continue;
        }
        if matches!(line.event, JobEvent::Finished(_)) {
            task.open.remove(&line.job);
        }
        events.push((line.job, line.event));
    }
    events
}

/// Decides on tasks that Slurm has no more.
fn judge(known: &mut Watched, states: &States, options: &ExecutorOptions, first: usize, heard: &Sender<Message>) {
    let mut lost = Vec::new();
    for task in &mut known.tasks {
        let state = states.get(&task.id());
        let Some(cause) = cause(state, task.state.as_ref()) else {
            task.gone = None;
            if task.state.as_ref() != state {
                task.state = state.cloned();
                tell(task, first, heard);
            }
            continue;
        };
        if task.gone.get_or_insert_with(Instant::now).elapsed() < options.record_wait {
            continue;
        }
        let (why, may_again) = match cause {
            Cause::Passing(why) => (why, task.attempts < MAX_ATTEMPTS),
            Cause::Final(why) => (why, false),
        };
        let again = may_again.then(|| Slurmctl::new(options).submit(&task.submission, &[task.number]).ok()).flatten();
        match again {
            Some(array) => {
                remember(&task.submission.folder, &array);
                let message = format!("task {} was lost: {why}; it is submitted again as {array}", task.id());
                task.open
                    .iter()
                    .take(1)
                    .for_each(|job| say(*job, JobEvent::Warning { message: message.clone() }, first, heard));
                (task.array, task.attempts, task.gone, task.state) = (array, task.attempts + 1, None, None);
            }
            None => lost.extend(std::mem::take(&mut task.open).into_iter().map(|job| (job, why.clone(), output(task)))),
        }
    }
    known.tasks.retain(|task| !task.open.is_empty());
    for (job, why, stderr) in lost {
        known.lost.insert(job, why);
        let worker = first + usize::try_from(job).unwrap_or_default();
        let _ = heard.send(Message::WorkerLost { worker, stderr });
    }
}

/// Says where a task is.
fn tell(task: &Task, first: usize, heard: &Sender<Message>) {
    let Some(State { name, reason }) = &task.state else { return };
    let why = if reason.is_empty() || reason == "None" { String::new() } else { format!(" ({reason})") };
    let line = format!("task {}: {name}{why}", task.id());
    for job in &task.open {
        say(*job, JobEvent::Log { line: line.clone() }, first, heard);
    }
    // What a stage that is not split shows until it reports its own progress.
    if let (Some(job), 1) = (task.open.first(), task.open.len()) {
        let round = Some(line);
        let (unit, message) = (String::new(), String::new());
        say(*job, JobEvent::Progress { done: 0, total: 0, unit, round, message }, first, heard);
    }
}

fn say(job: u64, event: JobEvent, first: usize, heard: &Sender<Message>) {
    let worker = first + usize::try_from(job).unwrap_or_default();
    // The run has ended if nobody listens.
    let _ = heard.send(Message::Worker { worker, event });
}

/// What a task printed, such as that its program does not exist on the node.
fn output(task: &Task) -> String {
    let path = task.submission.folder.join(format!("output-{}.txt", task.number));
    let text = read_regular(&path, Symlinks::Refuse);
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> State {
        State { name: name.to_owned(), reason: String::new() }
    }

    #[test]
    fn an_unknown_state_means_that_a_task_is_still_there() {
        for name in ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUE_HOLD", "NEW_STATE"] {
            assert!(cause(Some(&state(name)), None).is_none(), "{name}");
        }
        assert!(matches!(cause(None, Some(&state("RUNNING"))), Some(Cause::Passing(why)) if why.contains("RUNNING")));
        assert!(matches!(cause(Some(&state("OUT_OF_MEMORY")), None), Some(Cause::Final(_))));
        assert!(matches!(cause(Some(&state("NODE_FAIL")), None), Some(Cause::Passing(_))));
    }
}
