//! A progress bar per running stage, below one line per finished stage.

use std::collections::BTreeMap;
use std::time::Duration;

use console::Term;
use hamflow_stage_api::escape_controls;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::style::Style;
use super::{Reporter, plain};
use crate::exec::RunEvent;

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
        self.bars.entry(stage.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            bar.set_style(spinner());
            bar.set_prefix(escape_controls(stage).into_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        })
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
        ..NARROW => "{spinner} {prefix:<12!} {percent:>3}% {wide_msg}",
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
