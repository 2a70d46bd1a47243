//! Reads what is written at the ports of a stage.

use hamflow_stage_api::{Access, KindSpec, Port};

use super::diagnostic::{Mistake, Mistakes};
use super::pipeline::Reference;
use super::sections::is_name;
use super::value::{Entry, Table, Value};

/// Reads what is written at the ports of a stage, in the order in which its kind declares them.
pub(crate) fn read_references(
    place: &str,
    spec: &KindSpec,
    table: &Table,
    mistakes: &mut Mistakes,
) -> Vec<(Port, Vec<Reference>)> {
    let mut references = Vec::new();
    for port in &spec.ports {
        if let Some(entry) = table.get(&port.name)
            && let Some(written) = read_port(place, port, entry, mistakes)
        {
            references.push((port.clone(), written));
        }
    }
    if let Some(entry) = table.get("inputs").filter(|_| spec.dynamic_ports) {
        read_declared_ports(place, entry, &mut references, mistakes);
    }
    references
}

/// Reads `inputs = { NAME = … }`, where the stage itself names its ports.
fn read_declared_ports(
    place: &str,
    entry: &Entry,
    references: &mut Vec<(Port, Vec<Reference>)>,
    mistakes: &mut Mistakes,
) {
    let Value::Table(inputs) = &entry.node.value else {
        let message = format!("{place}: `inputs` takes a table, not {}", entry.node.describe());
        let hint = "write `inputs = { name = \"reference\" }`".to_owned();
        mistakes.push(Mistake::new(entry.node.span, message).hint(hint));
        return;
    };
    for entry in &inputs.entries {
        if !is_name(&entry.key) || references.iter().any(|(port, _)| port.name == entry.key) {
            let message = format!("{place}: `{}` cannot be the name of an input", entry.key);
            let hint = "use letters, digits, `_` and `-`, and each name once".to_owned();
            mistakes.push(Mistake::new(entry.key_span, message).hint(hint));
            continue;
        }
        let many = match &entry.node.value {
            Value::Array(_) => true,
            Value::String(text) => text.contains("[*]"),
            _ => false,
        };
        let port = declared_port(&entry.key, many);
        if let Some(written) = read_port(place, &port, entry, mistakes) {
            references.push((port, written));
        }
    }
}

/// A port that the stage itself declares.
pub(crate) fn declared_port(name: &str, many: bool) -> Port {
    Port {
        name: name.to_owned(),
        accepts: Vec::new(),
        any: true,
        external: true,
        required: true,
        unless: None,
        many,
        access: Access::Content,
        doc: "Declared by the stage.",
    }
}

fn read_port(place: &str, port: &Port, entry: &Entry, mistakes: &mut Mistakes) -> Option<Vec<Reference>> {
    let (name, node) = (&port.name, &entry.node);
    let shape = "write `inputs.NAME`, `STAGE` or `STAGE.ARTIFACT`, in quotes".to_owned();
    let items = match &node.value {
        Value::String(_) => std::slice::from_ref(node),
        Value::Array(items) if port.many => &items[..],
        Value::Array(_) => {
            mistakes.push(Mistake::new(node.span, format!("{place}: `{name}` takes one reference, not a list")));
            return None;
        }
        _ => {
            let message = format!("{place}: `{name}` takes a reference, not {}", node.describe());
            mistakes.push(Mistake::new(node.span, message).hint(shape));
            return None;
        }
    };
    // An empty list at an optional port is how a profile disconnects it.
    if items.is_empty() && port.required && port.unless.is_none() {
        mistakes.push(Mistake::new(node.span, format!("{place}: the list at `{name}` is empty")));
    }
    let mut references = Vec::new();
    for item in items {
        match &item.value {
            Value::String(text) => references.push(Reference { text: text.clone(), span: item.span }),
            _ => {
                let message = format!("{place}: `{name}` takes references, not {}", item.describe());
                mistakes.push(Mistake::new(item.span, message).hint(shape.clone()));
            }
        }
    }
    (!items.is_empty()).then_some(references)
}
