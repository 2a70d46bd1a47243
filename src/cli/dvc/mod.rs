//! `hamflow init --from dvc.yaml`: converts a pipeline of DVC.
//!
//! 1. `dvc.yaml` is read into stages; `foreach`, `matrix` and `${…}` are expanded (`read`, `expand`, `template`).
//! 2. Dependencies become declared inputs and references to stages, and paths in commands become placeholders (`convert`, `words`).
//! 3. Stages whose programs have paths of their own get a working folder with what they expect there (`write`).
//!
//! What has no counterpart is said in notes.

mod convert;
mod expand;
mod plots;
mod read;
mod template;
mod words;
mod write;

use std::path::Path;

use super::CliError;
use crate::fs::{self, Symlinks};

/// A converted pipeline.
pub struct Converted {
    /// The text of `pipeline.toml`.
    pub pipeline: String,
    /// What to know about it, and what was not converted.
    pub notes: Vec<String>,
}

/// Converts the pipeline in a `dvc.yaml`.
pub fn convert(file: &Path) -> Result<Converted, CliError> {
    let text = fs::read_text(file, Symlinks::Follow).map_err(crate::fs::at("read", file))?;
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut notes = Vec::new();
    let pipeline = read::read(&text, file, folder, &mut notes)?;
    let name = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_str()?.to_owned()));
    let converted = convert::convert(pipeline, folder, &mut notes);
    Ok(Converted { pipeline: write::write(&converted, &name.unwrap_or_else(|| "pipeline".to_owned())), notes })
}

#[cfg(test)]
mod tests;
