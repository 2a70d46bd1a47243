//! A progress bar per running stage, below one line per finished stage.

use std::collections::BTreeMap;
use std::time::Duration;

use console::Term;
use hamflow_stage_api::escape_controls;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::style::Style;
use super::{Reporter, plain};
use crate::exec::{ENDED, RunEvent};

/// Reports a run on a terminal.
pub struct Bars {
    style: Style,
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    columns: u16,
}

impl Bars {
    /// Creates the reporter without any bars.
    pub fn new(style: Style) -> Self {
        let columns = Term::stderr().size_checked().map_or(80, |(_, columns)| columns);
        Self { style, all: MultiProgress::new(), bars: BTreeMap::new(), columns }
    }

    fn bar(&mut self, stage: &str) -> &ProgressBar {
        let narrow = self.columns < NARROW;
        self.bars.entry(stage.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            bar.set_style(spinner());
            bar.set_prefix(if narrow {
                shortened(&escape_controls(stage))
            } else {
                escape_controls(stage).into_owned()
            });
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        })
    }
}

/// A name of at most 16 characters. Of a longer one the middle is left out: stages of a matrix differ at the end.
fn shortened(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    match characters.len() {
        ..=16 => name.to_owned(),
        count => characters[..5].iter().chain(&['…']).chain(&characters[count - 10..]).collect(),
    }
}

/// A message beside a bar, which must not continue on a second line.
fn one_line(message: &str) -> String {
    escape_controls(&message.replace(['\n', '\t'], " ")).into_owned()
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:<16} {elapsed:>4}  {wide_msg}").expect("the template is valid")
}

/// Below this width in columns, a bar would leave no room for the amounts.
const NARROW: u16 = 90;

fn measured(columns: u16) -> ProgressStyle {
    let template = match columns {
        ..NARROW => "{spinner} {prefix:<16} {percent:>3}% {wide_msg}",
        _ => "{spinner} {prefix:<16} {elapsed:>4} [{bar:20}] {percent:>3}% {wide_msg}",
    };
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ")
}

impl Reporter for Bars {
    fn event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::StageStarted { stage, reasons, .. } => {
                let why = plain::reasons_text(stage, reasons);
                self.bar(stage).set_message(one_line(&why));
            }
            RunEvent::Progress { stage, done, total, .. } => {
                let columns = self.columns;
                let bar = self.bar(stage);
                if *total > 0 && bar.length() != Some(*total) {
                    bar.set_length(*total);
                    bar.set_style(measured(columns));
                }
                bar.set_position(*done);
                bar.set_message(one_line(&plain::progress_text(event)));
            }
            RunEvent::Queued { stage, tasks, .. } if tasks.iter().any(|task| task.state != ENDED) => {
                self.bar(stage).set_message(one_line(&plain::progress_text(event)));
            }
            RunEvent::StageFinished { stage, .. } => {
                if let Some(bar) = self.bars.remove(stage) {
                    bar.finish_and_clear();
                    self.all.remove(&bar);
                }
            }
            _ => {}
        }
        for line in plain::lines(event, self.style) {
            self.all.suspend(|| super::say(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_a_matrix_have_different_short_names() {
        assert_eq!(shortened("evaluate-tuned"), "evaluate-tuned");
        assert_eq!(shortened("train[learning_rate=0.001]"), "train…ate=0.001]");
        assert_eq!(shortened("train[learning_rate=0.0003]"), "train…te=0.0003]");
        assert!(shortened("train[learning_rate=0.0003]").chars().count() <= 16);
    }
}
