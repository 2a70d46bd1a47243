//! Reads one `[stages.NAME]` table: its kind, what it takes, its parameters as written, its matrix.

use std::collections::BTreeMap;
use std::sync::Arc;

use hamflow_stage_api::{Access, ArtifactType, Kind, KindSpec, ParamError, Port};
use serde_json::Value as Json;

use super::axis::{Axis, read_matrix};
use super::diagnostic::{Mistake, Mistakes, Span};
use super::near::{did_you_mean, near};
use super::pipeline::{Kinds, Reference};
use super::reader::read;
use super::sections::{StageSection, is_name};
use super::value::{Entry, Node, Table, Value};

/// A stage as written: before its matrix is expanded and its parameters are resolved.
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) header: Span,
    pub(crate) kind: &'static dyn Kind,
    pub(crate) spec: Arc<KindSpec>,
    /// The parameters as written, unknown ones left out.
    pub(crate) params: Table,
    /// What is written at the ports, in the order in which the kind declares them.
    pub(crate) references: Vec<(Port, Vec<Reference>)>,
    /// The ports at which anything is written, rightly or not.
    pub(crate) written_ports: Vec<String>,
    /// Sorted by name.
    pub(crate) axes: Vec<Axis>,
    pub(crate) env: Vec<String>,
    pub(crate) secret_env: Vec<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) memory: Option<u64>,
}

impl Template {
    /// Where a parameter is written, as deep as it is written at all (else the stage's header): its key and its value.
    fn locate(&self, params: &Table, path: &[String]) -> (Span, Span) {
        let Some(entry) = path.first().and_then(|name| params.get(name)) else { return (self.header, self.header) };
        let (mut key, mut node) = (entry.key_span, &entry.node);
        for name in &path[1..] {
            let inner = match &node.value {
                Value::Table(table) => table.get(name).map(|entry| (entry.key_span, &entry.node)),
                Value::Array(items) => {
                    name.parse::<usize>().ok().and_then(|index| items.get(index)).map(|item| (item.span, item))
                }
                _ => None,
            };
            match inner {
                Some(inner) => (key, node) = inner,
                None => break,
            }
        }
        (key, node.span)
    }

    /// A parameter's error in the words of a diagnostic.
    pub(crate) fn refuse(&self, params: &Table, error: ParamError) -> Mistake {
        let name = error.path.join(".");
        let named = error.path.last().is_none_or(|last| error.message.contains(&format!("`{last}`")))
            || error.message.contains(&format!("`{name}`"));
        let message = match named {
            true => format!("stage `{}`: {}", self.name, error.message),
            false => format!("stage `{}`: `{name}`: {}", self.name, error.message),
        };
        let (key, value) = self.locate(params, &error.path);
        // A name that is not known is wrong whatever its value is.
        let span = if error.message.starts_with("unknown parameter") { key } else { value };
        Mistake::new(span, message).hint(error.hint)
    }
}

/// A kind and what it says of itself, asked once however many stages are of it.
#[derive(Clone)]
pub(crate) struct KnownKind {
    kind: &'static dyn Kind,
    spec: Arc<KindSpec>,
    /// The parameters that the schema names; none where it leaves the names open.
    properties: Option<Arc<Vec<String>>>,
}

/// The kinds that stages were found to be of, by name.
pub(crate) struct KnownKinds {
    kinds: Kinds,
    known: BTreeMap<String, KnownKind>,
}

impl KnownKinds {
    pub(crate) fn new(kinds: Kinds) -> Self {
        Self { kinds, known: BTreeMap::new() }
    }

    fn find(&mut self, name: &str) -> Option<KnownKind> {
        if let Some(known) = self.known.get(name) {
            return Some(known.clone());
        }
        let (kind, spec) = self.kinds.iter().map(|kind| (*kind, kind.spec())).find(|(_, spec)| spec.name == name)?;
        let known = KnownKind { kind, spec: Arc::new(spec), properties: property_names(kind).map(Arc::new) };
        self.known.insert(name.to_owned(), known.clone());
        Some(known)
    }
}

/// Reads the table of a stage; none where its kind is not known.
pub(crate) fn read_stage(
    entry: &Entry,
    kinds: &mut KnownKinds,
    names: &[&str],
    mistakes: &mut Mistakes,
) -> Option<Template> {
    let name = entry.key.clone();
    let place = format!("stage `{name}`");
    if !is_name(&name) || name == "inputs" {
        let hint = match name == "inputs" {
            true => "`inputs.NAME` means something from outside",
            false => "use letters, digits, `_` and `-`",
        };
        let message = format!("`{name}` cannot be the name of a stage");
        mistakes.push(Mistake::new(entry.header(), message).hint(hint.to_owned()));
    }
    let Value::Table(table) = &entry.node.value else {
        let message = format!("{place}: a stage is a table, not {}", entry.node.describe());
        mistakes.push(Mistake::new(entry.key_span, message).hint(format!("write `[stages.{name}]`")));
        return None;
    };
    let section = read_section(&place, entry, table, mistakes)?;
    let KnownKind { kind, spec, properties } =
        find_kind(entry, table, section.kind.as_deref(), kinds, names, mistakes)?;
    let properties = properties.as_ref().map(|names| &names[..]);
    let references = read_references(&place, &spec, table, mistakes);
    let written_ports =
        spec.ports.iter().filter(|port| table.get(&port.name).is_some()).map(|port| port.name.clone()).collect();
    let params = read_params(&place, &spec, properties, table, mistakes);
    let axes = match &section.matrix {
        Some(matrix) => read_matrix(&place, &spec, properties, matrix, mistakes),
        None => Vec::new(),
    };
    if let Some(seed) = table.get("seed").filter(|_| !spec.seeded) {
        let message = format!("{place}: `seed` has no effect, because `{}` draws no random numbers", spec.name);
        mistakes.push(Mistake::new(seed.key_span, message));
    }
    let (env, secret_env) = (section.env(), section.secret_env());
    if let Some(twice) = secret_env.iter().find(|variable| env.contains(variable))
        && let Some(entry) = table.get("secret_env")
    {
        let message = format!("{place}: `{twice}` is in `env` and in `secret_env`");
        mistakes.push(Mistake::new(entry.key_span, message));
    }
    let (seed, memory) = (section.seed, section.memory());
    let header = entry.header();
    Some(Template { name, header, kind, spec, params, references, written_ports, axes, env, secret_env, seed, memory })
}

