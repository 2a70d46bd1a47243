//! Runs jobs in child processes of the same executable.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use hamflow_stage_api::{Job, JobEvent};

use super::{Adopted, End, Executor, Placement};
use crate::exec::Message;
use crate::sys::{self, OwnProgram};

/// Maximum number of bytes kept from the standard error of a worker.
const LAST_WORDS: usize = 16 * 1024;

/// Workers on this machine, started on demand and reused.
pub struct Local {
    heard: Sender<Message>,
    program: OwnProgram,
    workers: Vec<Worker>,
    started: usize,
}

struct Worker {
    number: usize,
    pool_threads: usize,
    child: Child,
    stdin: ChildStdin,
    job: Option<u64>,
}

impl Worker {
    /// Kills the process group of the worker, including the programs that it started. Does not wait for the worker.
    fn kill_group(&self) {
        sys::kill_process_group(&self.child);
    }
}

impl Local {
    /// Creates an executor without workers. Workers will send their messages to `heard`.
    pub fn new(heard: Sender<Message>) -> Self {
        Self { heard, program: OwnProgram::new(), workers: Vec::new(), started: 0 }
    }

    fn start(&mut self, pool_threads: usize) -> io::Result<usize> {
        let count = pool_threads.to_string();
        let mut command = Command::new(self.program.path()?);
        // A session of its own: Ctrl-C only reaches the engine, which then stops the workers in an orderly way, and no program can wait for
        // the terminal.
        let mut child = sys::lead_session(&mut command, "hamflow")
            .arg("worker")
            .env("RAYON_NUM_THREADS", &count)
            .env("POLARS_MAX_THREADS", &count)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let number = self.started;
        self.started += 1;
        let stdin = child.stdin.take().expect("standard input is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let last_words = Arc::new(Mutex::new(Vec::new()));
        let words = Arc::clone(&last_words);
        let listener = std::thread::spawn(move || keep_last_words(stderr, &words));
        let heard = self.heard.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if let Ok(event) = serde_json::from_str::<JobEvent>(&line)
                    && heard.send(Message::Worker { worker: number, event }).is_err()
                {
                    return;
                }
            }
            let _ = listener.join();
            let words = last_words.lock().map(|words| String::from_utf8_lossy(&words).into_owned()).unwrap_or_default();
            let _ = heard.send(Message::WorkerLost { worker: number, stderr: words });
        });
        self.workers.push(Worker { number, pool_threads, child, stdin, job: None });
        Ok(self.workers.len() - 1)
    }
}

/// Keeps the last complete lines. In a truncated line a secret might not be recognized.
fn keep_last_words(mut stderr: impl Read, words: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    let mut in_lost_line = false;
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        let Ok(mut words) = words.lock() else { return };
        let mut said = &buffer[..count];
        if in_lost_line {
            let Some(end) = said.iter().position(|byte| *byte == b'\n') else { continue };
            said = &said[end + 1..];
            in_lost_line = false;
        }
        words.extend_from_slice(said);
        if words.len() > LAST_WORDS {
            let surplus = words.len() - LAST_WORDS;
            let end = words[surplus - 1..].iter().position(|byte| *byte == b'\n');
            in_lost_line = end.is_none();
            let lost = end.map_or(words.len(), |end| surplus + end);
            words.drain(..lost);
        }
    }
}

impl Executor for Local {
    fn submit(&mut self, job: Job, _placement: &Placement) -> io::Result<Option<Adopted>> {
        let idle =
            self.workers.iter().position(|worker| worker.job.is_none() && worker.pool_threads == job.pool_threads);
        let index = match idle {
            Some(index) => index,
            None => self.start(job.pool_threads)?,
        };
        let worker = &mut self.workers[index];
        worker.job = Some(job.id);
        // A job may list a million files, so it is serialized without holding the whole text in memory.
        let mut line = BufWriter::with_capacity(64 * 1024, &mut worker.stdin);
        let written = serde_json::to_writer(&mut line, &job).map_err(io::Error::from);
        // If the worker has died, its reader thread reports that, and the job fails with the end of its standard error.
        match written.and_then(|()| line.write_all(b"\n")).and_then(|()| line.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(None),
        }
    }

    fn job_of(&self, worker: usize) -> Option<u64> {
        self.workers.iter().find(|found| found.number == worker)?.job
    }

    fn release(&mut self, worker: usize) {
        if let Some(found) = self.workers.iter_mut().find(|found| found.number == worker) {
            found.job = None;
        }
    }

    fn reap(&mut self, worker: usize) -> String {
        let Some(index) = self.workers.iter().position(|found| found.number == worker) else {
            return "it ended".to_owned();
        };
        let mut worker = self.workers.swap_remove(index);
        // Programs that it started must not outlive it.
        worker.kill_group();
        match worker.child.wait() {
            Ok(status) => describe(status),
            Err(error) => format!("cannot wait for it: {error}"),
        }
    }

    fn stop(&mut self, _end: End) {
        // Their engine would be gone.
        for mut worker in self.workers.drain(..) {
            worker.kill_group();
            let _ = worker.child.wait();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop(End::Cancel);
    }
}

fn describe(status: ExitStatus) -> String {
    match (sys::signal(status), status.code()) {
        (Some(9), _) => "it was killed (signal 9), as the kernel does when memory runs out".to_owned(),
        (Some(signal), _) => format!("it was killed by signal {signal}"),
        (None, Some(code)) => format!("it ended with exit code {code}"),
        (None, None) => "it ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(said: &str) -> String {
        let words = Mutex::new(Vec::new());
        keep_last_words(said.as_bytes(), &words);
        String::from_utf8(words.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn only_whole_lines_are_kept_of_a_lot_of_last_words() {
        assert_eq!(kept("few\nwords"), "few\nwords");
        let lines: String = (0..10_000).map(|number| format!("line {number:06}\n")).collect();
        let last = kept(&lines);
        assert!(last.len() > LAST_WORDS - 100 && last.len() <= LAST_WORDS, "{}", last.len());
        assert!(
            last.lines().all(|line| line.len() == "line 000000".len()) && last.ends_with("line 009999\n"),
            "{last}"
        );
        let long = "x".repeat(3 * LAST_WORDS);
        assert_eq!(kept(&format!("{long}\nafter it\n")), "after it\n");
    }
}
