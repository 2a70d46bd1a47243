//! Reads a section into its struct and reports every mistake in it, not only the first.

use hamflow_stage_api::near_miss::{did_you_mean, listed};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::de::{Error, Problem, Step};
use super::diagnostic::{Mistake, Mistakes, Span};
use super::field_schema::{expected, hint, schema_at, schema_of};
use super::value::{Node, Value, label};

/// Reads `node`, which messages call `place`; empty for the whole file.
///
/// An invalid value is reported and removed before the rest is read again. `None` if the remaining values are insufficient.
pub(super) fn read<T: DeserializeOwned + JsonSchema>(place: &str, node: &Node, mistakes: &mut Mistakes) -> Option<T> {
    let mut error = match T::deserialize(node) {
        Ok(section) => return Some(section),
        Err(error) => error,
    };
    let wording = Wording { place, schema: schema_of::<T>() };
    let mut rest = node.clone();
    let mut removed: Vec<Vec<Step>> = Vec::new();
    loop {
        let path = target(&error);
        let is_reported = matches!(error.problem, Problem::MissingKey { .. }) && removed.contains(&path);
        if !is_reported {
            mistakes.push(wording.mistake(&rest, &error));
        }
        // The table that lacks a key, not the key.
        let fault = if matches!(error.problem, Problem::MissingKey { .. }) { error.path() } else { path };
        if !prune(&mut rest, &fault) {
            return None;
        }
        removed.push(fault);
        error = match T::deserialize(&rest) {
            Ok(section) => return Some(section),
            Err(error) => error,
        };
    }
}

/// The steps to what an error is about: a value, or a key that is unknown or missing.
fn target(error: &Error) -> Vec<Step> {
    let mut path = error.path();
    match &error.problem {
        Problem::UnknownKey { key, .. } => path.push(Step::Key(key.clone())),
        Problem::MissingKey { key } => path.push(Step::Key((*key).to_owned())),
        Problem::Type | Problem::Value | Problem::Empty | Problem::Other(_) => {}
    }
    path
}

/// Removes the value at `path`, and the lists that it leaves empty. False where nothing could be removed.
fn prune(node: &mut Node, path: &[Step]) -> bool {
    let [step, rest @ ..] = path else { return false };
    let Some(child) = child_mut(node, step) else { return false };
    let is_list = matches!(child.value, Value::Array(_));
    if prune(child, rest) && !(is_list && matches!(&child.value, Value::Array(items) if items.is_empty())) {
        return true;
    }
    match (&mut node.value, step) {
        (Value::Table(table), Step::Key(key)) => table.remove(key).is_some(),
        (Value::Array(items), Step::Index(index)) => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

fn child_mut<'n>(node: &'n mut Node, step: &Step) -> Option<&'n mut Node> {
    match (&mut node.value, step) {
        (Value::Table(table), Step::Key(key)) => table.get_mut(key).map(|entry| &mut entry.node),
        (Value::Array(items), Step::Index(index)) => items.get_mut(*index),
        _ => None,
    }
}

/// What is written at a path, as deep as it is written.
struct Located<'n> {
    node: &'n Node,
    key: Span,
    /// The header of a table that has one, else the key.
    header: Span,
}

impl<'n> Located<'n> {
    fn find(root: &'n Node, path: &[Step]) -> Self {
        let mut found = Self { node: root, key: root.span, header: root.span };
        for step in path {
            found = match (&found.node.value, step) {
                (Value::Table(table), Step::Key(key)) => match table.get(key) {
                    Some(entry) => Self { node: &entry.node, key: entry.key_span, header: entry.header() },
                    None => break,
                },
                (Value::Array(items), Step::Index(index)) => match items.get(*index) {
                    Some(node) => Self { node, key: node.span, header: node.span },
                    None => break,
                },
                _ => break,
            };
        }
        found
    }
}

/// Finds the words for a mistake in a section.
struct Wording<'p> {
    place: &'p str,
    schema: Json,
}

impl Wording<'_> {
    fn mistake(&self, root: &Node, error: &Error) -> Mistake {
        let path = target(error);
        let Located { node, key: key_span, header } = Located::find(root, &path);
        let field = schema_at(&self.schema, &path).unwrap_or(&Json::Null);
        let (place, subject) = self.subject(&path);
        let place = if place.is_empty() { place } else { format!("{place}: ") };
        match &error.problem {
            Problem::UnknownKey { key, known } => {
                let intro = if place.is_empty() { "the file may have" } else { "the known keys are" };
                let hint = did_you_mean(key, known.iter().copied())
                    .unwrap_or_else(|| format!("{intro} {}", listed(known.iter().copied())));
                Mistake::new(header, format!("{place}unknown key {subject}")).hint(hint)
            }
            Problem::MissingKey { .. } => {
                Mistake::new(key_span, format!("{place}{subject} is missing")).hint(hint(field))
            }
            Problem::Type => {
                let wanted = expected(field);
                let is_section = self.place.is_empty() && wanted == "a table";
                let written = if is_section && path.len() == 1 { key_span } else { node.span };
                let hint = hint(field).or_else(|| is_section.then(|| format!("write `[{}]`", dotted(&path))));
                let message = format!("{place}{subject} {}", wrong_type(&path, &wanted, node.describe()));
                Mistake::new(written, message).hint(hint)
            }
            Problem::Value => {
                let text = label(node).unwrap_or_default();
                let problem =
                    if text.trim().is_empty() { "is empty".to_owned() } else { format!("cannot be `{text}`") };
                Mistake::new(node.span, format!("{place}{subject} {problem}")).hint(hint(field))
            }
            Problem::Empty => Mistake::new(node.span, format!("{place}{subject} is an empty list")).hint(hint(field)),
            Problem::Other(problem) => Mistake::new(node.span, format!("{place}{subject} {problem}")).hint(hint(field)),
        }
    }

    /// The table that holds the value at `path`, and what the value is called in it.
    fn subject(&self, path: &[Step]) -> (String, String) {
        let keys: Vec<&str> = keys(path).collect();
        let is_item = matches!(path.last(), Some(Step::Index(_)));
        let subject = |name: &str| if is_item { format!("an item of `{name}`") } else { format!("`{name}`") };
        // A phrase, such as "stage `train`", is not the name of a table.
        if self.place.contains(' ') {
            return (self.place.to_owned(), subject(&keys.join(".")));
        }
        let names: Vec<&str> = std::iter::once(self.place).filter(|place| !place.is_empty()).chain(keys).collect();
        let (name, tables) = names.split_last().map_or(("", &[][..]), |(name, tables)| (*name, tables));
        (tables.join("."), subject(name))
    }
}

fn wrong_type(path: &[Step], wanted: &str, found: &str) -> String {
    if matches!(path.last(), Some(Step::Index(_))) {
        format!("is {found}, not {wanted}")
    } else if found == "a number" && wanted.contains("number") {
        format!("takes {wanted}")
    } else {
        format!("takes {wanted}, not {found}")
    }
}

fn keys(path: &[Step]) -> impl Iterator<Item = &str> {
    path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    })
}

fn dotted(path: &[Step]) -> String {
    keys(path).collect::<Vec<_>>().join(".")
}
