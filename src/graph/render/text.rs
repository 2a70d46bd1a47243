//! Text renderings: tree, Graphviz, Mermaid, JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use super::{Drawing, Scene, SceneNode, colours};
use crate::graph::{Source, StageId};

/// A row of the tree before the columns are aligned.
struct Row {
    name: String,
    status: String,
    notes: String,
}

pub(super) fn tree(drawing: &Drawing<'_>) -> String {
    let place: BTreeMap<StageId, usize> = drawing.stages.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    let mut roots = Vec::new();
    let mut children: BTreeMap<StageId, Vec<StageId>> = BTreeMap::new();
    let mut others: BTreeMap<StageId, Vec<StageId>> = BTreeMap::new();
    for &id in drawing.stages {
        let mut reads: Vec<StageId> =
            drawing.graph.dependencies(id).into_iter().filter(|other| place.contains_key(other)).collect();
        reads.sort_by_key(|other| place[other]);
        match reads.pop() {
            Some(parent) => children.entry(parent).or_default().push(id),
            None => roots.push(id),
        }
        others.insert(id, reads);
    }
    let mut rows = Vec::new();
    let walk = Walk { drawing, children: &children, others: &others };
    for root in roots {
        walk.rows(root, "", "", &mut rows);
    }
    let width = |column: fn(&Row) -> &String| rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0);
    let (names, statuses) = (width(|row| &row.name), width(|row| &row.status));
    let mut text = String::new();
    for Row { name, status, notes } in &rows {
        let line = match statuses {
            0 => format!("{name:names$}  {notes}"),
            _ => format!("{name:names$}  {status:statuses$}  {notes}"),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

struct Walk<'w> {
    drawing: &'w Drawing<'w>,
    children: &'w BTreeMap<StageId, Vec<StageId>>,
    others: &'w BTreeMap<StageId, Vec<StageId>>,
}

impl Walk<'_> {
    /// The dependencies of `id` other than its parent in the tree; all combinations of a matrix as `train[*]`.
    fn named(&self, id: StageId) -> Vec<String> {
        let graph = self.drawing.graph;
        let reads = graph.dependencies(id);
        let mut names = Vec::new();
        for &other in &self.others[&id] {
            let stage = graph.stage(other);
            let combinations = graph.find_all(&stage.base);
            let gathered = combinations.len() > 1 && combinations.iter().all(|one| reads.contains(one));
            let name = if gathered { format!("{}[*]", stage.base) } else { stage.name.clone() };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Adds the row of `id` with the prefix `branch`, and the rows below it with the prefix `indent`.
    fn rows(&self, id: StageId, branch: &str, indent: &str, rows: &mut Vec<Row>) {
        let mut notes: Vec<String> = self.drawing.reason(id).map(str::to_owned).into_iter().collect();
        let others = self.named(id);
        if !others.is_empty() {
            notes.push(format!("(also reads {})", others.join(", ")));
        }
        rows.push(Row {
            name: format!("{branch}{}", self.drawing.graph.stage(id).name),
            status: self.drawing.status(id).unwrap_or_default().to_owned(),
            notes: notes.join("  "),
        });
        let Some(children) = self.children.get(&id) else { return };
        for (at, &child) in children.iter().enumerate() {
            let (branch, below) = if at + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.rows(child, &format!("{indent}{branch}"), &format!("{indent}{below}"), rows);
        }
    }
}

/// The lines of a box: name, kind (unless it equals the name), status, reason.
fn lines(node: &SceneNode) -> Vec<&str> {
    let kind = node.kind.as_deref().filter(|kind| *kind != node.name);
    [Some(node.name.as_str()), kind, node.status.as_deref(), node.reason.as_deref()].into_iter().flatten().collect()
}

pub(super) fn dot(scene: &Scene) -> String {
    let mut text = String::from(
        "digraph pipeline {\n  rankdir=LR;\n  node [fontname=\"sans-serif\", shape=box, style=\"rounded,filled\"];\n  \
         edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for node in &scene.nodes {
        let label: Vec<String> = lines(node).into_iter().map(escape_dot).collect();
        let label = label.join("\\n");
        let name = escape_dot(&node.name);
        if node.is_outside() {
            add(&mut text, format_args!("  \"{name}\" [label=\"{label}\", shape=folder, style=solid];\n"));
        } else {
            let colours = colours(node.status.as_deref());
            let (fill, line) = (colours.fill, colours.line);
            add(&mut text, format_args!("  \"{name}\" [label=\"{label}\", fillcolor=\"{fill}\", color=\"{line}\"];\n"));
        }
    }
    for edge in &scene.edges {
        let (from, to) = (escape_dot(&scene.nodes[edge.from].name), escape_dot(&scene.nodes[edge.to].name));
        let label = match edge.labels.is_empty() {
            true => String::new(),
            false => format!(" [label=\"{}\"]", escape_dot(&edge.labels.join(", "))),
        };
        add(&mut text, format_args!("  \"{from}\" -> \"{to}\"{label};\n"));
    }
    text.push_str("}\n");
    text
}

fn escape_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

pub(super) fn mermaid(scene: &Scene) -> String {
    let mut text = String::from("flowchart LR\n");
    for (at, node) in scene.nodes.iter().enumerate() {
        let label: Vec<String> = lines(node).into_iter().map(escape_mermaid).collect();
        let label = label.join("<br>");
        let (open, close) = if node.is_outside() { ("([", "])") } else { ("[", "]") };
        add(&mut text, format_args!("  n{at}{open}\"{label}\"{close}\n"));
    }
    for edge in &scene.edges {
        let label = match edge.labels.is_empty() {
            true => String::new(),
            false => format!("|\"{}\"|", escape_mermaid(&edge.labels.join(", "))),
        };
        add(&mut text, format_args!("  n{} -->{label} n{}\n", edge.from, edge.to));
    }
    let statuses: BTreeSet<&str> = scene.nodes.iter().filter_map(|node| node.status.as_deref()).collect();
    for status in statuses {
        let colours = colours(Some(status));
        let class = class_name(status);
        add(
            &mut text,
            format_args!("  classDef {class} fill:{},stroke:{},color:#1c2030\n", colours.fill, colours.line),
        );
        let has = |node: &SceneNode| node.status.as_deref() == Some(status);
        let members: Vec<String> =
            (0..scene.nodes.len()).filter(|&at| has(&scene.nodes[at])).map(|at| format!("n{at}")).collect();
        add(&mut text, format_args!("  class {} {class}\n", members.join(",")));
    }
    text
}

/// Converts a status to a Mermaid class name.
fn class_name(status: &str) -> String {
    let letters = status.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    std::iter::once('s').chain(letters).collect()
}

fn escape_mermaid(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("#quot;"),
            '#' => escaped.push_str("#35;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '\n' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Appends to a string.
fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}

#[derive(Serialize)]
struct GraphJson<'a> {
    inputs: Vec<InputJson<'a>>,
    pipeline: &'a str,
    stages: Vec<StageJson<'a>>,
}

#[derive(Serialize)]
struct InputJson<'a> {
    name: &'a str,
    paths: Vec<String>,
}

#[derive(Serialize)]
struct StageJson<'a> {
    axes: BTreeMap<&'a str, &'a str>,
    base: &'a str,
    inputs: Vec<SourceJson<'a>>,
    kind: &'static str,
    name: &'a str,
    outputs: Vec<OutputJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
}

