//! Starts a program again if it fails.

use std::path::Path;
use std::time::Instant;

use hamflow_process::{Observed, State, Use};
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
    let mut earlier: Vec<Observed> = Vec::new();
    for attempt in 1.. {
        let started = Instant::now();
        begin()?;
        let mut outcome = process::run(program, context)?;
        if let (Some(observed), Some(before)) = (&outcome.observed, earlier.last()) {
            let changes = changes(before, observed);
            if !changes.is_empty() {
                let (last, shown) = (attempt - 1, changes.join(", "));
                context.log(format!("attempt {attempt} began with other files than attempt {last}: {shown}"));
            }
        }
        if let Some(observed) = &mut outcome.observed {
            earlier.iter().for_each(|before| disown(before, observed));
        }
        let error = match &outcome.result {
            // Another attempt cannot make a missing program appear.
            Err(error) if attempt < attempts && error.category == ErrorCategory::Failed => error,
            _ => return Ok(outcome),
        };
        let seconds = started.elapsed().as_secs_f64();
        let first = error.message.lines().next().unwrap_or_default();
        context.warn(format!("attempt {attempt} of {attempts}, after {seconds:.1} s: {first}; it is started again"));
        clear(outputs, context)?;
        earlier.extend(outcome.observed);
    }
    unreachable!("the last attempt returns")
}

/// How many changed files are logged.
const SHOWN: usize = 5;

/// Whether a program made a file.
fn is_made(used: &Use) -> bool {
    used.before == State::Absent && used.is_written
}

/// What an attempt found otherwise than the one before it, and which that one did not make.
fn changes(before: &Observed, observed: &Observed) -> Vec<String> {
    let mut changes = Vec::new();
    for (path, used) in &observed.uses {
        let Some(then) = before.uses.get(path).filter(|then| then.before != used.before && !is_made(then)) else {
            continue;
        };
        let how = match (&then.before, &used.before) {
            (State::Absent, _) => "appeared",
            (_, State::Absent) => "is gone",
            _ => "changed",
        };
        changes.push(format!("`{}` {how}", path.display()));
    }
    let more = changes.len().saturating_sub(SHOWN);
    changes.truncate(SHOWN);
    changes.extend((more > 0).then(|| format!("{more} more")));
    changes
}

/// Marks what an earlier attempt made as made by the program, so that it is no input.
fn disown(before: &Observed, observed: &mut Observed) {
    let made: Vec<&Path> =
        before.uses.iter().filter(|(_, used)| is_made(used)).map(|(path, _)| path.as_path()).collect();
    for path in made {
        if let Some(used) = observed.uses.get_mut(path) {
            used.is_written_first = true;
        }
    }
}

/// Removes what an attempt left behind.
fn clear(outputs: &[Output], context: &StageContext<'_>) -> Result<(), StageError> {
    for folder in [&context.job().output_dir, context.scratch_dir()] {
        let replace = std::fs::remove_dir_all(folder).and_then(|()| std::fs::create_dir(folder));
        replace.map_err(|source| StageError::io("empty", folder, &source))?;
    }
    outputs.iter().try_for_each(|output| context.output_file(&output.path).map(|_| ()))
}
