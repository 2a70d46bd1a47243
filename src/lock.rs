//! `pipeline.lock`: the digests of the inputs and outputs of every stage, for version control and for runs without the data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_stage_api::ReadKind;

use crate::digest::Digest;
use crate::fs::{self, Durability, FsError, Symlinks};

const HEADER: &str = "# Written by hamflow; keep it under version control. One fact per line, sorted.\nversion\t1\n";

/// The state of one stage in a lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockedStage {
    /// The key of the result, in hexadecimal digits.
    pub key: String,
    /// The device class that the result was computed on, if its bytes depend on it.
    pub device: Option<String>,
    /// The digests of the inputs, by port and source (`table`, `clean.table`).
    pub inputs: BTreeMap<(String, String), Digest>,
    /// The digests of the outputs, by artifact.
    pub outputs: BTreeMap<String, Digest>,
    /// The files that the program used without a declaration, by path: what it depends on, and its state. `None` if that was not observed.
    pub reads: Option<BTreeMap<String, (ReadKind, String)>>,
}

impl LockedStage {
    /// Whether both describe the same result of the same inputs, except for the outputs in `measured`, which differ by nature. The
    /// device class is ignored: it is part of the key, and older lock files do not list it.
    pub fn agrees_with(&self, other: &Self, measured: &[&str]) -> bool {
        let outputs = |stage: &Self| -> Vec<(String, Digest)> {
            let kept = stage.outputs.iter().filter(|(name, _)| !measured.contains(&name.as_str()));
            kept.map(|(name, digest)| (name.clone(), *digest)).collect()
        };
        (&self.key, &self.inputs) == (&other.key, &other.inputs) && outputs(self) == outputs(other)
    }
}

/// The state of the stages of a pipeline after its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockfile {
    /// The stages by name.
    pub stages: BTreeMap<String, LockedStage>,
}

/// An error reading a lock file.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A line that hamflow does not write, such as a merge conflict marker.
    #[error("`{text}` is not a valid line of a lock file\n  --> {}:{line}:1", path.display())]
    Malformed {
        /// The lock file.
        path: PathBuf,
        /// The line number, counted from 1.
        line: usize,
        /// The beginning of the line.
        text: String,
    },
    /// The file was written by a newer version of hamflow.
    #[error("`{}` was written by a newer version of hamflow", path.display())]
    Newer {
        /// The lock file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl LockError {
    /// What the user can do about the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Malformed { .. } => {
                Some("keep one side of the merge conflict, or delete the file: the next run writes it again")
            }
            Self::Newer { .. } => Some("update hamflow"),
            Self::Fs(_) => None,
        }
    }
}

