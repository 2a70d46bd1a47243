//! The side of a worker process that does jobs: one JSON object per line in, events out.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use hamflow_stage_api::{EventSink, Job, JobEvent, JobPart, JobResult, Kind, StageContext, StageError};

/// Less memory than this a worker may keep for its next job.
const KEPT_MEMORY: u64 = 48 * 1024 * 1024;

/// Does the jobs that come on standard input until it ends.
pub fn serve(kinds: &[&dyn Kind]) -> io::Result<()> {
    // It was started as `/proc/self/exe`, which is not how people call it.
    let _ = rustix::thread::set_name(c"hamflow");
    // Standard output is the way back to the engine. Whatever a library prints must not get between the events.
    let events = Arc::new(Lines::new(File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?)));
    rustix::stdio::dup2_stdout(io::stderr())?;
    let panic_place = remember_panics();
    for job in jobs() {
        let job = match job {
            Ok(job) => job,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        reset_peak_memory();
        let outcome = catch_unwind(AssertUnwindSafe(|| perform(kinds, &job, events.as_ref())));
        let error = match outcome {
            Ok(result) => result.err(),
            Err(_) => {
                let place = panic_place.lock().map_or_else(|_| None, |mut place| place.take());
                let message = format!("internal error: {}", place.unwrap_or_default());
                Some(StageError::bug(message).hint("please report it with the stage's log"))
            }
        };
        let id = job.id;
        // What a job left behind is not the next one's, and other programs may need it.
        drop(job);
        if memory("VmRSS:") > KEPT_MEMORY {
            give_memory_back();
        }
        events.emit(JobEvent::Finished(JobResult { id, error, peak_memory: memory("VmHWM:") }));
    }
    Ok(())
}

fn perform(kinds: &[&dyn Kind], job: &Job, events: &dyn EventSink) -> Result<(), StageError> {
    let kind = kinds.iter().find(|kind| kind.spec().name == job.kind);
    let kind = kind.ok_or_else(|| StageError::bug(format!("this worker does not know the kind `{}`", job.kind)))?;
    let context = StageContext::new(job, events);
    match &job.part {
        JobPart::Whole => kind.run(&context),
        JobPart::Part { .. } => kind.run_part(&context),
        JobPart::Merge { parts } => kind.merge(&context, parts),
    }
}

/// Reads jobs on a thread of its own, so that the end of standard input is seen while a job runs.
fn jobs() -> Receiver<Result<Job, serde_json::Error>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(serde_json::from_str(&line)).is_err() {
                break;
            }
        }
        // The engine is gone or wants no more. What this worker does now nobody waits for, and a program that it
        // started must not outlive the run: they share a process group that the worker leads.
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
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
        // Nobody to tell means nobody to work for; the reader of standard input ends the process.
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

/// Returns to the system what is free within the memory that the program has; glibc would keep most of it.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` has no preconditions (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets the kernel count the peak of resident memory anew (proc(5), clear_refs); what cannot be reset is counted since the start.
fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// What the kernel says of the program's memory, in bytes (proc(5), status); 0 where it does not say.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_left_behind_goes_back_to_the_system() {
        let strings: Vec<String> = (0..1_000_000).map(|number| format!("{number:064}")).collect();
        // In front of it glibc returns nothing by itself.
        let last = strings.last().cloned();
        drop(strings);
        let before = memory("VmRSS:");
        give_memory_back();
        let after = memory("VmRSS:");
        assert!(after + 32 * 1024 * 1024 < before, "{before} bytes became {after}");
        drop(last);
    }
}
