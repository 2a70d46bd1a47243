//! One JSON object per event, on standard output.

use super::{Reporter, say, try_data};
use crate::exec::RunEvent;

/// Shows a run to programs.
#[derive(Default)]
pub struct Json {
    /// Nobody reads any more. The run goes on: it is not the reader's to end.
    gone: bool,
}

impl Reporter for Json {
    fn event(&mut self, event: &RunEvent) {
        let line = serde_json::to_string(event).expect("an event has only string keys");
        if !self.gone
            && let Err(error) = try_data(&line)
        {
            self.gone = true;
            say(&format!("warning: standard output cannot be written any more: {error}"));
        }
    }
}
