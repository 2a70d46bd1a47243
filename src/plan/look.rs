//! How programs see files, as keys have it. Called by [`World`](super::world::World), which keeps the trace, and by seals.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use hamflow_stage_api::ReadKind;

/// Whether there is a file or a folder at a path.
pub fn presence(path: &Path) -> &'static str {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => "file",
        Ok(metadata) if metadata.is_dir() => "folder",
        Ok(_) => "other",
        Err(_) => "absent",
    }
}

/// Names in the project that hamflow writes itself.
const OWN: [&str; 2] = ["cache", "out"];

/// The names in a folder that matter to a program, one per line; `None` if it is not a folder.
pub fn names(folder: &Path, kind: ReadKind, is_project: bool) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry)));
    let matters = |(name, entry): &(String, DirEntry)| {
        let is_own = is_project && (OWN.contains(&&name[..]) || name.ends_with(".lock"));
        let is_module = || {
            let suffixes = [".py", ".pyc", ".so"];
            suffixes.iter().any(|suffix| name.ends_with(suffix)) || entry.path().join("__init__.py").is_file()
        };
        name != "__pycache__" && !is_own && (kind != ReadKind::Modules || is_module())
    };
    let mut names: Vec<String> = named.filter(matters).map(|(name, _)| name).collect();
    names.sort_unstable();
    Some(names.iter().map(|name| format!("{name}\n")).collect())
}

/// The file at a path of a key: relative to the project, below `~/`, or absolute.
pub fn full(path: &str, project: &Path) -> PathBuf {
    match path.strip_prefix("~/").zip(std::env::home_dir()) {
        Some((below, home)) => home.join(below),
        None if path == "." => project.to_owned(),
        None => project.join(path),
    }
}
