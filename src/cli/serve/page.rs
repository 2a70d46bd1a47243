//! The frame of every page of the site, and the page of a log.

use maud::{DOCTYPE, Markup, html};

use super::reply::segment;
use super::runs::RunState;
use crate::cli::pages;
use crate::exec::{Outcome, RunRecord, StageRecord};

/// A page of the site.
pub struct Page<'a> {
    /// The title.
    pub title: &'a str,
    /// The relative path to the site's root, such as `../../`.
    pub root: &'a str,
    /// Whether the page shows something that changes, so that its script asks for it again.
    pub live: bool,
    /// The content. The script replaces elements with the attribute `data-part` when they have changed.
    pub body: Markup,
}

impl Page<'_> {
    /// Renders the page.
    pub fn render(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    (pages::head(&format!("{} – hamflow", self.title)))
                    link rel="icon" href={ (self.root) "icon.svg" };
                    link rel="stylesheet" href={ (self.root) "serve.css" };
                    script src={ (self.root) "serve.js" } defer {}
                }
                body data-live=[self.live.then_some("yes")] {
                    header {
                        @if !self.root.is_empty() { nav aria-label="Site" { a href={ (self.root) "." } { "Runs" } } }
                        h1 { (self.title) }
                    }
                    p #offline role="status" hidden { "The server does not answer, or has a new address: look at the terminal of `hamflow serve`." }
                    main { (self.body) }
                }
            }
        }
    }
}

/// A state in one word, with its colour.
pub fn state(word: &str) -> Markup {
    html! { span.state data-state=(word) { (word) } }
}

/// The state of a whole run in one word.
pub fn run_word(record: &RunRecord, run_state: &RunState) -> &'static str {
    let has = |outcome| record.stages.iter().any(|stage: &StageRecord| stage.outcome == outcome);
    match run_state {
        RunState::Running(_) => "running",
        RunState::Killed => "killed",
        RunState::Ended if has(Outcome::Failed) => "failed",
        RunState::Ended if record.interrupted => "interrupted",
        RunState::Ended if has(Outcome::Queued) => "queued",
        RunState::Ended => "done",
    }
}

/// A piece of a log.
pub struct LogText<'a> {
    /// The text.
    pub text: &'a str,
    /// Whether earlier lines are left out.
    pub is_tail: bool,
    /// The length of the log in bytes.
    pub length: u64,
    /// Whether the run is in progress, so that more may follow.
    pub live: bool,
}

/// The log of a stage; the script appends what is written later.
pub fn log(record: &RunRecord, stage: &str, log: &LogText<'_>) -> Markup {
    let LogText { text, is_tail, length, live } = *log;
    let title = format!("Log of {stage}");
    let body = html! {
        p {
            "Run " a href="." { (record.run) }
            @if is_tail { ". Earlier lines are left out; " code { "hamflow log " (record.run) " " (stage) } " prints all." }
        }
        pre #log tabindex="0" data-from=(length) data-source={ "log?stage=" (segment(stage)) } { (text) }
    };
    Page { title: &title, root: "../../", live, body }.render()
}
