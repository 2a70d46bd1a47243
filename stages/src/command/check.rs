//! Checks that an output has its declared type.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::prediction_table::ProbabilityTable;
use crate::{artifact, table};
use arrow::ipc::reader::FileReader;
use hamflow_stage_api::{ArtifactType, Output, StageError, Symlinks, open_regular, read_regular, sys};
use safetensors::SafeTensors;
use serde_json::Value;

/// Fails unless `output` is below `output_dir` and has its type. Returns warnings about what no other stage can read, and what the
/// cache does not keep.
pub(super) fn output(output: &Output, output_dir: &Path) -> Result<Vec<String>, StageError> {
    let Output { name, artifact_type, path, .. } = output;
    let full = output_dir.join(path);
    let above = full.ancestors().skip(1).take_while(|folder| folder.starts_with(output_dir));
    if let Some(link) = above.filter(|folder| folder.is_symlink()).last() {
        let message = format!("output `{name}` is behind the symlink `{}`", link.display());
        return Err(StageError::failed(message).hint("outputs must not be symlinks; write the files themselves"));
    }
    for folder in full.ancestors().skip(1).take_while(|folder| folder.starts_with(output_dir)) {
        if let Ok(metadata) = fs::symlink_metadata(folder) {
            make_readable(folder, &metadata);
        }
    }
    let missing = || {
        StageError::failed(format!("the program did not create the output `{name}`"))
            .hint(format!("it must write `{{outputs.{name}}}`"))
    };
    let metadata = fs::symlink_metadata(&full).map_err(|_| missing())?;
    let problem = if metadata.is_symlink() {
        Err("it is a symlink; outputs must not be symlinks".to_owned())
    } else if metadata.is_dir() != artifact_type.is_folder() {
        Err(format!("it is a {}", if metadata.is_dir() { "folder" } else { "file" }))
    } else if metadata.is_dir() {
        make_readable(&full, &metadata);
        listing(&full).and_then(|listed| {
            let warnings = || [empty_folders(name, &full, &listed.empty), executable(name, &full, &listed.executable)];
            folder(*artifact_type, &full, &listed.files).map(|()| warnings().into_iter().flatten().collect())
        })
    } else if !metadata.is_file() {
        Err("it is neither a file nor a folder".to_owned())
    } else {
        make_readable(&full, &metadata);
        refuse_not_a_number(output, &full)?;
        let left_out = |columns| format!("output `{name}` has columns that hamflow's own stages leave out: {columns}");
        let is_executable = is_executable(&metadata).then(|| full.clone());
        file(*artifact_type, &full).map(|columns| {
            let executable = executable(name, &full, is_executable.as_slice());
            columns.map(left_out).into_iter().chain(executable).collect()
        })
    };
    problem.map_err(|problem| StageError::failed(format!("output `{name}` is not a valid {artifact_type}: {problem}")))
}

/// Adds the permissions that the cache needs to read a file and to move it.
fn make_readable(path: &Path, metadata: &fs::Metadata) {
    let (mode, needed) = (sys::mode(metadata), if metadata.is_dir() { 0o700 } else { 0o400 });
    if mode & needed != needed {
        // If this fails, reading the file reports the error.
        let _ = fs::set_permissions(path, sys::permissions(mode | needed));
    }
}

/// Says which folders are lost.
fn empty_folders(output: &str, folder: &Path, empty: &[PathBuf]) -> Option<String> {
    let first = empty.iter().min()?.strip_prefix(folder).ok()?.display().to_string();
    let which = match empty.len() {
        1 => format!("the empty folder `{first}`"),
        count => format!("{count} empty folders, such as `{first}`"),
    };
    Some(format!(
        "output `{output}` has {which}, and the cache keeps only files; write a file into each folder that matters"
    ))
}

/// Says which files lose their permission to be executed.
fn executable(output: &str, folder: &Path, executable: &[PathBuf]) -> Option<String> {
    let first = executable.iter().min()?;
    let first = match first.strip_prefix(folder) {
        Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
        _ => first.file_name()?.to_string_lossy().into_owned(),
    };
    let which = match executable.len() {
        1 => format!("`{first}` is executable"),
        count => format!("{count} files are executable, such as `{first}`"),
    };
    Some(format!(
        "output `{output}`: {which}, and the cache keeps no permissions; name the interpreter where it is used (`sh {first}`)"
    ))
}

fn is_executable(metadata: &fs::Metadata) -> bool {
    sys::mode(metadata) & 0o111 != 0
}

/// What is below a folder.
#[derive(Default)]
struct Listing {
    files: Vec<PathBuf>,
    /// The folders with nothing in them.
    empty: Vec<PathBuf>,
    /// The files that may be executed.
    executable: Vec<PathBuf>,
}

