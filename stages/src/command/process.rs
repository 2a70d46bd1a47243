//! Runs a program in a clean environment and logs its output line by line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use hamflow_stage_api::{RedactedStream, StageContext, StageError, sys};

/// Maximum length of a logged line in bytes; longer lines are split.
const MAX_LINE: u64 = 16 * 1024;

/// The number of last lines of stderr that an error quotes.
const LAST_LINES: usize = 20;

/// The exit status of a shell whose command was killed by SIGPIPE (128 + 13).
const SIGPIPE_STATUS: i32 = 141;

/// Variables that are inherited without being declared. Outputs should not depend on them.
const PASSED: [&str; 2] = ["PATH", "HOME"];

/// Runs `command_line` in the project's folder; an error unless it exits with 0.
pub(super) fn run(command_line: &[String], is_strict: bool, context: &StageContext<'_>) -> Result<(), StageError> {
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
            thread.join().expect("the logging thread does not panic");
        }
        last
    });
    let status = child.wait().map_err(|error| StageError::failed(format!("cannot wait for `{program}`: {error}")))?;
    if status.success() { Ok(()) } else { Err(failed(program, status, is_strict, &last)) }
}

/// Resolves a program: a name is looked up in `PATH`, a relative path is relative to the project's folder.
fn located(program: &str, project_dir: &Path) -> PathBuf {
    if program.contains('/') { project_dir.join(program) } else { PathBuf::from(program) }
}

fn cannot_start(program: &str, error: &std::io::Error) -> StageError {
    match error.kind() {
        ErrorKind::NotFound if program.contains('/') => StageError::input(format!("program `{program}` not found"))
            .hint("relative paths are relative to the folder of `pipeline.toml`; check also that the interpreter of a script exists"),
        ErrorKind::NotFound => StageError::input(format!("program `{program}` not found in `PATH`"))
            .hint("install it, or give its path; write shell syntax (`a | b`) as one line: `run = \"a | b\"`"),
        ErrorKind::PermissionDenied => StageError::input(format!("`{program}` is not executable"))
            .hint(format!("`chmod +x {program}`, or run it with its interpreter")),
        _ => StageError::failed(format!("cannot start `{program}`: {error}")),
    }
}

/// Logs every line of a stream without secrets, and returns the last ones.
fn pass_on(stream: impl Read, context: &StageContext<'_>) -> VecDeque<String> {
    let mut reader = BufReader::new(stream);
    let mut redacted = RedactedStream::new(&context.job().redactor);
    let mut last = VecDeque::new();
    let mut say = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\n', '\r']);
        context.log(text);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text.to_owned());
    };
    let mut piece = Vec::new();
    // A read error ends the stream.
    while (&mut reader).take(MAX_LINE).read_until(b'\n', &mut piece).is_ok_and(|read| read > 0) {
        let mut line = redacted.push(&piece);
        let is_whole = piece.ends_with(b"\n");
        if is_whole {
            line.extend(redacted.finish());
        }
        if is_whole || !line.is_empty() {
            say(&line);
        }
        piece.clear();
    }
    let rest = redacted.finish();
    if !rest.is_empty() {
        say(&rest);
    }
    last
}

fn failed(program: &str, status: ExitStatus, is_strict: bool, last: &VecDeque<String>) -> StageError {
    let how = match status.code() {
        Some(code) => format!("ended with exit status {code}"),
        None => sys::signal(status).map_or_else(
            || "was terminated by an unknown cause".to_owned(),
            |number| format!("was terminated by signal {number}"),
        ),
    };
    let mut message = format!("`{program}` {how}");
    for line in last {
        message.push_str("\n  | ");
        message.push_str(line);
    }
    let error = StageError::failed(message);
    match status.code() {
        Some(SIGPIPE_STATUS) if is_strict => error.hint(
            "a command was still writing when its reader ended (SIGPIPE), as `yes` in `yes | head`; if that is intended, set `strict = false`",
        ),
        Some(1) if is_strict => error.hint(
            "every command of the line must succeed, and `grep` fails if nothing matches; add `|| true`, or set `strict = false`",
        ),
        _ => error,
    }
}
