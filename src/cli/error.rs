//! What the user reads when a command cannot do its work, and the exit code.

use hamflow_stage_api::{ErrorCategory, StageError};

use crate::config::Diagnostic;
use crate::exec::{GcError, GuardError};
use crate::fs::FsError;
use crate::lock::LockError;
use crate::store::{BundleError, StoreError};
use crate::ui::Style;

/// A message and an exit code: 1 a stage failed, 2 the user must change something, 3 the disk failed, 70 a bug of ours.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub code: u8,
    /// The message, ready to be written.
    pub text: String,
}

fn labelled(text: &str) -> String {
    format!("{} {text}", Style::of(&std::io::stderr()).label("error"))
}

/// The exit code for whose move it is.
pub fn exit_code(category: ErrorCategory) -> u8 {
    match category {
        ErrorCategory::Failed | ErrorCategory::InputChanged => 1,
        ErrorCategory::Input => 2,
        ErrorCategory::Disk => 3,
        ErrorCategory::Bug => 70,
    }
}

impl CliError {
    /// The user must change something.
    pub fn user(text: impl AsRef<str>) -> Self {
        Self { code: 2, text: labelled(text.as_ref()) }
    }

    /// The cache failed.
    pub fn cache(error: StoreError) -> Self {
        let StoreError::Fs(error) = error else { return error.into() };
        let hint = "hint: make it writable, or name another directory under `[cache] dir`";
        Self::disk(&error, &format!("{hint}; `status`, `why` and `dag` work without"))
    }

    fn disk(error: &FsError, if_read_only: &str) -> Self {
        use std::io::ErrorKind as E;
        let hint = match error.source.kind() {
            E::ReadOnlyFilesystem | E::PermissionDenied => if_read_only,
            E::StorageFull => {
                "hint: make room on that disk; `hamflow cache gc --max-size 0` clears what no stage needs any more"
            }
            _ => "",
        };
        Self { code: 3, text: labelled(format!("{error}\n{hint}").trim_end()) }
    }

    /// A mistake in hamflow.
    pub fn bug(text: impl AsRef<str>) -> Self {
        Self { code: 70, text: labelled(text.as_ref()) }
    }
}

impl From<StageError> for CliError {
    fn from(error: StageError) -> Self {
        Self { code: exit_code(error.category), text: labelled(&error.to_string()) }
    }
}

impl From<FsError> for CliError {
    fn from(error: FsError) -> Self {
        Self::disk(&error, "hint: make it writable")
    }
}

impl From<GuardError> for CliError {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Held(_) => Self::user(format!("{error}\nhint: leave out `--no-wait` to wait for its end")),
            GuardError::Fs(error) => Self::cache(StoreError::Fs(error)),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let code = if matches!(error, StoreError::Fs(_)) { 3 } else { 2 };
        Self { code, text: labelled(&error.to_string()) }
    }
}

impl From<BundleError> for CliError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Fs(error) => error.into(),
            error => Self::user(error.to_string()),
        }
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        let code = if matches!(error, LockError::Fs(_)) { 3 } else { 2 };
        Self { code, text: labelled(&error.to_string()) }
    }
}

impl From<GcError> for CliError {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Lock(error) => error.into(),
            GcError::Fs(error) => error.into(),
        }
    }
}

impl From<Vec<Diagnostic>> for CliError {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        Self { code: 2, text: texts.join("\n\n") }
    }
}

impl From<Diagnostic> for CliError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { code: 2, text: diagnostic.to_string() }
    }
}
