//! Values of programs that are in a file of their own: `params = "params.yaml"`, of which `params_used` selects some.

use std::collections::BTreeMap;
use std::path::Path;

use hamflow_stage_api::{Digest, near_miss::did_you_mean};

use super::axis::VALUES;
use super::diagnostic::{Mistake, Mistakes, Sources, Span};
use super::pipeline::Kinds;
use super::value::{Entry, Node, Table, Value, parse_document};
use super::{json, yaml};
use crate::fs::{Symlinks, read_regular};

/// The key of a stage that selects values of its file.
const USED: &str = "params_used";

/// The files that stages take values from.
#[derive(Default)]
pub(super) struct ParamsFiles {
    /// The file of each stage, as written.
    of_stage: BTreeMap<String, String>,
    /// What is in each file.
    read: BTreeMap<String, (Digest, Table)>,
    /// Whether a file could not be read, so that mistakes in what depends on it would be consequences.
    has_failed: bool,
}

impl ParamsFiles {
    /// The file of a stage, as written.
    pub(super) fn of(&self, stage: &str) -> Option<&str> {
        self.of_stage.get(stage).map(String::as_str)
    }

    /// Whether all files were read.
    pub(super) fn are_read(&self) -> bool {
        !self.has_failed
    }

    /// The files with the digests of their content.
    pub(super) fn digests(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.read.iter().map(|(path, (digest, _))| (&path[..], *digest))
    }

    /// Replaces each path at `params` by the values in the file. To be called before and after each change of `root`, so that changes
    /// are merged into the values of files.
    pub(super) fn replace(
        &mut self,
        root: &mut Table,
        kinds: Kinds,
        folder: &Path,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) {
        for stage in stages(root) {
            let name = stage.key.clone();
            let Value::Table(table) = &mut stage.node.value else { continue };
            let kind = match table.get("kind").map(|entry| &entry.node.value) {
                Some(Value::String(kind)) => kind.clone(),
                _ => name.clone(),
            };
            let has_values = kinds.iter().any(|known| known.spec().name == kind && known.spec().dynamic_ports);
            let Some(entry) = table.get_mut(VALUES).filter(|_| has_values) else { continue };
            let Value::String(path) = entry.node.value.clone() else { continue };
            let before = mistakes.len();
            let values = self.values(&path, entry.node.span, folder, sources, mistakes);
            self.has_failed |= mistakes.len() > before;
            entry.node.value = Value::Table(values.unwrap_or_default());
            self.of_stage.insert(name, path);
        }
    }

    fn values(
        &mut self,
        path: &str,
        span: Span,
        folder: &Path,
        sources: &mut Sources,
        mistakes: &mut Mistakes,
    ) -> Option<Table> {
        if let Some((_, table)) = self.read.get(path) {
            return Some(table.clone());
        }
        let bytes = match read_regular(&folder.join(path), Symlinks::Follow) {
            Ok(bytes) => bytes,
            Err(error) => {
                let hint = "`params` is a table of values, or the path of a file relative to `pipeline.toml`";
                let message = format!("cannot read the parameters in `{path}`: {error}");
                mistakes.push(Mistake::new(span, message).hint(hint.to_owned()));
                return None;
            }
        };
        let digest = Digest::of(&bytes);
        let Ok(text) = String::from_utf8(bytes) else {
            mistakes.push(Mistake::new(span, format!("`{path}` is not UTF-8")));
            return None;
        };
        let source = sources.add_file(path, &text);
        let table = match Path::new(path).extension().and_then(|extension| extension.to_str()) {
            Some("toml") => parse_document(source, &text, mistakes),
            Some("yaml" | "yml") => yaml::parse_document(source, &text, mistakes),
            Some("json") => json::parse_document(source, &text, mistakes),
            _ => {
                let message = format!("the format of `{path}` is not known from its name");
                let hint = "parameters are in `.toml`, `.yaml`, `.yml` or `.json` files".to_owned();
                mistakes.push(Mistake::new(span, message).hint(hint));
                return None;
            }
        };
        self.read.insert(path.to_owned(), (digest, table.clone()));
        Some(table)
    }

    /// Removes the values that `params_used` does not select.
    pub(super) fn select(&self, root: &mut Table, mistakes: &mut Mistakes) {
        for stage in stages(root) {
            let name = stage.key.clone();
            let Value::Table(table) = &mut stage.node.value else { continue };
            let Some(used) = table.get(USED).cloned() else { continue };
            let Some(file) = self.of(&name) else {
                let message = format!("stage `{name}`: `{USED}` has no effect, because `params` is not a file");
                mistakes.push(Mistake::new(used.key_span, message).hint("write `params = \"params.yaml\"`".to_owned()));
                continue;
            };
            let (Value::Array(patterns), Some(entry)) = (&used.node.value, table.get_mut(VALUES)) else { continue };
            let Value::Table(values) = &mut entry.node.value else { continue };
            let mut selected = Table::default();
            for pattern in patterns {
                let Value::String(text) = &pattern.value else { continue };
                let steps: Vec<&str> = text.split('.').collect();
                if !take(values, &steps, &mut selected) {
                    let known = names(values);
                    let hint = did_you_mean(text, known.iter().map(String::as_str));
                    let message = format!("stage `{name}`: `{USED}` names `{text}`, but `{file}` has no such value");
                    mistakes.push(Mistake::new(pattern.span, message).hint(hint));
                }
            }
            *values = selected;
        }
    }
}

fn stages(root: &mut Table) -> impl Iterator<Item = &mut Entry> {
    let stages = root.get_mut("stages").and_then(|entry| match &mut entry.node.value {
        Value::Table(stages) => Some(&mut stages.entries),
        _ => None,
    });
    stages.into_iter().flatten()
}

/// Copies what the steps of a pattern select; `*` is any name. Whether there was anything.
fn take(values: &Table, steps: &[&str], selected: &mut Table) -> bool {
    let Some((step, rest)) = steps.split_first() else { return false };
    let mut found = false;
    for entry in values.entries.iter().filter(|entry| *step == "*" || entry.key == *step) {
        match &entry.node.value {
            _ if rest.is_empty() => selected.insert(entry.clone()),
            Value::Table(inner) => {
                let mut below = match selected.get(&entry.key).map(|entry| &entry.node.value) {
                    Some(Value::Table(below)) => below.clone(),
                    _ => Table::default(),
                };
                if !take(inner, rest, &mut below) {
                    continue;
                }
                let node = Node { value: Value::Table(below), span: entry.node.span };
                selected.insert(Entry { node, ..entry.clone() });
            }
            _ => continue,
        }
        found = true;
    }
    found
}

/// The dotted names of all values.
fn names(values: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for entry in &values.entries {
        names.push(entry.key.clone());
        if let Value::Table(inner) = &entry.node.value {
            names.extend(self::names(inner).into_iter().map(|name| format!("{}.{name}", entry.key)));
        }
    }
    names
}
