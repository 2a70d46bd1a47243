//! Files of a folder whose names match a pattern.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use hamflow_stage_api::Digest;

/// The files of a folder whose names match a pattern, as they were when stages were made for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedFiles {
    /// The folder.
    pub folder: PathBuf,
    /// The pattern of the names.
    pub pattern: String,
    /// The digest of [`matched_names`].
    pub names: Digest,
}

/// The names of the files in a folder that match a pattern, sorted, one per line.
pub fn matched_names(folder: &Path, pattern: &str) -> io::Result<String> {
    let pattern = Pattern::new(pattern).map_err(io::Error::other)?;
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        names.extend(name.ok().filter(|name| pattern.matches_with(name, options) && entry.path().is_file()));
    }
    names.sort_unstable();
    Ok(names.iter().map(|name| format!("{name}\n")).collect())
}
