//! Runs a program in a clean environment and logs its output line by line.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use super::environment::{Container, PASSED, Prepared};
use hamflow_process::{Ended, Isolation, Line, Lines, Observed, Running, Watch};
use hamflow_stage_api::{RedactedStream, StageContext, StageError, sys};

/// The number of last lines of the output that an error quotes.
const LAST_LINES: usize = 20;

/// Maximum length of a quoted line in characters.
const MAX_QUOTED: usize = 500;

/// How often the state of a line that is still being written is shown, such as that of a progress bar.
const STATE_INTERVAL: Duration = Duration::from_millis(200);

/// The exit status of a shell whose command was killed by SIGPIPE (128 + 13).
const SIGPIPE_STATUS: i32 = 141;

/// The variable with the path of a file of JSON that holds the values in `params`.
const VALUES_VARIABLE: &str = "HAMFLOW_PARAMS";

/// The name of that file.
const VALUES_FILE: &str = "params.json";

/// A program to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'a> {
    /// The program and its arguments.
    pub command_line: &'a [String],
    /// Whether it is a line of which every command must succeed.
    pub is_strict: bool,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Which uses of files are observed.
    pub watch: Option<&'a Watch>,
    /// The environment that it runs in.
    pub prepared: &'a Prepared,
    /// Which files it sees; all if `None`.
    pub isolation: Option<&'a Isolation>,
    /// The values that it may read as JSON; none if there are none.
    pub values: Option<&'a [u8]>,
}

/// How a program ended.
pub(super) struct Outcome {
    /// What was observed.
    pub observed: Option<Observed>,
    /// An error unless it exited with 0.
    pub result: Result<(), StageError>,
}

/// Runs a program in the project's folder. Fails if it cannot be started.
pub(super) fn run(program: Program<'_>, context: &StageContext<'_>) -> Result<Outcome, StageError> {
    let Program { command_line, is_strict, timeout, watch, prepared, isolation, values } = program;
    let job = context.job();
    let (program, arguments) = command_line.split_first().ok_or_else(|| StageError::bug("there is nothing to run"))?;
    let scratch = context.scratch_dir().display().to_string();
    let mut variables: BTreeMap<String, OsString> = BTreeMap::from([("TMPDIR".to_owned(), OsString::from(&scratch))]);
    variables.extend(job.env.iter().map(|(name, value)| (name.clone(), OsString::from(value))));
    if let Some(values) = values {
        let path = context.scratch_dir().join(VALUES_FILE);
        std::fs::write(&path, values).map_err(|source| StageError::io("write", &path, &source))?;
        variables.insert(VALUES_VARIABLE.to_owned(), path.into());
    }
    let passed = PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = match &prepared.container {
        Some(container) => {
            let words = container.command_line(command_line, &variables, isolation, context);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        }
        None => {
            let mut command = Command::new(located(program, &job.project_dir));
            command.args(arguments).env_clear().envs(passed).envs(&prepared.variables);
            command
        }
    };
    command.envs(&variables).current_dir(&job.project_dir);
    let running = Running {
        marker: ("TMPDIR", &scratch),
        timeout,
        watch: watch.cloned(),
        isolation: isolation.filter(|_| prepared.container.is_none()),
    };
    let mut output = Output::new(context);
    let ended = hamflow_process::run(command, running, |piece| output.push(piece));
    let last = output.finish();
    prepared.container.iter().for_each(Container::remove);
    let Ended { status, timed_out, left_behind, observed, is_output_open } =
        ended.map_err(|error| cannot_start(program, &error))?;
    if !left_behind.is_empty() {
        context.warn(left_behind_text(&left_behind));
    }
    if is_output_open {
        context.warn("something that the program started still holds its output open; what it writes is not kept");
    }
    let result = match timeout.filter(|_| timed_out) {
        Some(limit) => {
            let how = format!("took longer than {} and was stopped", humantime::format_duration(limit));
            Err(StageError::failed(with_quoted(program, &how, &last))
                .hint("raise `timeout`, or find out what it waits for"))
        }
        None if status.success() => Ok(()),
        None => Err(failed(program, status, is_strict, &last)),
    };
    Ok(Outcome { observed, result })
}

/// Names the programs that were ended.
fn left_behind_text(names: &[String]) -> String {
    let mut distinct: Vec<&str> = names.iter().map(String::as_str).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let were = if names.len() == 1 { "was still running and was" } else { "were still running and were" };
    format!("when the program ended, `{}` {were} stopped: a stage ends with its program", distinct.join("`, `"))
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

/// Logs the output of a program without secrets, and keeps the last lines.
struct Output<'a> {
    context: &'a StageContext<'a>,
    redacted: RedactedStream<'a>,
    lines: Lines,
    last: VecDeque<String>,
    shown: Instant,
}

impl<'a> Output<'a> {
    fn new(context: &'a StageContext<'a>) -> Self {
        let redacted = RedactedStream::new(&context.job().redactor);
        Self { context, redacted, lines: Lines::default(), last: VecDeque::new(), shown: Instant::now() }
    }

    fn push(&mut self, piece: &[u8]) {
        // No secret goes on after a line feed, so nothing need be held back there.
        let (whole, rest) = piece.split_at(piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        if !whole.is_empty() {
            let mut text = self.redacted.push(whole);
            text.extend(self.redacted.finish());
            self.say(&text);
        }
        let text = self.redacted.push(rest);
        self.say(&text);
    }

    fn say(&mut self, text: &[u8]) {
        let Self { context, lines, last, shown, .. } = self;
        lines.push(text, &mut |line| keep(line, context, last, shown));
    }

    fn finish(mut self) -> VecDeque<String> {
        let rest = self.redacted.finish();
        self.say(&rest);
        let Self { context, mut lines, mut last, mut shown, .. } = self;
        lines.finish(&mut |line| keep(line, context, &mut last, &mut shown));
        last
    }
}

fn keep(line: Line, context: &StageContext<'_>, last: &mut VecDeque<String>, shown: &mut Instant) {
    match line {
        Line::Whole(text) => {
            context.log(text.as_str());
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(text);
        }
        Line::State(text) if shown.elapsed() >= STATE_INTERVAL => {
            context.progress_of_round(0, 0, "", text, String::new());
            *shown = Instant::now();
        }
        Line::State(_) => {}
    }
}

fn failed(program: &str, status: ExitStatus, is_strict: bool, last: &VecDeque<String>) -> StageError {
    let how = match status.code() {
        Some(code) => format!("ended with exit status {code}"),
        None => sys::signal(status).map_or_else(
            || "was terminated by an unknown cause".to_owned(),
            |number| format!("was terminated by signal {number}"),
        ),
    };
    let error = StageError::failed(with_quoted(program, &how, last));
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

/// What happened to a program, and the last lines of its output.
fn with_quoted(program: &str, how: &str, last: &VecDeque<String>) -> String {
    let mut message = format!("`{program}` {how}");
    for line in last {
        message.push_str("\n  | ");
        message.extend(line.chars().take(MAX_QUOTED));
        if line.chars().count() > MAX_QUOTED {
            message.push('…');
        }
    }
    message
}
