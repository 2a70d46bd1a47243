//! The run lock, for commands that change the cache.

use super::{CliError, project};
use crate::exec::RunGuard;
use crate::ui;

/// Takes the run lock of the cache, waiting for a run in progress.
pub(super) fn guard(opened: &project::Project) -> Result<RunGuard, CliError> {
    opened.store.check_is_cache()?;
    let waiting =
        &mut |holder: &crate::exec::Holder| ui::say(&format!("waiting for another run to finish: {}", holder.text));
    let guard = RunGuard::take(opened.store.root(), Some(waiting))?;
    opened.store.create().map_err(CliError::cache)?;
    Ok(guard)
}
