//! Terminal output: progress bars on a terminal, plain lines elsewhere, JSON for programs.
//!
//! Nothing else writes to the terminal. Control characters in what is written are escaped here, because names of files,
//! values of tables and the output of programs come from outside.

mod bars;
mod json;
mod plain;
mod style;

use std::io::{self, Write};

use hamflow_stage_api::Redactor;
pub use style::{Style, bytes, duration, plural};

use crate::exec::RunEvent;

/// Shows the progress of a run.
pub trait Reporter {
    /// Shows one event.
    fn event(&mut self, event: &RunEvent);
}

/// The output format of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Progress bars, and one line per finished stage.
    Bars,
    /// One line per finished stage.
    Plain,
    /// One JSON object per line, on standard output.
    Json,
}

type Make = fn(Style) -> Box<dyn Reporter>;

/// All reporters. To add one, add a file and a line here.
const REPORTERS: &[(Format, Make)] = &[
    (Format::Bars, |style| Box::new(bars::Bars::new(style))),
    (Format::Plain, |style| Box::new(plain::Plain::new(style))),
    (Format::Json, |_| Box::new(json::Json::default())),
];

/// Creates the reporter for `format`.
pub fn reporter(format: Format, style: Style) -> Box<dyn Reporter> {
    let (_, make) = REPORTERS.iter().find(|(found, _)| *found == format).expect("every format has a reporter");
    make(style)
}

/// Writes a line of data to standard output. Exits quietly if the reader has closed the pipe (`hamflow status | head`).
pub fn data(line: &str) {
    match try_data(line) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            say(&format!("error: cannot write to standard output: {error}"));
            std::process::exit(3);
        }
    }
}

/// Writes a line of data to standard output and returns the error if that fails.
fn try_data(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let line = Style::of(&stdout).render(line);
    writeln!(stdout, "{line}")
}

/// Writes a message to standard error.
pub fn say(line: &str) {
    let mut stderr = io::stderr().lock();
    // A message may quote a URL with a password, as from the pipeline file.
    let line = Redactor::default().redact(line);
    let line = Style::of(&stderr).render(&line);
    let _ = writeln!(stderr, "{line}");
}
