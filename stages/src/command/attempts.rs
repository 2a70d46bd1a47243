//! Starts a program again if it fails.

use std::time::Instant;

use hamflow_stage_api::{ErrorCategory, Output, StageContext, StageError};

use super::process::{self, Outcome, Program};

/// Runs a program up to `retries` times more than once, each time without the outputs and temporary files of the last time. `begin` is
/// called before each attempt.
pub(super) fn run(
    program: Program<'_>,
    retries: u32,
    outputs: &[Output],
    context: &StageContext<'_>,
    begin: &dyn Fn() -> Result<(), StageError>,
) -> Result<Outcome, StageError> {
    let attempts = retries + 1;
    for attempt in 1.. {
        let started = Instant::now();
        begin()?;
        let outcome = process::run(program, context)?;
        let error = match &outcome.result {
            // Another attempt cannot make a missing program appear.
            Err(error) if attempt < attempts && error.category == ErrorCategory::Failed => error,
            _ => return Ok(outcome),
        };
        let seconds = started.elapsed().as_secs_f64();
        let first = error.message.lines().next().unwrap_or_default();
        context.warn(format!("attempt {attempt} of {attempts}, after {seconds:.1} s: {first}; it is started again"));
        clear(outputs, context)?;
    }
    unreachable!("the last attempt returns")
}

/// Removes what an attempt left behind.
fn clear(outputs: &[Output], context: &StageContext<'_>) -> Result<(), StageError> {
    for folder in [&context.job().output_dir, context.scratch_dir()] {
        let replace = std::fs::remove_dir_all(folder).and_then(|()| std::fs::create_dir(folder));
        replace.map_err(|source| StageError::io("empty", folder, &source))?;
    }
    outputs.iter().try_for_each(|output| context.output_file(&output.path).map(|_| ()))
}
