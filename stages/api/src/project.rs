//! Projects that `hamflow init` writes for what lies in a folder.

use std::path::Path;

use crate::StageError;

/// A pipeline for the data in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedProject {
    /// The text of `pipeline.toml`.
    pub pipeline: String,
    /// What was found, one line each, for the terminal.
    pub found: Vec<String>,
}

/// Looks for data in a folder and writes a pipeline for it; `None` if there is none that it knows.
pub type ProjectDetector = fn(&Path) -> Result<Option<DetectedProject>, StageError>;
