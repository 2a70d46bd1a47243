//! Submits tasks and watches them by their records, in a thread of its own; asks the batch system about those without one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hamflow_stage_api::{Job, JobEvent, JobResult, StageError};

use super::End;
use super::chunks::per_task;
use super::found::{BatchInfo, FoundTask, remember};
use super::probe::{Probe, Probed, subject_of};
use super::remote::{Amount, Awaited, FirstError};
use super::setup::{Known, Order, Setup, Stopped, Unsent, program};
use super::system::{Meaning, State, Submission};
use super::task::{Task, count, output, reason, size};
use super::tasks::{self, TaskEvent};
use crate::exec::queue::{ENDED, QueuedTask};
use crate::exec::{Message, now_ms};
use crate::fs as files;
use crate::store::remote::for_each_parallel;

/// How often the records are read.
const PAUSE: Duration = Duration::from_millis(300);

/// The shortest time between two questions to the batch system.
const MIN_POLL: Duration = Duration::from_secs(5);

/// The longest if nothing changes and records are only seen then.
const MAX_REMOTE_POLL: Duration = Duration::from_secs(15);

/// The longest, if nothing changes.
const MAX_POLL: Duration = Duration::from_secs(60);

/// How long a run that does not want to wait waits for the probe.
const MAX_PROBE_WAIT: Duration = Duration::from_mins(1);

/// How often in a row the batch system may not answer before somebody is warned.
const MAX_SILENCES: u32 = 3;

/// With more stages in a task, its tasks are not shown after each job.
const MAX_SHOWN: usize = 16;

/// How often a task is submitted at most without progress.
const MAX_ATTEMPTS: u32 = 4;

/// What was found out about tasks.
struct Answer {
    /// `None` if the batch system does not answer.
    known: Option<Known>,
    /// What is wrong with the remote.
    problem: Option<String>,
}

/// The questions to the batch system.
struct Asking {
    asked: Instant,
    /// The time until the next question; it grows while nothing changes.
    poll: Duration,
    thread: Option<JoinHandle<Answer>>,
    /// The last answer.
    answer: Option<Known>,
    /// How often in a row it has not answered.
    silences: u32,
}

/// Keeps the tasks of an executor.
pub struct Keeper {
    setup: Setup,
    /// Those found come first, in the order in which they were found.
    tasks: Vec<Task>,
    found: usize,
    /// Jobs that wait for the probe.
    unsent: Vec<Unsent>,
    probe: Option<Probe>,
    /// How many there were.
    probes: usize,
    limit: Option<usize>,
    batches: usize,
    asking: Asking,
    /// What somebody was warned of.
    warned: BTreeSet<&'static str>,
    /// When the oldest of the unsent jobs came.
    unsent_since: Instant,
    /// The stages whose tasks have changed.
    changed: BTreeSet<String>,
}

impl Keeper {
    /// Has only the tasks of earlier runs.
    pub fn new(setup: Setup, found: &[FoundTask]) -> Self {
        let tasks: Vec<Task> = found
            .iter()
            .map(|found| Task {
                unclaimed: found.open.clone(),
                ..Task::new(&found.batch, found.number, found.id.clone(), found.jobs)
            })
            .collect();
        let poll = setup.options.poll.max(MIN_POLL);
        Self {
            setup,
            found: tasks.len(),
            tasks,
            unsent: Vec::new(),
            probe: None,
            probes: 0,
            limit: None,
            batches: 0,
            asking: Asking { asked: Instant::now(), poll, thread: None, answer: None, silences: 0 },
            warned: BTreeSet::new(),
            unsent_since: Instant::now(),
            changed: BTreeSet::new(),
        }
    }

