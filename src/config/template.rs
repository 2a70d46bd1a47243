//! Reads one `[stages.NAME]` table: its kind, what it takes, its parameters as written, its matrix.

use std::sync::Arc;

use hamflow_stage_api::{
    AnyKind, KindSpec, ParamError, Port,
    near_miss::{closest, did_you_mean},
};

use super::axis::{Axis, read_matrix};
use super::diagnostic::{Mistake, Mistakes, Span};
use super::foreach::{EACH, Folders, Site};
use super::known_kinds::{KnownKind, KnownKinds};
use super::pipeline::Reference;
use super::port_reader::read_references;
use super::reader::read;
use super::sections::{Needs, Requests, StageSection, is_name};
use super::spanned::Spanned;
use super::value::{Entry, Node, Table, Value};

/// A stage as written: before its matrix is expanded and its parameters are resolved.
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) header: Span,
    pub(crate) kind: &'static dyn AnyKind,
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
    pub(crate) needs: Needs,
    pub(crate) requests: Requests,
    pub(crate) executor: Option<Spanned<String>>,
    pub(crate) params_file: Option<String>,
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

/// Reads the table of a stage; none where its kind is not known.
pub(crate) fn read_stage(
    entry: &Entry,
    kinds: &mut KnownKinds,
    names: &[&str],
    folders: &mut Folders<'_>,
    mistakes: &mut Mistakes,
) -> Option<Template> {
    let name = entry.key.clone();
    let place = format!("stage `{name}`");
    if !is_name(&name) || name == "inputs" {
        let hint = match name == "inputs" {
            true => "`inputs.NAME` is reserved for declared inputs",
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
    let kind_name = match table.get("kind") {
        // A kind of another type is reported already.
        Some(_) => section.kind.as_deref()?,
        None => &name,
    };
    let Some(known) = kinds.find(kind_name) else {
        mistakes.push(unknown_kind(entry, kind_name, &kinds.names(), names));
        return None;
    };
    let spec = Arc::clone(&known.spec);
    let references = read_references(&place, &spec, table, mistakes);
    let written_ports =
        spec.ports.iter().filter(|port| is_written(port, table)).map(|port| port.name.clone()).collect();
    let params = read_params(&place, &known, table, mistakes);
    let mut axes =
        section.matrix.as_ref().map(|matrix| read_matrix(&place, &known, table, matrix, mistakes)).unwrap_or_default();
    if let Some(pattern) = &section.foreach {
        let taken = references.iter().map(|(port, _)| &port.name).chain(axes.iter().map(|axis| &axis.name));
        let site = Site { place: &place, spec: &spec, is_taken: taken.into_iter().any(|name| name == EACH), pattern };
        axes.extend(folders.axis(site, mistakes));
        axes.sort_by(|a, b| a.name.cmp(&b.name));
    }
    check_section(&place, table, &section, &spec, mistakes);
    Some(Template {
        name,
        header: entry.header(),
        kind: known.kind,
        spec,
        params,
        references,
        written_ports,
        axes,
        env: section.env(),
        secret_env: section.secret_env(),
        seed: section.seed,
        needs: section.needs(),
        requests: section.requests(),
        executor: section.executor.clone(),
        params_file: None,
    })
}

/// Reports keys that contradict each other or have no effect.
fn check_section(place: &str, table: &Table, section: &StageSection, spec: &KindSpec, mistakes: &mut Mistakes) {
    if let Some(seed) = table.get("seed").filter(|_| !spec.seeded) {
        let message = format!("{place}: `seed` has no effect, because `{}` draws no random numbers", spec.name);
        mistakes.push(Mistake::new(seed.key_span, message));
    }
    if let (Some(twice), Some(entry)) = (section.twice(), table.get("secret_env")) {
        let message = format!("{place}: `{twice}` is in `env` and in `secret_env`");
        mistakes.push(Mistake::new(entry.key_span, message));
    }
    if let (true, Some(entry)) = (section.says_memory_twice(), table.get("memory")) {
        let message = format!("{place}: `memory` is also in `resources`");
        mistakes.push(Mistake::new(entry.key_span, message));
    }
}

/// Whether the stage connects the port, validly or not. An empty list disconnects a port that may be left out.
fn is_written(port: &Port, table: &Table) -> bool {
    let is_required = port.required && port.unless.is_none();
    table.get(&port.name).is_some_and(|entry| match &entry.node.value {
        Value::Array(items) => is_required || !items.is_empty(),
        _ => true,
    })
}

/// Reads the keys that every stage has; the others depend on its kind.
fn read_section(place: &str, stage: &Entry, table: &Table, mistakes: &mut Mistakes) -> Option<StageSection> {
    let keys = StageSection::keys();
    let entries = table.entries.iter().filter(|entry| keys.contains(&entry.key)).cloned().collect();
    let node = Node { value: Value::Table(Table { entries }), span: stage.node.span };
    read(place, &node, mistakes)
}

fn unknown_kind(stage: &Entry, name: &str, kinds: &[&str], stages: &[&str]) -> Mistake {
    let place = format!("stage `{}`", stage.key);
    let written = match &stage.node.value {
        Value::Table(table) => table.get("kind"),
        _ => None,
    };
    let (span, message) = match written {
        Some(entry) => (entry.node.span, format!("{place}: unknown kind `{name}`")),
        None => (stage.header(), format!("{place}: no kind is called `{name}`, and it does not say `kind = \"…\"`")),
    };
    // Without a kind, the slip may as well be in the stage's name: a profile that misspells a stage adds one.
    let near = closest(name, kinds.iter().copied()).or_else(|| match written {
        Some(_) => None,
        None => closest(name, stages.iter().copied().filter(|other| *other != stage.key)),
    });
    let hint = match near {
        Some(near) => format!("did you mean `{near}`? `hamflow kinds` lists all kinds"),
        None => "`hamflow kinds` lists all kinds".to_owned(),
    };
    Mistake::new(span, message).hint(hint)
}

fn read_params(place: &str, kind: &KnownKind, table: &Table, mistakes: &mut Mistakes) -> Table {
    let spec = &kind.spec;
    let is_port = |key: &str| spec.ports.iter().any(|port| port.name == key) || (spec.dynamic_ports && key == "inputs");
    let mut params = Table::default();
    for entry in &table.entries {
        let key = entry.key.as_str();
        if StageSection::keys().contains(&entry.key) || is_port(key) {
            continue;
        }
        if let Some(names) = kind.properties().filter(|names| !names.iter().any(|name| name == key)) {
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