#[derive(Serialize)]
struct SourceJson<'a> {
    from: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
    port: &'a str,
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    path: &'a str,
    #[serde(rename = "type")]
    artifact_type: &'static str,
}

fn pairs(pairs: &[(String, String)]) -> BTreeMap<&str, &str> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

pub(super) fn json(drawing: &Drawing<'_>) -> String {
    let pipeline = &drawing.graph.pipeline;
    let inputs = pipeline.inputs.iter().map(|input| InputJson {
        name: &input.name,
        paths: input.paths.iter().map(|path| path.display().to_string()).collect(),
    });
    let graph = GraphJson {
        inputs: inputs.collect(),
        pipeline: &pipeline.name,
        stages: drawing.stages.iter().map(|&id| stage_json(drawing, id)).collect(),
    };
    let mut text = serde_json::to_string_pretty(&graph).expect("names and texts are valid JSON");
    text.push('\n');
    text
}

fn stage_json<'a>(drawing: &'a Drawing<'_>, id: StageId) -> StageJson<'a> {
    let stage = drawing.graph.stage(id);
    let mut inputs = Vec::new();
    for binding in drawing.graph.bindings(id) {
        for source in &binding.sources {
            let (from, labels) = match source {
                Source::Artifact { stage, output, labels } => {
                    let stage = drawing.graph.stage(*stage);
                    (format!("{}.{}", stage.name, stage.outputs[*output].name), pairs(labels))
                }
                other => (drawing.outside_name(other).unwrap_or_default(), BTreeMap::new()),
            };
            inputs.push(SourceJson { from, labels, port: &binding.port.name });
        }
    }
    let outputs = stage.outputs.iter().map(|output| OutputJson {
        name: &output.name,
        path: &output.path,
        artifact_type: output.artifact_type.name(),
    });
    StageJson {
        axes: pairs(&stage.axes),
        base: &stage.base,
        inputs,
        kind: stage.kind.spec().name,
        name: &stage.name,
        outputs: outputs.collect(),
        reason: drawing.reason(id),
        status: drawing.status(id),
    }
}