impl Lockfile {
    /// Reads a lock file; a missing one is empty.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        match fs::read_text(path, Symlinks::Follow) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData && path.is_file() => {
                Err(LockError::Malformed { path: path.to_owned(), line: 1, text: "bytes that are not UTF-8".into() })
            }
            Err(error) => Err(LockError::Fs(fs::at("read", path)(error))),
        }
    }

    /// Writes the lock file unless it is unchanged. Returns whether it was written.
    pub fn write(&self, path: &Path) -> Result<bool, FsError> {
        let text = self.text();
        if fs::read_regular(path, Symlinks::Follow).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(false);
        }
        fs::sweep(path.parent().unwrap_or(Path::new(".")));
        fs::write(path, text.as_bytes(), Durability::Synced)?;
        Ok(true)
    }

    /// The lock files of all pipelines in a directory. Files of other programs with the extension `.lock` are ignored.
    pub fn all_in(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "lock"));
        let first = HEADER.lines().next().unwrap_or_default();
        let is_ours = |path: &PathBuf| {
            fs::read_regular(path, Symlinks::Follow).is_ok_and(|bytes| bytes.starts_with(first.as_bytes()))
        };
        named.filter(is_ours).collect()
    }

    /// A name that changes with the contents of the lock file.
    pub fn key(&self) -> String {
        Digest::of(self.text().as_bytes()).hex()[..32].to_owned()
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        for (name, LockedStage { key, device, inputs, outputs, reads }) in &self.stages {
            lines.push(format!("{name}\tkey\t{key}"));
            lines.extend(device.iter().map(|device| format!("{name}\tdevice\t{device}")));
            lines.extend(inputs.iter().map(|((port, source), digest)| {
                format!("{name}\tinput\t{}\t{}\t{digest}", escaped(port), escaped(source))
            }));
            if let Some(reads) = reads {
                lines.push(format!("{name}\treads\t{}", reads.len()));
                let line = |(path, (kind, state)): (&String, &(ReadKind, String))| {
                    format!("{name}\tread\t{}\t{}\t{state}", kind.name(), escaped(path))
                };
                lines.extend(reads.iter().map(line));
            }
            lines.extend(outputs.iter().map(|(artifact, digest)| format!("{name}\toutput\t{artifact}\t{digest}")));
        }
        lines.sort_unstable();
        let has_reads = self.stages.values().any(|stage| stage.reads.is_some());
        let mut text = if has_reads { HEADER.replace("\t1\n", "\t2\n") } else { HEADER.to_owned() };
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// Parses the text of the lock file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let mut stages: BTreeMap<String, LockedStage> = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let malformed = || LockError::Malformed {
                path: path.to_owned(),
                line: index + 1,
                text: line.chars().take(60).collect(),
            };
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                _ if line.is_empty() || line.starts_with('#') => {}
                // Version 2 has lines for `read`.
                ["version", "1" | "2"] => {}
                ["version", version] if version.parse::<u32>().is_ok_and(|version| version > 2) => {
                    return Err(LockError::Newer { path: path.to_owned() });
                }
                [stage, "key", key] if key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    stages.entry(stage.to_owned()).or_default().key = key.to_owned()
                }
                [stage, "device", device] => {
                    stages.entry(stage.to_owned()).or_default().device = Some(device.to_owned());
                }
                [stage, "input", port, source, digest] => {
                    let digest = digest.parse().map_err(|_| malformed())?;
                    let stage = stages.entry(stage.to_owned()).or_default();
                    stage.inputs.insert((unescaped(port), unescaped(source)), digest);
                }
                [stage, "read", kind, path, state] => {
                    let kind = ReadKind::parse(kind).ok_or_else(malformed)?;
                    let stage = stages.entry(stage.to_owned()).or_default();
                    stage.reads.get_or_insert_default().insert(unescaped(path), (kind, state.to_owned()));
                }
                [stage, "reads", _count] => {
                    stages.entry(stage.to_owned()).or_default().reads.get_or_insert_default();
                }
                [stage, "output", artifact, digest] => {
                    let digest = digest.parse().map_err(|_| malformed())?;
                    stages.entry(stage.to_owned()).or_default().outputs.insert(artifact.to_owned(), digest);
                }
                _ => return Err(malformed()),
            }
        }
        Ok(Self { stages })
    }

    /// The digest that the stages recorded for a declared input (`inputs.images`). `None` if they disagree, because some of them ran before
    /// it changed.
    pub fn declared_input(&self, source: &str) -> Option<Digest> {
        let inputs = self.stages.values().flat_map(|stage| &stage.inputs);
        let mut recorded = inputs.filter(|((_, found), _)| found == source).map(|(_, digest)| *digest);
        let first = recorded.next()?;
        recorded.all(|other| other == first).then_some(first)
    }
}

/// Escapes a name as one field of a line.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\t', "\\t").replace('\r', "\\r")
}

/// The name that was [`escaped`].
fn unescaped(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    let mut rest = field.chars();
    while let Some(character) = rest.next() {
        name.push(match (character, character == '\\') {
            (_, true) => match rest.next() {
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            (other, false) => other,
        });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lockfile {
        let digest = Digest::of(b"x");
        let stage = LockedStage {
            key: "a".repeat(64),
            device: Some("cpu".into()),
            inputs: BTreeMap::from([(("csv".into(), "inputs.metadata".into()), digest)]),
            outputs: BTreeMap::from([("table".into(), digest)]),
            reads: Some(
                [("~/x\ty", (ReadKind::Presence, "absent")), ("a", (ReadKind::Names, "blake3"))]
                    .map(|(path, (kind, state))| (path.to_owned(), (kind, state.to_owned())))
                    .into(),
            ),
        };
        Lockfile { stages: BTreeMap::from([("metadata".into(), stage.clone()), ("train[lr=0.1]".into(), stage)]) }
    }

    #[test]
    fn a_lock_file_round_trips_and_is_written_only_when_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.lock");
        assert_eq!(Lockfile::read(&path).unwrap(), Lockfile::default());
        assert!(lock().write(&path).unwrap());
        assert!(!lock().write(&path).unwrap());
        assert_eq!(Lockfile::read(&path).unwrap(), lock());
    }

    #[test]
    fn a_merge_conflict_is_reported_with_its_line() {
        let error = Lockfile::parse("version\t1\n<<<<<<< HEAD\n", Path::new("pipeline.lock")).unwrap_err();
        let expected = "`<<<<<<< HEAD` is not a valid line of a lock file\n  --> pipeline.lock:2:1";
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().is_some_and(|hint| hint.contains("merge conflict")));
    }
}
