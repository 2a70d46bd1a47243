//! What can go wrong in a stage, said so that its reader knows what to do.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Whose move it is after an error; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCategory {
    /// The user must change a parameter, the data or the pipeline (exit code 2).
    Input,
    /// The work itself failed: a program's exit status, a loss that became NaN (exit code 1).
    Failed,
    /// An input changed while the stage ran, so nothing may be cached (exit code 1).
    InputChanged,
    /// The disk failed (exit code 3).
    Disk,
    /// A mistake in hamflow (exit code 70).
    Bug,
}

/// Where in a user's file something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub path: String,
    /// Line, counted from 1; 0 where only the file is known.
    pub line: u64,
    /// Column, counted from 1; 0 where only the line is known.
    pub column: u64,
}

/// An error of a stage: message first, then place, then hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageError {
    /// Whose move it is.
    pub category: ErrorCategory,
    /// One sentence, lowercase at its start, names in backticks.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// The way out.
    pub hint: Option<String>,
}

impl StageError {
    fn new(category: ErrorCategory, message: impl Into<String>) -> Self {
        Self { category, message: message.into(), place: None, hint: None }
    }

    /// Something that the user must change.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Input, message)
    }

    /// Work that failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Failed, message)
    }

    /// An input whose bytes are no longer those that its key names.
    pub fn input_changed(path: &Path) -> Self {
        Self::new(ErrorCategory::InputChanged, format!("`{}` changed while the stage ran", path.display()))
            .hint("nothing of this stage was cached; run again once the file is complete")
    }

    /// A mistake in hamflow.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Bug, message)
    }

    /// A failed system call on `path`; out of space and the like count as the disk's fault.
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
            E::StorageFull => error.hint("make room on that disk and run again: what is finished is kept"),
            _ => error,
        }
    }

    /// Adds the way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where it is: lines and columns count from 1, 0 means unknown.
    pub fn at(mut self, path: impl Into<String>, line: u64, column: u64) -> Self {
        self.place = Some(Place { path: path.into(), line, column });
        self
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(Place { path, line, column }) = &self.place {
            write!(f, "\n  --> {path}")?;
            if *line > 0 {
                write!(f, ":{line}")?;
            }
            if *column > 0 {
                write!(f, ":{column}")?;
            }
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StageError {}

/// A parameter that a kind refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// The path to the parameter below the stage, such as `["outputs", "y"]`; empty for the stage as a whole.
    pub path: Vec<String>,
    /// One sentence, lowercase at its start.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl ParamError {
    /// Refuses the parameter `name`.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        let path = name.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { path, message: message.into(), hint: None }
    }

    /// Adds the way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParamError {}
