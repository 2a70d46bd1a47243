//! One line for each stage that did something, with the reason, and one summary line.

use std::time::{Duration, Instant};

use super::style::{Style, bytes, duration};
use super::{Reporter, say};
use crate::exec::{Outcome, RunEvent, RunSummary};
use crate::plan::StaleReason;

/// A stage that works longer than this says how far it is.
const SILENCE: Duration = Duration::from_secs(15);

/// Shows a run in a log file.
pub struct Plain {
    style: Style,
    last_word: Instant,
}

impl Plain {
    /// Nothing said yet.
    pub fn new(style: Style) -> Self {
        Self { style, last_word: Instant::now() }
    }
}

impl Reporter for Plain {
    fn event(&mut self, event: &RunEvent) {
        if let RunEvent::Progress { stage, .. } = event {
            if self.last_word.elapsed() < SILENCE {
                return;
            }
            say(&format!("{} {stage}  {}", self.style.word("at work"), progress_text(event)));
        } else {
            for line in lines(event, self.style) {
                say(&line);
            }
        }
        self.last_word = Instant::now();
    }
}

/// What a progress event says beside the stage: `3/50 epochs  val accuracy 0.71`.
pub fn progress_text(event: &RunEvent) -> String {
    let RunEvent::Progress { done, total, unit, message, .. } = event else { return String::new() };
    let count = if *total > 0 { format!("{done}/{total} {unit}") } else { format!("{done} {unit}") };
    if message.is_empty() { count } else { format!("{count}  {message}") }
}

/// The lasting lines of an event.
pub fn lines(event: &RunEvent, style: Style) -> Vec<String> {
    match event {
        RunEvent::Warning { stage, message } => {
            let place = stage.as_ref().map_or(String::new(), |stage| format!("stage `{stage}`: "));
            vec![format!("{} {place}{message}", style.label("warning"))]
        }
        RunEvent::Flaw { stage, message } => vec![format!("{} stage `{stage}`: {message}", style.label("flaw"))],
        RunEvent::Tidied { results, bytes: deleted, over_bytes } => {
            let mut said = Vec::new();
            if *results > 0 {
                let what = format!(
                    "cleared the cache of {results} results that were used least recently ({})",
                    bytes(*deleted)
                );
                said.push(format!("{} {what}", style.label("note")));
            }
            if *over_bytes > 0 {
                let what =
                    format!("what locks and the last runs need is {} over the cache's budget", bytes(*over_bytes));
                let way_out = "raise `[cache] max_size`, or `hamflow cache gc --keep-runs 1`";
                said.push(format!("{} {what}; {way_out}", style.label("note")));
            }
            said
        }
        RunEvent::Note { stage, message } => vec![format!("{} {stage}: {message}", style.label("note"))],
        RunEvent::StageFinished { stage, outcome, reasons, parts_ran, parts_cached, wall_ms, error } => {
            let word = style.word(outcome.word());
            match (outcome, error) {
                (Outcome::Fresh, _) => Vec::new(),
                (Outcome::Failed, Some(error)) => {
                    let log = format!("see `hamflow log last {stage}`");
                    vec![format!("{word} {stage}  {log}"), format!("{} stage `{stage}`: {error}", style.label("error"))]
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
                    vec![format!("{word} {stage}  after {}{parts}  what is finished of it is kept", duration(*wall_ms))]
                }
                _ => vec![format!("{word} {stage}")],
            }
        }
        RunEvent::RunFinished(summary) => vec![summary_text(summary)],
        RunEvent::RunStarted { .. } | RunEvent::StageStarted { .. } | RunEvent::Progress { .. } => Vec::new(),
    }
}

fn parts_text(ran: usize, cached: usize) -> String {
    match (ran, cached) {
        (0, 0) => String::new(),
        (1, 0) => "  1 part".to_owned(),
        (ran, 0) => format!("  {ran} parts"),
        (ran, cached) => format!("  {ran} of {} parts", ran + cached),
    }
}

/// The first reason, and how many more there are.
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
        unfinished,
        flawed,
        fetched,
        uploaded,
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
        (unfinished, "interrupted"),
        (&not_reached, "not reached"),
        (flawed, "flawed"),
        (fetched, "taken from the remote"),
        (uploaded, "results given to the remote"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| **count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let verb = if *interrupted { "interrupted after" } else { "finished in" };
    let run = run.as_ref().map_or(String::new(), |run| format!("  [run {run}]"));
    format!("{verb} {time}: {}{run}", counts.join(", "))
}
