//! The tables and images below a folder.

use std::collections::BTreeSet;
use std::path::Path;

use hamflow_stage_api::StageError;

use crate::image_names::id_of_path;

/// The files below a folder, with paths relative to it and `/` as separator, sorted.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that may be tables.
    pub tables: Vec<String>,
    /// Images.
    pub images: Vec<String>,
}

/// Folders that hold no data of the user.
const WITHOUT_DATA: [&str; 7] = ["cache", "out", "target", "node_modules", "venv", "__pycache__", "__MACOSX"];

/// The maximum depth of folders.
const MAX_DEPTH: usize = 6;

/// The maximum number of files that are looked at.
const MAX_FILES: usize = 3_000_000;

/// The maximum size of a table.
const MAX_TABLE: u64 = 1 << 30;

/// The extensions of tables.
const TABLES: [&str; 5] = ["csv", "tab", "tsv", "txt", "parquet"];

/// Finds tables and images. Hidden folders and those of programs are skipped; links to folders are followed once.
pub fn walk(folder: &Path) -> Result<Found, StageError> {
    let mut found = Found::default();
    let mut pending = vec![(folder.to_path_buf(), String::new(), 0)];
    let mut seen = BTreeSet::new();
    while let Some((path, relative, depth)) = pending.pop() {
        if !path.canonicalize().is_ok_and(|path| seen.insert(path)) {
            continue;
        }
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(source) if depth == 0 => return Err(StageError::io("read", &path, &source)),
            // A folder that may not be read is none of the user's data.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if name.starts_with('.') || found.tables.len() + found.images.len() >= MAX_FILES {
                continue;
            }
            if metadata.is_dir() {
                if depth < MAX_DEPTH && !(depth == 0 && WITHOUT_DATA.contains(&&name[..])) {
                    pending.push((entry.path(), below, depth + 1));
                }
            } else if id_of_path(&below).is_some() {
                found.images.push(below);
            } else if is_table(&name) && metadata.len() <= MAX_TABLE {
                found.tables.push(below);
            }
        }
    }
    found.tables.sort_unstable();
    found.images.sort_unstable();
    Ok(found)
}

fn is_table(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| TABLES.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// The folders with these files; their common parent if there are many, or if some of the files lie directly in it.
pub fn folders_of(paths: &[String]) -> Vec<String> {
    const MANY: usize = 4;
    let folders: BTreeSet<&str> =
        paths.iter().map(|path| path.rsplit_once('/').map_or(".", |(folder, _)| folder)).collect();
    let parents: BTreeSet<&str> =
        folders.iter().filter(|folder| !folders.iter().any(|other| is_below(folder, other))).copied().collect();
    if parents.len() <= MANY {
        return parents.into_iter().map(str::to_owned).collect();
    }
    vec![common_folder(paths)]
}

/// The deepest folder that has other folders with all of these files.
pub fn common_folder(paths: &[String]) -> String {
    let folders: BTreeSet<&str> =
        paths.iter().map(|path| path.rsplit_once('/').map_or(".", |(folder, _)| folder)).collect();
    let mut common = folders.iter().next().map_or(".", |first| first).to_owned();
    while common != "." && !folders.iter().all(|folder| is_below(folder, &common)) {
        common = common.rsplit_once('/').map_or(".".to_owned(), |(above, _)| above.to_owned());
    }
    common
}

fn is_below(folder: &str, above: &str) -> bool {
    folder != above && (above == "." || folder.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_folders_are_named_and_many_have_a_common_one() {
        let of = |paths: &[&str]| folders_of(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a/1.jpg", "a/2.jpg", "b/3.jpg"]), ["a", "b"]);
        assert_eq!(of(&["a/1.jpg", "a/sub/2.jpg"]), ["a"]);
        assert_eq!(of(&["1.jpg", "a/2.jpg"]), ["."]);
        assert_eq!(of(&["d/a/1.jpg", "d/b/1.jpg", "d/c/1.jpg", "d/d/1.jpg", "d/e/1.jpg"]), ["d"]);
        assert_eq!(of(&["a/1.jpg", "b/1.jpg", "c/1.jpg", "d/1.jpg", "e/1.jpg"]), ["."]);
    }
}
