//! Shows a run: bars on a terminal, plain lines elsewhere, JSON for programs. Nothing else writes to the terminal.

mod bars;
mod json;
mod plain;
mod style;

use std::io::{self, Write};

pub use style::{Style, bytes, duration};

use crate::exec::RunEvent;

/// A way to show a run.
pub trait Reporter {
    /// Shows one event.
    fn event(&mut self, event: &RunEvent);
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bars while stages work, one line for each when it is done.
    Bars,
    /// One line for each stage when it is done.
    Plain,
    /// One JSON object per line, on standard output.
    Json,
}

type Make = fn(Style) -> Box<dyn Reporter>;

/// Every way to show a run: a new one is one file and one line here.
const REPORTERS: &[(Format, Make)] = &[
    (Format::Bars, |style| Box::new(bars::Bars::new(style))),
    (Format::Plain, |style| Box::new(plain::Plain::new(style))),
    (Format::Json, |_| Box::new(json::Json::default())),
];

/// Makes the reporter for `format`.
pub fn reporter(format: Format, style: Style) -> Box<dyn Reporter> {
    let (_, make) = REPORTERS.iter().find(|(found, _)| *found == format).expect("every format has a reporter");
    make(style)
}

/// Writes a line of data to standard output. A reader that went away (`hamflow status | head`) ends the process quietly.
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

/// Writes a line of data to standard output, for what goes on when nobody reads it.
fn try_data(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Writes a line for people to standard error.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
