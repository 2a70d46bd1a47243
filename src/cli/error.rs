//! Errors as the user sees them, with the exit code of the process.

use std::fmt;
use std::io::ErrorKind;

use hamflow_stage_api::{CommandError, ErrorCategory, StageError};

use crate::config::Diagnostic;
use crate::exec::{GcError, GuardError};
use crate::fs::FsError;
use crate::lock::LockError;
use crate::store::{BundleError, StoreError};
use crate::ui::Style;

/// An error that ends a command.
///
/// Exit codes: 1 a stage failed, 2 the user must change something, 3 the disk failed, 70 an internal error.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub code: u8,
    report: Report,
}

/// What is printed to standard error.
#[derive(Debug)]
enum Report {
    /// One message; `hint` says what to do about it.
    Message { message: String, hint: Option<String> },
    /// Errors in the pipeline file, each with its location and hint.
    Diagnostics(Vec<Diagnostic>),
    /// An error that passed through a [contributed command](hamflow_stage_api::Subcommand), as it is printed.
    Rendered(String),
}

/// Maps an error category to an exit code.
pub fn exit_code(category: ErrorCategory) -> u8 {
    match category {
        ErrorCategory::Failed | ErrorCategory::InputChanged => 1,
        ErrorCategory::Input => 2,
        ErrorCategory::Disk => 3,
        ErrorCategory::Bug => 70,
    }
}

impl CliError {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, report: Report::Message { message: message.into(), hint: None } }
    }

    /// An error that the user must fix.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// A failed write to the cache.
    pub fn cache(error: StoreError) -> Self {
        let StoreError::Fs(error) = error else { return error.into() };
        Self::disk(
            &error,
            "make it writable, or name another directory under `[cache] dir`; `status`, `why` and `dag` also work on a read-only cache",
        )
    }

    fn disk(error: &FsError, hint_if_read_only: &str) -> Self {
        let hint = match error.source.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Some(hint_if_read_only),
            ErrorKind::StorageFull => Some(
                "free some space on that disk; `hamflow cache gc --max-size 0` deletes cached results that are no longer needed",
            ),
            _ => None,
        };
        Self::new(3, error.to_string()).with_hint(hint)
    }

    /// An internal error.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(70, message)
    }

    /// Adds a hint, which is printed on a line of its own.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.with_hint(Some(hint))
    }

    /// Adds a hint if there is one.
    pub fn with_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        if let (Report::Message { hint: found, .. }, Some(hint)) = (&mut self.report, hint) {
            *found = Some(hint.into());
        }
        self
    }
}

impl fmt::Display for CliError {
    /// Formats the error for standard error, in colour where that is a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.report {
            Report::Message { message, hint } => {
                write!(f, "{} {message}", Style::of(&std::io::stderr()).label("error"))?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
            }
            Report::Diagnostics(diagnostics) => {
                let texts: Vec<String> = diagnostics.iter().map(Diagnostic::render).collect();
                f.write_str(&texts.join("\n\n"))
            }
            Report::Rendered(text) => f.write_str(text),
        }
    }
}

impl From<StageError> for CliError {
    fn from(mut error: StageError) -> Self {
        let hint = error.hint.take();
        Self::new(exit_code(error.category), error.to_string()).with_hint(hint)
    }
}

impl From<CommandError> for CliError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Stage(error) => error.into(),
            CommandError::Engine { code, text } => Self { code, report: Report::Rendered(text) },
        }
    }
}

impl From<CliError> for CommandError {
    fn from(error: CliError) -> Self {
        Self::Engine { code: error.code, text: error.to_string() }
    }
}

impl From<FsError> for CliError {
    fn from(error: FsError) -> Self {
        Self::disk(&error, "make it writable")
    }
}

impl From<GuardError> for CliError {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Held(_) => Self::user(error.to_string()).hint("omit `--no-wait` to wait until that run ends"),
            GuardError::Fs(error) => Self::cache(StoreError::Fs(error)),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let code = if matches!(error, StoreError::Fs(_)) { 3 } else { 2 };
        Self::new(code, error.to_string()).with_hint(error.hint())
    }
}

impl From<BundleError> for CliError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Fs(error) => error.into(),
            error => Self::user(error.to_string()).with_hint(error.hint()),
        }
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        let code = if matches!(error, LockError::Fs(_)) { 3 } else { 2 };
        Self::new(code, error.to_string()).with_hint(error.hint())
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
        Self { code: 2, report: Report::Diagnostics(diagnostics) }
    }
}

impl From<Diagnostic> for CliError {
    fn from(diagnostic: Diagnostic) -> Self {
        vec![diagnostic].into()
    }
}
