//! Prints each event as a JSON object on standard output.

use super::{Reporter, say, try_data};
use crate::exec::RunEvent;

/// Reports a run to other programs.
#[derive(Default)]
pub struct Json {
    /// Whether the reader has closed the pipe. The run continues without it.
    closed: bool,
}

impl Reporter for Json {
    fn event(&mut self, event: &RunEvent) {
        let line = serde_json::to_string(event).expect("an event has only string keys");
        if !self.closed
            && let Err(error) = try_data(&line)
        {
            self.closed = true;
            say(&format!("warning: cannot write to standard output any more: {error}"));
        }
    }
}