    /// Works until it is told to stop.
    pub fn keep(mut self, orders: &Receiver<Order>) -> Stopped {
        loop {
            let mut settled = Vec::new();
            let mut order = match orders.recv_timeout(PAUSE) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.stop(End::Cancel),
            };
            while let Some(next) = order {
                match next {
                    Order::Submit(unsent) => {
                        if self.unsent.is_empty() {
                            self.unsent_since = Instant::now();
                        }
                        self.unsent.push(unsent);
                    }
                    Order::Adopt { task, theirs, ours } => self.adopt(task, theirs, ours),
                    Order::Settle(answer) => settled.push(answer),
                    Order::Stop(end) => return self.stop(end),
                }
                order = orders.try_recv().ok();
            }
            self.submit_unsent();
            self.read();
            self.ask();
            self.show();
            for answer in settled {
                match self.unsent.is_empty() {
                    true => {
                        // If the remote does not answer, nothing more is known to have ended.
                        self.setup.transport.receive(&self.awaited());
                        self.read();
                        // Nobody waits if the run has ended.
                        let _ = answer.send(());
                    }
                    // The probe must answer first.
                    false => self.settle_later(&answer),
                }
            }
        }
    }

    /// Waits for the probe, but not for long, since all nodes may be busy for hours; then submits and answers.
    fn settle_later(&mut self, answer: &Sender<()>) {
        while !self.unsent.is_empty() && self.unsent_since.elapsed() < MAX_PROBE_WAIT {
            std::thread::sleep(PAUSE);
            self.submit_unsent();
            self.ask();
        }
        for unsent in std::mem::take(&mut self.unsent) {
            self.submit_or_refuse(&unsent);
        }
        let _ = answer.send(());
    }

    fn say(&self, job: u64, event: JobEvent) {
        let worker = self.setup.first + usize::try_from(job).unwrap_or_default();
        // The run has ended if nobody listens.
        let _ = self.setup.heard.send(Message::Worker { worker, event });
    }

    /// Says something of a task in the logs of its stages.
    fn tell(&self, task: &Task, line: String) {
        // A job of a task may be of any of its stages.
        let told = if task.stages.len() > 1 { task.open.len() } else { 1 };
        for job in task.open.values().take(told) {
            self.say(*job, JobEvent::Log { line: line.clone() });
        }
    }

    fn adopt(&mut self, place: usize, theirs: u64, ours: u64) {
        let Some(task) = self.tasks.get_mut(place) else { return };
        task.open.insert(theirs, ours);
        task.unclaimed.remove(&theirs);
        self.changed.extend(task.stages.iter().cloned());
        // What the job said while nobody listened.
        let mut offset = 0;
        let path = tasks::events_file(&task.batch.submission.folder, task.number);
        let events = match task.offset {
            0 => Vec::new(),
            _ => tasks::read_events(&path, &mut offset),
        };
        let id = task.shown.id.clone();
        self.say(ours, JobEvent::Log { line: format!("goes on as task {id}, which an earlier run submitted") });
        for event in events {
            if let TaskEvent::Job { job, event } = event
                && job == theirs
            {
                self.heard_of(place, theirs, event);
            }
        }
    }

    /// Passes on what a job of a task said.
    fn heard_of(&mut self, place: usize, theirs: u64, event: JobEvent) {
        let task = &mut self.tasks[place];
        let Some(ours) = task.open.get(&theirs).copied() else { return };
        match &event {
            JobEvent::Finished(result) => {
                task.shown.wall_ms += result.wall_ms;
                task.shown.peak_memory = task.shown.peak_memory.max(result.peak_memory);
                task.open.remove(&theirs);
                self.changed.extend(task.stages.iter().cloned());
                let mut obsolete = None;
                if task.open.is_empty() {
                    task.shown.state = ENDED.to_owned();
                    task.shown.reason.clear();
                    // The record may be that of an attempt that was given up.
                    obsolete = (task.shown.attempts > 1).then(|| task.shown.id.clone());
                }
                if task.open.is_empty() || task.stages.len() <= MAX_SHOWN {
                    // The run takes the record of a stage's tasks when its last job ends.
                    self.show();
                }
                let _ = obsolete.map(|id| self.setup.system.cancel(&[id]));
            }
            // A task that makes progress may be interrupted as often as it likes.
            JobEvent::Saved => task.shown.attempts = 1,
            _ => {}
        }
        let event = match event {
            JobEvent::Finished(result) => JobEvent::Finished(JobResult { id: ours, ..result }),
            event => event,
        };
        self.say(ours, event);
    }

    /// Submits what waits, once a probe has shown that its nodes have what they need.
    fn submit_unsent(&mut self) {
        let Some(first) = self.unsent.first() else { return };
        let probe = match self.probe.take() {
            Some(probe) => probe,
            None => {
                self.probes += 1;
                Probe::new(&self.setup, &first.placement, self.probes)
            }
        };
        let subject = probe.subject().to_owned();
        let verdict = match probe.check(&self.setup) {
            Probed::Waiting(probe) => return self.probe = Some(probe),
            Probed::Good => Ok(()),
            Probed::Bad(error) => Err(error),
        };
        // The nodes of other partitions may be different ones.
        let all = std::mem::take(&mut self.unsent);
        let (probed, others) =
            all.into_iter().partition(|unsent| subject_of(&self.setup, &unsent.placement) == subject);
        self.unsent = others;
        let probed: Vec<Unsent> = probed;
        for unsent in probed {
            match &verdict {
                Ok(()) => self.submit_or_refuse(&unsent),
                Err(error) => self.refuse(&unsent, error),
            }
        }
    }

    fn submit_or_refuse(&mut self, unsent: &Unsent) {
        if let Err(error) = self.submit(unsent) {
            self.refuse(unsent, &error);
        }
    }

    /// Says that jobs cannot be submitted.
    fn refuse(&self, unsent: &Unsent, error: &StageError) {
        for job in &unsent.jobs {
            let result = JobResult { id: job.id, error: Some(error.clone()), peak_memory: 0, wall_ms: 0 };
            self.say(job.id, JobEvent::Finished(result));
        }
    }

    /// Submits jobs as the tasks of one batch.
    fn submit(&mut self, unsent: &Unsent) -> Result<(), StageError> {
        let Unsent { placement, jobs } = unsent;
        let Some(first) = jobs.first() else { return Ok(()) };
        let limit = match self.limit {
            Some(limit) => limit,
            None => *self.limit.insert(self.setup.system.array_limit()?),
        };
        let per_task = per_task(jobs.len(), limit.min(self.setup.options.max_jobs), placement, &self.setup.options);
        let folder = self.setup.folder.join(&self.setup.run).join(format!("batch-{}", self.batches));
        let failed = |source: &std::io::Error| StageError::io("write", &folder, source);
        files::create_dir(&folder).map_err(|error| failed(&std::io::Error::other(error)))?;
        let chunks: Vec<&[Job]> = jobs.chunks(per_task).collect();
        let problem = FirstError::default();
        let numbered: Vec<(usize, &&[Job])> = chunks.iter().enumerate().collect();
        for_each_parallel(&numbered, |(number, chunk)| {
            if let Err(source) = tasks::write(&folder, *number, chunk.iter()) {
                problem.note(source);
            }
        });
        problem.result().map_err(|source| failed(&source))?;
        let written: Vec<PathBuf> = (0..chunks.len()).map(|number| tasks::task_file(&folder, number)).collect();
        files::sync_files(written.iter().map(PathBuf::as_path)).map_err(|error| failed(&error.source))?;
        let submission = Submission {
            name: format!("hamflow-{}-{}-{}", self.setup.run, placement.base, self.batches),
            threads: first.threads,
            placement: placement.clone(),
            folder: folder.clone(),
            program: program()?,
            is_probe: false,
            avoided: Vec::new(),
            remote: self.setup.remote.as_ref().map(|place| place.below(&format!("batch-{}", self.batches))),
        };
        self.batches += 1;
        let of_chunk = |chunk: &&[Job]| chunk.iter().map(|job| job.stage.clone()).collect();
        let stages = chunks.iter().map(of_chunk).collect();
        let batch = Arc::new(BatchInfo { stages, submission, submitted_ms: now_ms() });
        batch.write().map_err(|source| failed(&source))?;
        let sent =
            batch.submission.remote.as_ref().map(|place| self.setup.transport.send(place, &chunks)).transpose()?;
        let all: Vec<usize> = (0..chunks.len()).collect();
        let ids = self.setup.system.submit(&batch.submission, &all)?;
        let numbered: Vec<(usize, String)> = all.into_iter().zip(ids).collect();
        remember(&folder, &numbered);
        for ((number, id), chunk) in numbered.into_iter().zip(chunks) {
            let mut task = Task::new(&batch, number, id, chunk.len());
            task.open = chunk.iter().map(|job| (job.id, job.id)).collect();
            let name = &self.setup.name;
            self.tell(&task, format!("{} was submitted to `{name}` with {}", task.title(), count(chunk.len())));
            if let Some(Amount { files, bytes }) = sent.filter(|sent| sent.files > 0 && number == 0) {
                self.tell(&task, format!("sent {files} files ({}) to the remote", size(bytes)));
            }
            self.changed.extend(task.stages.iter().cloned());
            self.tasks.push(task);
        }
        // It may be seen at once if it is refused.
        (self.asking.asked, self.asking.poll) = (Instant::now(), self.setup.options.poll.max(MIN_POLL));
        Ok(())
    }

    /// Reads what tasks have recorded since the last time.
    fn read(&mut self) {
        for place in 0..self.tasks.len() {
            let task = &mut self.tasks[place];
            if task.open.is_empty() {
                continue;
            }
            let path = tasks::events_file(&task.batch.submission.folder, task.number);
            for event in tasks::read_events(&path, &mut task.offset) {
                match event {
                    TaskEvent::Began { host, began_ms, .. } => {
                        let task = &mut self.tasks[place];
                        task.shown.began_ms = Some(began_ms);
                        task.shown.host = Some(host);
                        task.shown.reason.clear();
                        (task.gone, task.has_left) = (None, false);
                        self.changed.extend(task.stages.iter().cloned());
                    }
                    TaskEvent::Left => self.tasks[place].has_left = true,
                    TaskEvent::Job { job, event } => self.heard_of(place, job, event),
                    TaskEvent::Sent { .. } => {}
                }
            }
        }
    }

    /// Asks the batch system in another thread, since it may take a minute to answer, and judges when it has answered.
    fn ask(&mut self) {
        let ids: Vec<String> = self.open().map(|task| task.shown.id.clone()).collect();
        let probe = self.probe.iter().filter_map(|probe| probe.id().map(str::to_owned));
        let ids: Vec<String> = ids.into_iter().chain(probe).collect();
        if self.asking.thread.is_none() && !ids.is_empty() && self.asking.asked.elapsed() >= self.asking.poll {
            self.asking.asked = Instant::now();
            let (system, transport) = (Arc::clone(&self.setup.system), Arc::clone(&self.setup.transport));
            let awaited = self.awaited();
            let ask = move || {
                // A task that has ended by now has sent its records.
                let states = system.states(&ids);
                let (unknown, problem) = transport.receive(&awaited);
                let ids = ids.into_iter().filter(|id| !unknown.contains(id)).collect();
                Answer { known: states.map(|states| Known { ids, states }), problem }
            };
            // If no thread can be started now, the next time.
            self.asking.thread = std::thread::Builder::new().spawn(ask).ok();
        }
        let Some(answered) = self.asking.thread.take_if(|asking| asking.is_finished()) else {
            // What was gone then, and has had its time to leave a record, is lost.
            let is_due = |task: &Task| task.gone.is_some_and(|gone| gone.elapsed() >= self.setup.options.record_wait);
            if self.open().any(is_due)
                && let Some(known) = self.asking.answer.take()
            {
                self.judge(&known);
            }
            return;
        };
        self.read();
        let Ok(Answer { known, problem }) = answered.join() else { return };
        if let Some(problem) = problem {
            self.warn("remote", format!("records in the remote cannot be read now ({problem}); they are waited for"));
        }
        self.asking.silences = if known.is_some() { 0 } else { self.asking.silences + 1 };
        if self.asking.silences == MAX_SILENCES {
            let name = &self.setup.name;
            self.warn("batch system", format!("the batch system of `{name}` does not answer; records are waited for"));
        }
        // Otherwise nothing is known, and nothing is lost.
        let Some(known) = known else { return self.asking.answer = None };
        let has_changed = self.judge(&known);
        let shortest = self.setup.options.poll.max(MIN_POLL);
        let longest = if self.setup.remote.is_some() { MAX_REMOTE_POLL } else { MAX_POLL };
        self.asking.poll = if has_changed { shortest } else { (self.asking.poll * 5 / 4).min(longest.max(shortest)) };
        if let Some(probe) = &mut self.probe {
            probe.asked(&known, self.setup.system.as_ref());
            self.asking.poll = shortest;
        }
        self.asking.answer = Some(known);
    }

    /// Where records of open tasks may be.
    fn awaited(&self) -> Vec<Awaited> {
        let of_task = |task: &Task| {
            let Submission { folder, remote, .. } = &task.batch.submission;
            let id = task.shown.id.clone();
            Some(Awaited { id, place: remote.clone()?, folder: folder.clone(), task: task.number })
        };
        let probe = self.probe.iter().filter_map(|probe| probe.awaited(&self.setup));
        self.open().filter_map(of_task).chain(probe).collect()
    }

    /// Warns once that something does not answer.
    fn warn(&mut self, what: &'static str, message: String) {
        let open = self.open().find_map(|task| task.open.values().next().copied());
        let job = open.or_else(|| self.unsent.first().and_then(|unsent| unsent.jobs.first()).map(|job| job.id));
        if let Some(job) = job.filter(|_| self.warned.insert(what)) {
            self.say(job, JobEvent::Warning { message });
        }
    }

    /// The tasks that the run waits for.
    fn open(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.open.is_empty())
    }

    /// Decides on tasks that the batch system has no more. Returns whether anything has changed.
    fn judge(&mut self, Known { ids, states }: &Known) -> bool {
        let mut has_changed = false;
        // The tasks of one submission, with the memory that they get from now on, and why they are submitted again.
        let mut again = BTreeMap::<(PathBuf, Option<u64>), Vec<_>>::new();
        for place in 0..self.tasks.len() {
            let task = &mut self.tasks[place];
            if task.open.is_empty() || !ids.contains(&task.shown.id) {
                continue;
            }
            let state = states.get(&task.shown.id);
            let meaning = state.map_or(Meaning::Ended, |state| self.setup.system.meaning(state));
            if meaning == Meaning::Present {
                task.gone = None;
                has_changed |= self.note_state(place, state);
                continue;
            }
            has_changed = true;
            let gone = task.gone.get_or_insert_with(Instant::now).elapsed();
            if gone < self.setup.options.record_wait && !task.has_left {
                continue;
            }
            let why = reason(meaning, state, &task.shown.state);
            match self.next_attempt(place, meaning) {
                Ok(memory) => {
                    let folder = self.tasks[place].batch.submission.folder.clone();
                    again.entry((folder, memory)).or_default().push((place, why));
                }
                Err(advice) => self.lose(place, &format!("{why}{advice}")),
            }
        }
        for ((_, memory), places) in again {
            self.submit_again(memory, &places);
        }
        has_changed
    }

    /// Takes note of a state that means that a task is there.
    fn note_state(&mut self, place: usize, state: Option<&State>) -> bool {
        let task = &mut self.tasks[place];
        let Some(State { name, reason }) = state else { return false };
        let reason = if task.shown.began_ms.is_some() { "" } else { &reason[..] };
        if task.shown.state == *name && task.shown.reason == reason {
            return false;
        }
        (task.shown.state, task.shown.reason) = (name.clone(), reason.to_owned());
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let line = format!("{}: {name}{why}", task.title());
        self.changed.extend(task.stages.iter().cloned());
        self.tell(&self.tasks[place], line);
        true
    }

    /// The memory of the next attempt, or why there is none.
    fn next_attempt(&mut self, place: usize, meaning: Meaning) -> Result<Option<u64>, String> {
        let factor = self.setup.options.memory_retry;
        let task = &mut self.tasks[place];
        if task.has_left {
            task.shown.attempts = 0;
        }
        if meaning == Meaning::NodeFailed {
            task.avoided.extend(task.shown.host.clone());
        }
        if meaning == Meaning::OutOfMemory {
            let Some(memory) = task.memory.filter(|_| factor > 1.0 && task.shown.attempts < MAX_ATTEMPTS) else {
                let asked = task.memory.map_or(String::new(), |memory| format!(" ({})", size(memory)));
                return Err(format!(
                    " than `resources` asks for{asked}; raise `resources.memory`, or let `memory_retry` of the executor do it"
                ));
            };
            return Ok(Some((memory as f64 * factor) as u64));
        }
        match task.shown.attempts < MAX_ATTEMPTS {
            true => Ok(task.memory),
            false => Err(format!(", {MAX_ATTEMPTS} times in a row")),
        }
    }

    /// Submits tasks of one batch again.
    fn submit_again(&mut self, memory: Option<u64>, places: &[(usize, String)]) {
        let batch = Arc::clone(&self.tasks[places[0].0].batch);
        let avoided: BTreeSet<String> =
            places.iter().flat_map(|(place, _)| self.tasks[*place].avoided.iter().cloned()).collect();
        let numbers: Vec<usize> = places.iter().map(|(place, _)| self.tasks[*place].number).collect();
        let mut submission = batch.submission.clone();
        submission.name = format!("{}-{}", submission.name, files::unique_name().trim_matches('.'));
        submission.placement.memory = memory;
        submission.avoided = avoided.into_iter().collect();
        // They may still be there, if the batch system was wrong. Usually they are not.
        let given_up: Vec<String> = places.iter().map(|(place, _)| self.tasks[*place].shown.id.clone()).collect();
        let _ = self.setup.system.cancel(&given_up);
        let submitted = self.setup.system.submit(&submission, &numbers).or_else(|error| match submission.avoided {
            ref avoided if avoided.is_empty() => Err(error),
            // There may be no other node.
            _ => self.setup.system.submit(&Submission { avoided: Vec::new(), ..submission.clone() }, &numbers),
        });
        let Ok(ids) = submitted else {
            // It is tried again after the next question.
            for (place, why) in places {
                self.tasks[*place].shown.attempts += 1;
                if self.tasks[*place].shown.attempts > MAX_ATTEMPTS {
                    self.lose(*place, &format!("{why}, and it cannot be submitted again"));
                }
            }
            return;
        };
        remember(&batch.submission.folder, &numbers.iter().copied().zip(ids.iter().cloned()).collect::<Vec<_>>());
        for ((place, why), id) in places.iter().zip(ids) {
            let task = &mut self.tasks[*place];
            let job = task.open.values().next().copied().unwrap_or_default();
            let title = task.title();
            let event = match task.has_left {
                true => JobEvent::Log { line: format!("{title} has left before its time was over; {id} continues") },
                false => {
                    JobEvent::Warning { message: format!("{title} was lost: {why}; it is submitted again as {id}") }
                }
            };
            (task.gone, task.has_left, task.memory) = (None, false, memory);
            task.shown = QueuedTask {
                id,
                state: "submitted".to_owned(),
                reason: String::new(),
                began_ms: None,
                host: None,
                attempts: task.shown.attempts + 1,
                ..task.shown.clone()
            };
            self.changed.extend(task.stages.iter().cloned());
            self.say(job, event);
        }
        self.asking.asked = Instant::now();
    }

    /// Gives up a task.
    fn lose(&mut self, place: usize, why: &str) {
        let stderr = output(&self.tasks[place]);
        let jobs = std::mem::take(&mut self.tasks[place].open);
        self.tasks[place].shown.state = ENDED.to_owned();
        self.tasks[place].stages.iter().for_each(|stage| self.show_stage(stage));
        for job in jobs.into_values() {
            self.setup.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(job, why.to_owned());
            let worker = self.setup.first + usize::try_from(job).unwrap_or_default();
            let _ = self.setup.heard.send(Message::WorkerLost { worker, stderr: stderr.clone() });
        }
    }

    /// Sends the tasks of stages that have changed.
    fn show(&mut self) {
        for stage in std::mem::take(&mut self.changed) {
            self.show_stage(&stage);
        }
    }

    fn show_stage(&self, stage: &str) {
        // Tasks that were found and are not of this run have no open jobs and have not ended.
        let own = |(place, task): &(usize, &Task)| {
            task.stages.contains(stage) && (*place >= self.found || !task.open.is_empty() || task.has_ended())
        };
        let tasks = self.tasks.iter().enumerate().filter(own).map(|(_, task)| task.shown.clone()).collect();
        let (stage, executor) = (stage.to_owned(), self.setup.name.clone());
        let _ = self.setup.heard.send(Message::Queued { stage, executor, tasks });
    }

    /// Ends, and cancels what nobody will pick up.
    fn stop(self, end: End) -> Stopped {
        let scope = &self.setup.scope;
        let is_obsolete = |task: &Task| end == End::Cancel && task.stages.iter().all(|stage| scope.covers(stage));
        let (mut cancelled, mut going, mut ending) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (place, task) in self.tasks.iter().enumerate() {
            let is_of_run = place >= self.found || !task.open.is_empty();
            let must_end = if is_of_run { end == End::Cancel } else { is_obsolete(task) };
            let has_ended = task.open.is_empty() && is_of_run || task.has_ended();
            match (must_end, has_ended && task.unclaimed.is_empty()) {
                (_, true) => {}
                (true, false) => {
                    cancelled.push(task.shown.id.clone());
                    ending.insert(task.batch.submission.folder.clone());
                }
                (false, false) => drop(going.insert(task.batch.submission.folder.clone())),
            }
        }
        cancelled.extend(self.probe.iter().filter_map(|probe| probe.id().map(str::to_owned)));
        let outcome = if cancelled.is_empty() { Ok(()) } else { self.setup.system.cancel(&cancelled) };
        let name = &self.setup.name;
        let problem = outcome.err().map(|error| {
            format!(
                "jobs of `{name}` could not be cancelled and may still run: {} ({})",
                error.message,
                cancelled.join(" ")
            )
        });
        if problem.is_some() {
            // The next run can try again.
            going.append(&mut ending);
        }
        Stopped { going: going.into_iter().collect(), problem }
    }
}
