//! `${…}` in the texts of `dvc.yaml`.

use crate::config::{Entry, Node, Table, Value};

/// Marks the place of a parameter in a command, with its name between two of them.
pub(super) const MARK: char = '\u{1}';

/// What names in `${…}` mean.
pub(super) struct Scope<'a> {
    /// Values of an expansion: `item`, `key`; and `vars` of the file. They are written out.
    pub(super) values: &'a Table,
    /// Values of `params.yaml`. In commands, they become placeholders.
    pub(super) params: &'a Table,
}

impl Scope<'_> {
    /// Replaces every `${…}` of a path or another text by its value. Fails with the name that is not known.
    pub(super) fn text(&self, text: &str) -> Result<String, String> {
        self.replace(text, |name| self.value(self.values, name).or_else(|| self.value(self.params, name)))
    }

    /// Like [`Scope::text`] for a command, in which values of `params.yaml` get a mark and their names are collected.
    pub(super) fn command(&self, text: &str, used: &mut Vec<String>) -> Result<String, String> {
        self.replace(text, |name| {
            if let Some(value) = self.value(self.values, name) {
                return Some(value);
            }
            self.value(self.params, name)?;
            if !used.iter().any(|known| known == name) {
                used.push(name.to_owned());
            }
            Some(format!("{MARK}{name}{MARK}"))
        })
    }

    fn replace(&self, text: &str, mut value: impl FnMut(&str) -> Option<String>) -> Result<String, String> {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, after) = rest.split_at(start);
            // `\${x}` is text for the shell.
            if let Some(before) = before.strip_suffix('\\') {
                replaced.push_str(before);
                replaced.push_str("${");
                rest = &after[2..];
                continue;
            }
            let end = after.find('}').ok_or_else(|| after.to_owned())?;
            let name = after[2..end].trim();
            replaced.push_str(before);
            replaced.push_str(&value(name).ok_or_else(|| name.to_owned())?);
            rest = &after[end + 1..];
        }
        replaced.push_str(rest);
        Ok(replaced)
    }

    /// The text of a single value at a dotted name.
    fn value(&self, table: &Table, name: &str) -> Option<String> {
        scalar(find(table, name)?)
    }
}

/// The value at a dotted name; `[0]` is an item of a list.
pub(super) fn find<'t>(table: &'t Table, name: &str) -> Option<&'t Node> {
    let name = name.replace('[', ".").replace(']', "");
    let mut steps = name.split('.');
    let mut node = &table.get(steps.next()?)?.node;
    for step in steps {
        node = match &node.value {
            Value::Table(inner) => &inner.get(step)?.node,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(node)
}

/// The text of a single value.
pub(super) fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Table(_) => None,
    }
}

/// The items of a list, or the only value.
pub(super) fn list(entry: Option<&Entry>) -> Vec<&Node> {
    match entry.map(|entry| &entry.node) {
        Some(Node { value: Value::Array(items), .. }) => items.iter().collect(),
        Some(Node { value: Value::Null, .. }) | None => Vec::new(),
        Some(other) => vec![other],
    }
}
