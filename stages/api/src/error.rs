//! Errors of a stage, with a place and a hint.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Who has to act on an error; determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCategory {
    /// The user must change a parameter, the data or the pipeline (exit code 2).
    Input,
    /// The work itself failed, e.g. a program's exit status or a NaN loss (exit code 1).
    Failed,
    /// An input changed while the stage ran, so its result is not cached (exit code 1).
    InputChanged,
    /// A disk error (exit code 3).
    Disk,
    /// An internal error in hamflow (exit code 70).
    Bug,
}

/// A position in a user's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub path: String,
    /// Line, 1-based; 0 if unknown.
    pub line: u64,
    /// Column, 1-based; 0 if unknown.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column } = self;
        f.write_str(path)?;
        if *line > 0 {
            write!(f, ":{line}")?;
        }
        if *column > 0 {
            write!(f, ":{column}")?;
        }
        Ok(())
    }
}

/// An error of a stage; displayed as message and place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", place.as_ref().map_or(String::new(), |place| format!("\n  --> {place}")))]
pub struct StageError {
    /// Who has to act.
    pub category: ErrorCategory,
    /// One sentence that starts in lowercase, with names in backticks.
    pub message: String,
    /// The position in a user's file, if there is one.
    pub place: Option<Place>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl StageError {
    fn new(category: ErrorCategory, message: impl Into<String>) -> Self {
        Self { category, message: message.into(), place: None, hint: None }
    }

    /// An error that the user must fix.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Input, message)
    }

    /// A failure of the work itself.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Failed, message)
    }

    /// An input whose bytes no longer match the digest in the key.
    pub fn input_changed(path: &Path) -> Self {
        Self::new(ErrorCategory::InputChanged, format!("`{}` changed while the stage ran", path.display()))
            .hint("nothing of this stage was cached; run again when the file is complete")
    }

    /// An internal error.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Bug, message)
    }

    /// A failed system call on `path`. Errors such as a full disk count as [`ErrorCategory::Disk`].
    pub fn io(action: &str, path: &Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let category = match source.kind() {
            E::NotFound | E::PermissionDenied | E::IsADirectory | E::NotADirectory | E::InvalidData => {
                ErrorCategory::Input
            }
            _ => ErrorCategory::Disk,
        };
        let error = Self::new(category, format!("cannot {action} `{}`: {source}", path.display()));
        match source.kind() {
            E::StorageFull => error.hint("free disk space and run again; finished work is kept"),
            _ => error,
        }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text for the terminal: message, place and hint, each on a line of its own.
    pub fn render(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{self}\nhint: {hint}"),
            None => self.to_string(),
        }
    }

    /// Adds a position; line and column are 1-based, 0 means unknown.
    pub fn at(mut self, path: impl Into<String>, line: u64, column: u64) -> Self {
        self.place = Some(Place { path: path.into(), line, column });
        self
    }
}

/// A rejected parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParamError {
    /// The path to the parameter within the stage, e.g. `["outputs", "y"]`; empty for the stage as a whole.
    pub path: Vec<String>,
    /// One sentence that starts in lowercase.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ParamError {
    /// Rejects the parameter `name`.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        let path = name.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { path, message: message.into(), hint: None }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
