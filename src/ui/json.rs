//! One JSON object per event, on standard output.

use super::Reporter;
use crate::exec::RunEvent;

/// Shows a run to programs.
pub struct Json;

impl Reporter for Json {
    fn event(&mut self, event: &RunEvent) {
        super::data(&serde_json::to_string(event).expect("an event has only string keys"));
    }
}
