//! Chooses the shell for a line.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hamflow_stage_api::StageError;

use super::shell::Shape;

/// Shells that may know `set -o pipefail` (POSIX.1-2024). The options make bash read a line more like dash: `echo`
/// replaces backslashes, braces are not expanded, and `-e` holds in substitutions, too.
const CANDIDATES: [&[&str]; 2] = [&["sh"], &["bash", "-O", "xpg_echo", "-O", "inherit_errexit", "+B"]];

/// The shells that a stage may name: they share the syntax and the options of the POSIX shell.
const NAMES: [&str; 5] = ["sh", "bash", "dash", "ksh", "zsh"];

/// Whether a stage may name this shell, with or without a path.
pub(super) fn is_shell(shell: &str) -> bool {
    NAMES.contains(&shell.rsplit('/').next().unwrap_or_default())
}

/// The shells that a stage may name, for messages.
pub(super) fn shells() -> String {
    format!("`{}`, with or without a path", NAMES.join("`, `"))
}

/// The shell and its options for a line of this shape. `own` is the shell that the stage names.
///
/// A strict line fails as soon as one of its commands fails, also one in front of a pipe.
pub(super) fn of(shape: &Shape, strict: Option<bool>, own: Option<&str>) -> Result<Vec<String>, StageError> {
    let shell = own.unwrap_or("sh");
    let words: Vec<&str> = match (strict == Some(true), shape.has_pipe) {
        (false, _) => vec![shell],
        (true, false) => vec![shell, "-e"],
        (true, true) => match own {
            Some(own) if !knows_pipefail(&[own]) => {
                let message =
                    format!("`run` has a pipe, but `{own}` is not installed or does not support `set -o pipefail`");
                return Err(StageError::input(message)
                    .hint("name another `shell`; or set `strict = false`, so that only the last command decides"));
            }
            Some(own) => vec![own, "-e", "-o", "pipefail"],
            None => [with_pipefail()?, &["-e", "-o", "pipefail"]].concat(),
        },
    };
    Ok(words.into_iter().map(str::to_owned).collect())
}

fn with_pipefail() -> Result<&'static [&'static str], StageError> {
    static FOUND: OnceLock<Option<&[&str]>> = OnceLock::new();
    let found = FOUND.get_or_init(|| CANDIDATES.into_iter().find(|candidate| knows_pipefail(candidate)));
    found.ok_or_else(|| {
        StageError::input("`run` has a pipe, but no installed shell supports `set -o pipefail`")
            .hint("install bash; or set `strict = false`, so that only the last command decides")
    })
}

fn knows_pipefail(shell: &[&str]) -> bool {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-o", "pipefail", "-c", ":"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
