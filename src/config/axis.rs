//! The axes of a stage's matrix and their values.

use hamflow_stage_api::{Port, near_miss::did_you_mean};

use super::diagnostic::{Mistake, Mistakes, Span};
use super::known_kinds::KnownKind;
use super::reader::read;
use super::sections::StageSection;
use super::value::{Entry, Node, Table, Value, label};

/// The parameter that has values by name.
pub(crate) const VALUES: &str = "params";

/// One axis of a matrix.
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) span: Span,
    pub(crate) role: Role,
    /// In the order of the file.
    pub(crate) values: Vec<AxisValue>,
}

/// What an axis varies.
pub(crate) enum Role {
    Parameter,
    /// A value in the parameter `params`, which has the values of a program by name.
    Value,
    Seed,
    Port(Port),
}

/// One value of an axis with its text in the stage's name.
pub(crate) struct AxisValue {
    pub(crate) label: String,
    pub(crate) node: Node,
}

impl AxisValue {
    /// The reference on an axis of references.
    pub(crate) fn reference(&self) -> &str {
        match &self.node.value {
            Value::String(text) => text,
            _ => &self.label,
        }
    }
}

/// Reads `[stages.NAME.matrix]`, sorted by axis.
///
/// An axis overrides a plain value of the same name, so that a profile can sweep a parameter that the file sets. `stage` is the table of
/// the stage.
pub(crate) fn read_matrix(
    place: &str,
    kind: &KnownKind,
    stage: &Table,
    table: &Table,
    mistakes: &mut Mistakes,
) -> Vec<Axis> {
    let values = stage.get(VALUES).and_then(|entry| match &entry.node.value {
        Value::Table(values) => Some(values),
        _ => None,
    });
    let (spec, properties) = (&kind.spec, kind.properties());
    let mut axes = Vec::new();
    for entry in &dotted(table, "") {
        let name = entry.key.as_str();
        let role = if name == "seed" && spec.seeded {
            Role::Seed
        } else if let Some(port) = spec.ports.iter().find(|port| port.name == name) {
            Role::Port(port.clone())
        } else if properties.is_none_or(|names| names.iter().any(|known| known == name)) {
            Role::Parameter
        } else if values.is_some_and(|values| find(values, name).is_some()) {
            Role::Value
        } else {
            let known = properties.unwrap_or_default().iter().map(String::as_str);
            let known = known.chain(values.into_iter().flat_map(Table::keys));
            let hint = did_you_mean(name, known.chain(spec.ports.iter().map(|port| port.name.as_str())))
                .unwrap_or_else(|| match properties.unwrap_or_default().iter().any(|known| known == VALUES) {
                    true => format!("for a value of the program, set a default: `params = {{ {name} = … }}`"),
                    false => "an axis is a parameter of the stage, one of its inputs, or `seed`".to_owned(),
                });
            mistakes.push(Mistake::new(entry.key_span, format!("{place}: unknown axis `{name}`")).hint(hint));
            continue;
        };
        let values = read_values(place, entry, &role, mistakes);
        axes.push(Axis { name: name.to_owned(), span: entry.key_span, role, values });
    }
    axes.sort_by(|a, b| a.name.cmp(&b.name));
    axes
}

/// The entries of a table that are not tables, with the names of nested ones joined by dots.
pub(crate) fn dotted(table: &Table, prefix: &str) -> Vec<Entry> {
    let mut axes = Vec::new();
    for entry in &table.entries {
        let key = format!("{prefix}{}", entry.key);
        match &entry.node.value {
            Value::Table(inner) => axes.extend(dotted(inner, &format!("{key}."))),
            _ => axes.push(Entry { key, ..entry.clone() }),
        }
    }
    axes
}

/// The value at a dotted name.
fn find<'t>(values: &'t Table, name: &str) -> Option<&'t Entry> {
    if let Some(entry) = values.get(name) {
        return Some(entry);
    }
    let (first, rest) = name.split_once('.')?;
    match &values.get(first)?.node.value {
        Value::Table(inner) => find(inner, rest),
        _ => None,
    }
}

/// Replaces the value at a dotted name.
pub(crate) fn replace(values: &mut Table, name: &str, node: &Node) {
    if let Some(entry) = values.get_mut(name) {
        entry.node = node.clone();
    } else if let Some((first, rest)) = name.split_once('.')
        && let Some(Entry { node: Node { value: Value::Table(inner), .. }, .. }) = values.get_mut(first)
    {
        replace(inner, rest, node);
    }
}

fn read_values(place: &str, entry: &Entry, role: &Role, mistakes: &mut Mistakes) -> Vec<AxisValue> {
    let name = &entry.key;
    let Value::Array(items) = &entry.node.value else {
        let message = format!("{place}: the axis `{name}` takes a list of values, not {}", entry.node.describe());
        mistakes.push(Mistake::new(entry.node.span, message));
        return Vec::new();
    };
    if items.is_empty() {
        mistakes.push(Mistake::new(entry.node.span, format!("{place}: the axis `{name}` has no values")));
    }
    let mut values: Vec<AxisValue> = Vec::new();
    for node in items {
        let Some(label) = label(node) else {
            let message = format!("{place}: a value of the axis `{name}` cannot be {}", node.describe());
            let hint = "strings, numbers and booleans can be part of a stage's name".to_owned();
            mistakes.push(Mistake::new(node.span, message).hint(hint));
            continue;
        };
        if label.is_empty() {
            mistakes.push(Mistake::new(node.span, format!("{place}: a value of the axis `{name}` is empty")));
            continue;
        }
        if !is_label(&label) {
            let message = format!("{place}: the value `{label}` of the axis `{name}` cannot be part of a stage's name");
            let hint = "it must not contain `[`, `]`, `,`, `=`, `/` or `\\`".to_owned();
            mistakes.push(Mistake::new(node.span, message).hint(hint));
            continue;
        }
        match role {
            Role::Port(_) if !matches!(node.value, Value::String(_)) => {
                let message = format!("{place}: `{name}` takes references, not {}", node.describe());
                mistakes.push(Mistake::new(node.span, message));
                continue;
            }
            Role::Seed if seed(place, node, mistakes).is_none() => continue,
            _ => {}
        }
        if values.iter().any(|value| value.label == label) {
            let message = format!("{place}: the axis `{name}` has the value `{label}` twice");
            mistakes.push(Mistake::new(node.span, message));
            continue;
        }
        values.push(AxisValue { label, node: node.clone() });
    }
    values
}

/// Whether a text can be part of a stage's name.
pub(crate) fn is_label(text: &str) -> bool {
    !text.contains(|c: char| "[],=/\\".contains(c) || c.is_control())
}

/// A seed: a whole number from 0, as the stage's own key takes it.
pub(crate) fn seed(place: &str, node: &Node, mistakes: &mut Mistakes) -> Option<u64> {
    let entry = Entry { key: "seed".to_owned(), key_span: node.span, node: node.clone() };
    let table = Node { value: Value::Table(Table { entries: vec![entry] }), span: node.span };
    read::<StageSection>(place, &table, mistakes)?.seed
}
