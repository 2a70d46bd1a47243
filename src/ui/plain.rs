//! One line per stage that was not already up to date, with the reason, and a summary line.

use std::time::{Duration, Instant};

use super::style::{Style, bytes, duration, plural};
use super::{Reporter, say};
use crate::exec::{Begun, Outcome, RunEvent, RunSummary, queue_in_words};
use crate::plan::StaleReason;

/// Progress is reported if nothing was printed for this long.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// Reports a run in a log file.
pub struct Plain {
    style: Style,
    last_output: Instant,
}

impl Plain {
    /// Creates the reporter; the progress interval starts now.
    pub fn new(style: Style) -> Self {
        Self { style, last_output: Instant::now() }
    }
}

impl Reporter for Plain {
    fn event(&mut self, event: &RunEvent) {
        if let RunEvent::Progress { stage, .. } | RunEvent::Queued { stage, .. } = event {
            let text = progress_text(event);
            if text.is_empty() || self.last_output.elapsed() < PROGRESS_INTERVAL {
                return;
            }
            say(&format!("{} {stage}  {text}", self.style.word("running")));
        } else {
            for line in lines(event, self.style) {
                say(&line);
            }
        }
        self.last_output = Instant::now();
    }
}

/// The text of a progress event without its stage: `3/50 parts  120 images/s`. Empty if all tasks in a queue have ended.
pub fn progress_text(event: &RunEvent) -> String {
    if let RunEvent::Queued { executor, tasks, .. } = event {
        let tasks = queue_in_words(tasks);
        return if tasks.is_empty() { tasks } else { format!("{executor}: {tasks}") };
    }
    let RunEvent::Progress { done, total, unit, round, message, .. } = event else { return String::new() };
    let count = match round {
        Some(round) => round.clone(),
        None if *total > 0 => format!("{done}/{total} {unit}"),
        None => format!("{done} {unit}"),
    };
    if message.is_empty() { count } else { format!("{count}  {message}") }
}

/// The lines that an event leaves in the output.
pub fn lines(event: &RunEvent, style: Style) -> Vec<String> {
    match event {
        RunEvent::Warning { stage, message } => {
            let place = stage.as_ref().map_or(String::new(), |stage| format!("stage `{stage}`: "));
            vec![format!("{} {place}{message}", style.label("warning"))]
        }
        RunEvent::Flaw { stage, message } => vec![format!("{} stage `{stage}`: {message}", style.label("flaw"))],
        RunEvent::Tidied { results, bytes: deleted, over_bytes } => {
            let mut notes = Vec::new();
            if *results > 0 {
                let results = plural(*results, "least recently used result");
                notes.push(format!("{} evicted {results} from the cache ({})", style.label("note"), bytes(*deleted)));
            }
            if *over_bytes > 0 {
                let problem = format!(
                    "the results that lock files and recent runs refer to exceed the cache size limit by {}",
                    bytes(*over_bytes)
                );
                let solution = "raise `[cache] max_size` or run `hamflow cache gc --keep-runs 1`";
                notes.push(format!("{} {problem}; {solution}", style.label("note")));
            }
            notes
        }
        RunEvent::Note { stage, message } => vec![format!("{} {stage}: {message}", style.label("note"))],
        RunEvent::StageFinished { stage, outcome, reasons, parts_ran, parts_cached, wall_ms, error } => {
            let word = style.word(outcome.word());
            match (outcome, error) {
                (Outcome::Fresh, _) => Vec::new(),
                (Outcome::Failed, Some(error)) => {
                    let log = format!("see `hamflow log last {stage}`");
                    let label = style.label("error");
                    vec![format!("{word} {stage}  {log}"), format!("{label} stage `{stage}`: {}", error.render())]
                }
                (Outcome::Ran | Outcome::Cached, _) => {
                    let time = if *wall_ms > 0 { format!("  {}", duration(*wall_ms)) } else { String::new() };
                    let parts = parts_text(*parts_ran, *parts_cached);
                    let why =
                        if reasons.is_empty() { "restored to `out/`".to_owned() } else { reasons_text(stage, reasons) };
                    vec![format!("{word} {stage}{time}{parts}  {why}")]
                }
                (Outcome::Interrupted, _) => {
                    let parts = parts_text(*parts_ran, *parts_cached);
                    vec![format!("{word} {stage}  after {}{parts}  (finished parts are kept)", duration(*wall_ms))]
                }
                (Outcome::Queued, _) => {
                    let parts = parts_text(*parts_ran, *parts_cached);
                    vec![format!("{word} {stage}{parts}")]
                }
                _ => vec![format!("{word} {stage}")],
            }
        }
        RunEvent::RunFinished(summary) => vec![summary_text(summary)],
        RunEvent::RunStarted { .. }
        | RunEvent::StageStarted { .. }
        | RunEvent::Progress { .. }
        | RunEvent::Queued { .. } => Vec::new(),
    }
}

fn parts_text(ran: usize, cached: usize) -> String {
    match (ran, cached) {
        (0, 0) => String::new(),
        (ran, 0) => format!("  {}", plural(ran, "part")),
        (ran, cached) => format!("  {ran} of {} parts", ran + cached),
    }
}

/// The first reason and the number of further ones.
pub fn reasons_text(stage: &str, reasons: &[StaleReason]) -> String {
    match reasons {
        [] => String::new(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} (and {} more: `hamflow why {stage} --run last`)", more.len()),
    }
}

fn summary_text(summary: &RunSummary) -> String {
    let RunSummary {
        ran,
        cached,
        fresh,
        failed,
        skipped,
        begun: Begun { unfinished, queued },
        flawed,
        transfers,
        wall_ms,
        run,
        interrupted,
        ..
    } = summary;
    let time = duration(*wall_ms);
    if summary.is_idle() {
        let stages = if *fresh == 1 { "1 stage is fresh".to_owned() } else { format!("{fresh} stages are fresh") };
        let flawed = if *flawed > 0 { format!(", {flawed} flawed") } else { String::new() };
        return format!("nothing to do: {stages}{flawed} ({time})");
    }
    let not_reached = skipped - unfinished;
    let counts = [
        (ran, "ran"),
        (cached, "from the cache"),
        (fresh, "fresh"),
        (failed, "failed"),
        (unfinished, if *queued > 0 { "queued" } else { "interrupted" }),
        (&not_reached, "not reached"),
        (flawed, "flawed"),
        (&transfers.fetched, "downloaded"),
        (&transfers.uploaded, "uploaded"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| **count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let verb = match (*interrupted, *queued) {
        (true, _) => "interrupted after",
        (false, 0) => "finished in",
        (false, _) => "detached after",
    };
    let run = run.as_ref().map_or(String::new(), |run| format!("  [run {run}]"));
    format!("{verb} {time}: {}{run}", counts.join(", "))
}