/// Reads the keys that every stage has; the others depend on its kind.
fn read_section(place: &str, stage: &Entry, table: &Table, mistakes: &mut Mistakes) -> Option<StageSection> {
    let keys = StageSection::keys();
    let entries = table.entries.iter().filter(|entry| keys.contains(&entry.key)).cloned().collect();
    let node = Node { value: Value::Table(Table { entries }), span: stage.node.span };
    read(place, &node, mistakes)
}

fn find_kind(
    stage: &Entry,
    table: &Table,
    kind: Option<&str>,
    kinds: &mut KnownKinds,
    stages: &[&str],
    mistakes: &mut Mistakes,
) -> Option<KnownKind> {
    let place = format!("stage `{}`", stage.key);
    let written = table.get("kind");
    let name = match written {
        // What is no string was refused already.
        Some(_) => kind?,
        None => &stage.key,
    };
    if let Some(known) = kinds.find(name) {
        return Some(known);
    }
    let kind_names: Vec<&str> = kinds.kinds.iter().map(|kind| kind.spec().name).collect();
    let (span, message) = match written {
        Some(entry) => (entry.node.span, format!("{place}: unknown kind `{name}`")),
        None => (stage.header(), format!("{place}: no kind is called `{name}`, and it does not say `kind = \"…\"`")),
    };
    // Without a kind, the slip may as well be in the stage's name: a profile that misspells a stage adds one.
    let near = near(name, kind_names).or_else(|| match written {
        Some(_) => None,
        None => near(name, stages.iter().copied().filter(|other| *other != stage.key)),
    });
    let hint = match near {
        Some(near) => format!("did you mean `{near}`? `hamflow kinds` lists all kinds"),
        None => "`hamflow kinds` lists all kinds".to_owned(),
    };
    mistakes.push(Mistake::new(span, message).hint(hint));
    None
}

fn read_references(
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
    let Some(entry) = table.get("inputs").filter(|_| spec.dynamic_ports) else { return references };
    let Value::Table(inputs) = &entry.node.value else {
        let message = format!("{place}: `inputs` takes a table, not {}", entry.node.describe());
        let hint = "write `inputs = { name = \"reference\" }`".to_owned();
        mistakes.push(Mistake::new(entry.node.span, message).hint(hint));
        return references;
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
        let port = Port {
            name: entry.key.clone(),
            accepts: ArtifactType::ALL.to_vec(),
            external: true,
            required: true,
            many,
            access: Access::Content,
            doc: "Declared by the stage.",
        };
        if let Some(written) = read_port(place, &port, entry, mistakes) {
            references.push((port, written));
        }
    }
    references
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
    if items.is_empty() && port.required {
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

/// The parameters that a kind's schema names; none where the schema leaves the names open.
fn property_names(kind: &dyn Kind) -> Option<Vec<String>> {
    let schema = kind.schema();
    match schema.get("properties") {
        Some(Json::Object(properties)) => Some(properties.keys().cloned().collect()),
        _ if schema.get("additionalProperties") == Some(&Json::Bool(false)) => Some(Vec::new()),
        _ => None,
    }
}

fn read_params(
    place: &str,
    spec: &KindSpec,
    properties: Option<&[String]>,
    table: &Table,
    mistakes: &mut Mistakes,
) -> Table {
    let is_port = |key: &str| spec.ports.iter().any(|port| port.name == key) || (spec.dynamic_ports && key == "inputs");
    let mut params = Table::default();
    for entry in &table.entries {
        let key = entry.key.as_str();
        if StageSection::keys().contains(&entry.key) || is_port(key) {
            continue;
        }
        if let Some(names) = properties.filter(|names| !names.iter().any(|name| name == key)) {
            let ports = spec.ports.iter().map(|port| port.name.as_str());
            let engine_keys = StageSection::keys().iter().map(String::as_str);
            let hint = did_you_mean(key, names.iter().map(String::as_str).chain(ports).chain(engine_keys))
                .or_else(|| (!names.is_empty()).then(|| format!("`hamflow kinds {}` lists its parameters", spec.name)));
            mistakes.push(Mistake::new(entry.key_span, format!("{place}: unknown parameter `{key}`")).hint(hint));
            continue;
        }
        params.insert(entry.clone());
    }
    params
}
