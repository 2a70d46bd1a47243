//! Runs a program with a cleared environment and passes its output on, line by line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use hamflow_stage_api::{StageContext, StageError};

/// A longer line is logged in pieces.
const MAX_LINE: u64 = 16 * 1024;

/// How many of the last lines of an error stream are shown.
const LAST_LINES: usize = 20;

/// Variables that pass from hamflow's own environment without being declared: no output should depend on them.
const PASSED: [&str; 2] = ["PATH", "HOME"];

/// Runs `command_line` in the project's folder and waits for it; fails unless it succeeds.
pub(super) fn run(command_line: &[String], context: &StageContext<'_>) -> Result<(), StageError> {
    let job = context.job();
    let (program, arguments) = command_line.split_first().ok_or_else(|| StageError::bug("there is nothing to run"))?;
    let mut command = Command::new(located(program, &job.project_dir));
    command
        .args(arguments)
        .env_clear()
        .envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("TMPDIR", context.scratch_dir())
        .envs(&job.env)
        .current_dir(&job.project_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot_start(program, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let last = thread::scope(|scope| {
        let stdout = stdout.map(|stream| scope.spawn(|| pass_on(stream, context)));
        let last = stderr.map(|stream| pass_on(stream, context)).unwrap_or_default();
        if let Some(thread) = stdout {
            thread.join().expect("passing lines on does not panic");
        }
        last
    });
    let status = child.wait().map_err(|error| StageError::failed(format!("cannot wait for `{program}`: {error}")))?;
    if status.success() { Ok(()) } else { Err(failed(program, status, &last)) }
}

/// Where a program is: a name is looked up in `PATH`, a relative path starts from the project's folder.
fn located(program: &str, project_dir: &Path) -> PathBuf {
    if program.contains('/') { project_dir.join(program) } else { PathBuf::from(program) }
}

fn cannot_start(program: &str, error: &std::io::Error) -> StageError {
    match error.kind() {
        ErrorKind::NotFound if program.contains('/') => StageError::input(format!("there is no program `{program}`"))
            .hint("a relative path starts from the folder of `pipeline.toml`; a script needs its interpreter"),
        ErrorKind::NotFound => StageError::input(format!("there is no program `{program}` in `PATH`"))
            .hint("install it, or give its path; what the shell knows (`a | b`) goes in one line: `run = \"a | b\"`"),
        ErrorKind::PermissionDenied => StageError::input(format!("`{program}` may not be executed"))
            .hint(format!("`chmod +x {program}`, or name its interpreter first")),
        _ => StageError::failed(format!("cannot start `{program}`: {error}")),
    }
}

/// Logs every line of a stream and returns the last ones.
fn pass_on(stream: impl Read, context: &StageContext<'_>) -> VecDeque<String> {
    let mut reader = BufReader::new(stream);
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    // A stream that breaks is one that ended.
    while (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        context.log(text);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text.to_owned());
        line.clear();
    }
    last
}

fn failed(program: &str, status: ExitStatus, last: &VecDeque<String>) -> StageError {
    let how = match status.code() {
        Some(code) => format!("ended with exit status {code}"),
        None => format!("was ended by {}", signal(status)),
    };
    let mut message = format!("`{program}` {how}");
    for line in last {
        message.push_str("\n  | ");
        message.push_str(line);
    }
    StageError::failed(message)
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    status.signal().map_or_else(|| "something unknown".to_owned(), |number| format!("signal {number}"))
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> String {
    "something unknown".to_owned()
}