/// Every file below a folder. No file at all, a symlink or a name that the cache cannot store is an error.
fn listing(folder: &Path) -> Result<Listing, String> {
    let Listing { mut files, mut empty, mut executable } = Listing::default();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(current) = pending.pop() {
        let mut is_empty = true;
        for entry in fs::read_dir(&current).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            if kind.is_symlink() {
                return Err(format!("`{}` is a symlink; outputs must not contain symlinks", entry.path().display()));
            }
            let name = entry.file_name();
            if name.to_str().is_none_or(|name| name.contains('\n')) {
                return Err(format!("the file name `{}` is not a single line of UTF-8", entry.path().display()));
            }
            if let Ok(metadata) = entry.metadata() {
                make_readable(&entry.path(), &metadata);
                if kind.is_file() && is_executable(&metadata) {
                    executable.push(entry.path());
                }
            }
            if !kind.is_dir() && !kind.is_file() {
                return Err(format!("`{}` is neither a file nor a folder", entry.path().display()));
            }
            if kind.is_dir() {
                pending.push(entry.path())
            } else {
                files.push(entry.path())
            }
            is_empty = false;
        }
        if is_empty {
            empty.push(current);
        }
    }
    if files.is_empty() { Err("it is empty".to_owned()) } else { Ok(Listing { files, empty, executable }) }
}

fn folder(artifact_type: ArtifactType, folder: &Path, files: &[PathBuf]) -> Result<(), String> {
    let ending =
        |wanted: &'static str| files.iter().filter(move |path| path.extension().is_some_and(|it| it == wanted));
    match artifact_type {
        artifact::SHARDS => {
            if ending("arrow").next().is_none() {
                return Err("it has no `.arrow` file".to_owned());
            }
            ending("arrow").try_for_each(|path| {
                let reader = FileReader::try_new(open(path)?, None).map_err(|error| of(path, &error))?;
                let schema = reader.schema();
                let has = |column: &str| schema.column_with_name(column).is_some();
                if has("image_id") && has("image") {
                    Ok(())
                } else {
                    Err(of(path, &"no columns `image_id` and `image`"))
                }
            })
        }
        artifact::MODEL => {
            let weights = read(&folder.join("model.safetensors"))?;
            SafeTensors::read_metadata(&weights).map_err(|error| format!("`model.safetensors`: {error}"))?;
            json(&folder.join("card.json"))
        }
        artifact::FIGURES if ending("svg").next().is_none() => Err("it has no `.svg` file".to_owned()),
        _ => Ok(()),
    }
}

/// Checks a file; returns the columns that no other stage can read.
fn file(artifact_type: ArtifactType, path: &Path) -> Result<Option<String>, String> {
    if artifact_type == artifact::PREDICTIONS {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let checked = ProbabilityTable::check(&name, read(path)?);
        return checked.map(|()| None).map_err(|error| match error.hint {
            Some(hint) => format!("{}; {hint}", error.message),
            None => error.message,
        });
    }
    if matches!(artifact_type, ArtifactType::TABLE | artifact::INDEX) {
        let unreadable = table::unreadable_columns(read(path)?)?;
        return Ok((!unreadable.is_empty()).then(|| unreadable.join(", ")));
    }
    other_file(artifact_type, path).map(|()| None)
}

fn other_file(artifact_type: ArtifactType, path: &Path) -> Result<(), String> {
    match artifact_type {
        _ if is_json(artifact_type) => json(path),
        ArtifactType::PAGE if read(path)?.is_empty() => Err("it is empty".to_owned()),
        artifact::CSV => {
            let bytes = read(path)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            let header = text.lines().next().unwrap_or_default();
            if header.trim().is_empty() { Err("it has no header".to_owned()) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn json(path: &Path) -> Result<(), String> {
    let bytes = read(path)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(of(
            path,
            &"it begins with a byte order mark; write UTF-8 without one (Python: `encoding=\"utf-8\"`)",
        ));
    }
    serde_json::from_slice::<Value>(&bytes).map(|_| ()).map_err(|error| of(path, &format!("not JSON: {error}")))
}

/// Fails if a file of JSON has a number that JSON does not have, as Python writes them.
fn refuse_not_a_number(output: &Output, path: &Path) -> Result<(), StageError> {
    let Output { name, artifact_type, .. } = output;
    if !is_json(*artifact_type) {
        return Ok(());
    }
    let bytes = read_regular(path, Symlinks::Follow).map_err(|source| StageError::io("read", path, &source))?;
    let Err(error) = serde_json::from_slice::<Value>(&bytes) else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let Some(word) = not_a_number(line, error.column()) else { return Ok(()) };
    let message = format!(
        "output `{name}` has no {artifact_type} that can be read: `{word}` in line {} is not JSON",
        error.line()
    );
    let hint =
        "write `null` for a value that is undefined (NaN, infinite), in Python `x if math.isfinite(x) else None`";
    Err(StageError::failed(message).hint(hint))
}

fn is_json(artifact_type: ArtifactType) -> bool {
    matches!(artifact_type, artifact::SUMMARY | artifact::BALANCE | artifact::HISTORY | ArtifactType::METRICS)
}

/// The word at an error in a line, if it is one of those that Python writes for numbers that JSON does not have.
fn not_a_number(line: &str, column: usize) -> Option<&'static str> {
    // The column is that of the first or second character of the word.
    let words = ["-Infinity", "Infinity", "NaN"];
    let starts = column.saturating_sub(3)..=column;
    starts.filter_map(|start| line.get(start..)).find_map(|rest| words.into_iter().find(|word| rest.starts_with(word)))
}

fn open(path: &Path) -> Result<File, String> {
    open_regular(path, Symlinks::Follow).map_err(|error| of(path, &error))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_regular(path, Symlinks::Follow).map_err(|error| of(path, &error))
}

fn of(path: &Path, problem: &dyn std::fmt::Display) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("`{name}`: {problem}")
}
