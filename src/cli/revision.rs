//! The lock file at a revision of Git.

use std::path::Path;
use std::process::{Command, Stdio};

use super::CliError;
use crate::lock::Lockfile;

/// Reads the lock file at `path` as it is at a revision: a commit, a branch or a tag.
pub fn lock_at(revision: &str, path: &Path) -> Result<Lockfile, CliError> {
    let (folder, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let name = name.to_string_lossy();
    if revision.starts_with('-') || revision.contains(':') {
        return Err(CliError::user(format!("`{revision}` is not a revision of Git")));
    }
    let shown = Command::new("git")
        .args(["show", &format!("{revision}:./{name}")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CliError::user(format!("cannot start `git`: {error}")).hint("`--rev` needs Git"))?;
    if !shown.status.success() {
        let said = String::from_utf8_lossy(&shown.stderr);
        let said = said.trim().trim_start_matches("fatal: ");
        return Err(CliError::user(format!("cannot read `{name}` at revision `{revision}`: {said}"))
            .hint(format!("`--rev` compares with a committed `{name}`")));
    }
    let text = String::from_utf8(shown.stdout)
        .map_err(|_| CliError::user(format!("`{name}` at revision `{revision}` is not UTF-8")))?;
    Ok(Lockfile::parse(&text, Path::new(&format!("{revision}:{name}")))?)
}
