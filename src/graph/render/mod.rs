//! Renders a graph as a tree for the terminal, as Graphviz, Mermaid or JSON, or as an SVG image.

mod svg;
mod text;

use std::collections::BTreeMap;

use super::{Graph, Source, StageId};

/// What is shown of a stage in addition to its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotation {
    /// The status in one word: `fresh`, `cached`, `stale`, `pending`.
    pub status: Option<String>,
    /// The reason, in one line.
    pub reason: Option<String>,
}

/// A graph, or the part of it to render.
#[derive(Clone, Copy)]
pub struct Drawing<'a> {
    /// The whole graph.
    pub graph: &'a Graph,
    /// The stages to show, as returned by [`Graph::select`].
    pub stages: &'a [StageId],
    /// The annotations of stages; a stage without an entry shows only its name.
    pub annotations: &'a BTreeMap<StageId, Annotation>,
}

impl Drawing<'_> {
    /// One line per stage below the last of its dependencies, with the other dependencies listed after it.
    pub fn tree(&self) -> String {
        text::tree(self)
    }

    /// Graphviz, for `hamflow dag --format dot | dot -Tpng`.
    pub fn dot(&self) -> String {
        text::dot(&self.scene())
    }

    /// Mermaid, which GitHub and GitLab render in Markdown.
    pub fn mermaid(&self) -> String {
        text::mermaid(&self.scene())
    }

    /// An indented JSON object.
    pub fn json(&self) -> String {
        text::json(self)
    }

    /// A self-contained SVG image.
    pub fn svg(&self) -> String {
        svg::svg(&self.graph.pipeline.name, &self.scene())
    }

    fn status(&self, id: StageId) -> Option<&str> {
        self.annotations.get(&id)?.status.as_deref()
    }

    fn reason(&self, id: StageId) -> Option<&str> {
        self.annotations.get(&id)?.reason.as_deref()
    }

    /// The shown stages, their external inputs, and the edges between them.
    fn scene(&self) -> Scene {
        let mut scene = Scene::default();
        let mut outside: BTreeMap<String, usize> = BTreeMap::new();
        let mut inside: BTreeMap<StageId, usize> = BTreeMap::new();
        for &id in self.stages {
            for source in self.graph.bindings(id).iter().flat_map(|binding| &binding.sources) {
                if let Some(name) = self.outside_name(source) {
                    outside.entry(name.clone()).or_insert_with(|| scene.add(SceneNode::outside(name)));
                }
            }
        }
        for &id in self.stages {
            let stage = self.graph.stage(id);
            let node = SceneNode {
                name: stage.name.clone(),
                kind: Some(stage.kind.spec().name.to_owned()),
                status: self.status(id).map(str::to_owned),
                reason: self.reason(id).map(str::to_owned),
            };
            inside.insert(id, scene.add(node));
        }
        for &id in self.stages {
            let mut reads: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for source in self.graph.bindings(id).iter().flat_map(|binding| &binding.sources) {
                let (from, label) = match source {
                    Source::Artifact { stage, output, .. } => {
                        let Some(&from) = inside.get(stage) else { continue };
                        (from, Some(self.graph.stage(*stage).outputs[*output].name.clone()))
                    }
                    _ => match self.outside_name(source).and_then(|name| outside.get(&name).copied()) {
                        Some(from) => (from, None),
                        None => continue,
                    },
                };
                let labels = reads.entry(from).or_default();
                labels.extend(label.filter(|label| !labels.contains(label)));
            }
            let to = inside[&id];
            scene.edges.extend(reads.into_iter().map(|(from, labels)| SceneEdge { from, to, labels }));
        }
        scene
    }

    fn outside_name(&self, source: &Source) -> Option<String> {
        match source {
            Source::Declared { index } => Some(format!("inputs.{}", self.graph.pipeline.inputs[*index].name)),
            Source::ProjectFile { path } => Some(path.clone()),
            Source::Artifact { .. } => None,
        }
    }
}

/// Boxes and arrows without positions.
#[derive(Default)]
struct Scene {
    /// External inputs first, then the stages in order.
    nodes: Vec<SceneNode>,
    edges: Vec<SceneEdge>,
}

impl Scene {
    fn add(&mut self, node: SceneNode) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

struct SceneNode {
    name: String,
    /// The kind of stage; `None` for external inputs.
    kind: Option<String>,
    status: Option<String>,
    reason: Option<String>,
}

impl SceneNode {
    fn outside(name: String) -> Self {
        Self { name, kind: None, status: None, reason: None }
    }

    fn is_outside(&self) -> bool {
        self.kind.is_none()
    }
}

struct SceneEdge {
    from: usize,
    to: usize,
    /// The artifacts on this edge.
    labels: Vec<String>,
}

/// The colours of a status: the fill, and the line colour of border and text.
struct Colours {
    fill: &'static str,
    line: &'static str,
}

fn colours(status: Option<&str>) -> Colours {
    let (fill, line) = match status {
        Some("fresh" | "ran") => ("#e6f4ea", "#1e7a44"),
        Some("cached") => ("#e3effb", "#1b62a5"),
        Some("stale" | "interrupted") => ("#fdf0d5", "#96590a"),
        Some("pending" | "skipped") => ("#efeff3", "#5b6072"),
        Some("running") => ("#ece6fa", "#5b3fb0"),
        Some("failed") => ("#fce4e2", "#b3261e"),
        _ => ("#ffffff", "#4a5060"),
    };
    Colours { fill, line }
}
