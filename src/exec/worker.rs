//! The main loop of a worker process: reads jobs and writes events as one JSON object per line.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use hamflow_stage_api::{AnyKind, EventSink, Job, JobEvent, JobResult, StageError, perform};

use super::busy_time::milliseconds;
use crate::sys;

/// Resident memory, in bytes, above which a worker releases free memory after a job.
const KEPT_MEMORY: u64 = 48 * 1024 * 1024;

/// Performs the jobs from standard input until it is closed.
pub fn serve(kinds: &[&dyn AnyKind]) -> io::Result<()> {
    sys::set_process_name();
    // Events are sent on standard output, so output printed by libraries must not be mixed with them.
    let events = Arc::new(Lines::new(sys::take_stdout()?));
    for job in jobs() {
        let job = match job {
            Ok(job) => job,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let result = perform_job(kinds, &job, events.as_ref());
        // Memory freed by this job is not needed by the next one, but other programs may need it.
        drop(job);
        if sys::resident_memory().is_some_and(|bytes| bytes > KEPT_MEMORY) {
            sys::release_free_memory();
        }
        events.emit(JobEvent::Finished(result));
    }
    Ok(())
}

/// Does a job, and says how it ended.
pub(super) fn perform_job(kinds: &[&dyn AnyKind], job: &Job, events: &dyn EventSink) -> JobResult {
    static PANIC_PLACE: OnceLock<Arc<Mutex<Option<String>>>> = OnceLock::new();
    let panic_place = PANIC_PLACE.get_or_init(remember_panics);
    sys::reset_peak_memory();
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| find_and_perform(kinds, job, events)));
    let error = match outcome {
        Ok(result) => result.err(),
        Err(_) => {
            let place = panic_place.lock().map_or_else(|_| None, |mut place| place.take());
            let message = format!("internal error: {}", place.unwrap_or_default());
            Some(StageError::bug(message).hint("please report it with the stage's log"))
        }
    };
    let wall_ms = milliseconds(started.elapsed());
    JobResult { id: job.id, error, peak_memory: sys::peak_memory(), wall_ms }
}

fn find_and_perform(kinds: &[&dyn AnyKind], job: &Job, events: &dyn EventSink) -> Result<(), StageError> {
    let kind = kinds.iter().find(|kind| kind.spec().name == job.kind);
    let kind = kind.ok_or_else(|| StageError::bug(format!("this worker does not know the kind `{}`", job.kind)))?;
    perform(*kind, job, events)
}

/// Reads jobs on a separate thread, so that the end of standard input is noticed while a job runs.
fn jobs() -> Receiver<Result<Job, serde_json::Error>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(serde_json::from_str(&line)).is_err() {
                break;
            }
        }
        // The engine has ended or closed the pipe, so the result of the current job is not needed. Programs started by this worker are in
        // its process group and must not outlive the run.
        sys::kill_own_process_group();
        std::process::exit(1);
    });
    receiver
}

struct Lines {
    file: Mutex<File>,
}

impl Lines {
    fn new(file: File) -> Self {
        Self { file: Mutex::new(file) }
    }
}

impl EventSink for Lines {
    fn emit(&self, event: JobEvent) {
        let mut line = serde_json::to_string(&event).expect("an event has only string keys");
        line.push('\n');
        // If the engine is gone, writing fails, and the thread that reads standard input ends the process.
        if let Ok(mut file) = self.file.lock() {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

fn remember_panics() -> Arc<Mutex<Option<String>>> {
    let place = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&place);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Ok(mut place) = shared.lock() {
            *place = Some(info.to_string().replace('\n', " "));
        }
        default(info);
    }));
    place
}
