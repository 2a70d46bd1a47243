//! Checks the outputs and required ports of stages, and describes both in messages.

use std::path::{Component, Path};

use hamflow_stage_api::{ArtifactType, Output, Port, near_miss::joined};

use super::axis::Role;
use super::diagnostic::{Mistake, Mistakes, Span};
use super::pipeline::Stage;
use super::template::Template;

/// Rejects outputs of one stage that collide, or that are outside the stage's folder.
pub(crate) fn check(stages: &[Stage], mistakes: &mut Mistakes) {
    for stage in stages {
        for (index, output) in stage.outputs.iter().enumerate() {
            if !is_below(&output.path) {
                let message =
                    format!("stage `{}`: the output `{}` cannot be at `{}`", stage.base, output.name, output.path);
                let hint = "use a path below the stage's output folder, without `.`, `..` and `\\`".to_owned();
                mistakes.push(Mistake::new(stage.span, message).hint(hint));
            }
            for other in &stage.outputs[..index] {
                if let Some(problem) = clash(other, output) {
                    mistakes.push(Mistake::new(stage.span, format!("stage `{}`: {problem}", stage.base)));
                }
            }
        }
    }
}

fn is_below(path: &str) -> bool {
    let plain = |component| matches!(component, Component::Normal(_));
    !path.is_empty()
        && !path.contains('\\')
        && path.split('/').all(|part| !part.is_empty() && part != ".")
        && Path::new(path).components().all(plain)
}

fn clash(a: &Output, b: &Output) -> Option<String> {
    if a.name == b.name {
        return Some(format!("two outputs are called `{}`", a.name));
    }
    if a.path == b.path {
        return Some(format!("the outputs `{}` and `{}` are both at `{}`", a.name, b.name, a.path));
    }
    let (a, b) = if a.path.len() < b.path.len() { (a, b) } else { (b, a) };
    let inside = b.path.strip_prefix(&a.path).is_some_and(|rest| rest.starts_with('/'));
    (inside && !a.artifact_type.is_folder())
        .then(|| format!("the output `{}` would lie inside the file of `{}`, `{}`", b.name, a.name, a.path))
}

/// Rejects stages whose required ports are missing, with a hint at stages that make such an artifact, and ports that
/// exclude each other.
pub(crate) fn require_ports(templates: &[Template], stages: &[Stage], mistakes: &mut Mistakes) {
    for template in templates {
        // An invalid reference is connected, too: it has its own mistake.
        let is_connected = |name: &str| {
            let is_axis = |role: &Role| matches!(role, Role::Port(port) if port.name == name);
            template.written_ports.iter().any(|written| written == name)
                || template.axes.iter().any(|axis| is_axis(&axis.role))
        };
        for port in &template.spec.ports {
            match (is_connected(&port.name), port.unless.filter(|other| is_connected(other))) {
                (true, Some(other)) => {
                    let message =
                        format!("stage `{}`: `{}` and `{other}` exclude each other", template.name, port.name);
                    mistakes.push(Mistake::new(template.header, message).hint("remove one of them".to_owned()));
                }
                (false, None) if port.required => {
                    mistakes.push(missing(template.header, &template.name, port, stages));
                }
                _ => {}
            }
        }
    }
}

fn missing(span: Span, stage: &str, port: &Port, stages: &[Stage]) -> Mistake {
    let message = format!("stage `{stage}`: `{}` is missing: it takes {}", port.name, wanted(port));
    let other = port.unless.map_or_else(String::new, |other| format!(", or `{other}` in its place"));
    Mistake::new(span, message).hint(ways(port, stages, stage) + &other)
}

/// What could be written at a port of the stage `reader`.
pub(crate) fn ways(port: &Port, stages: &[Stage], reader: &str) -> String {
    let mut references = makers(stages, &port.accepts, reader);
    if references.is_empty() {
        return match port.external {
            true => format!("write `{} = \"inputs.NAME\"` and declare NAME under `[inputs]`", port.name),
            false => format!("no stage makes {}", types(&port.accepts)),
        };
    }
    if port.external {
        references.push("inputs.NAME".to_owned());
    }
    let ways = references.iter().map(|reference| format!("`{} = \"{reference}\"`", port.name)).collect();
    format!("write {}", either(ways))
}

/// The artifact types in a sentence: `shards or index`.
pub(crate) fn types(types: &[ArtifactType]) -> String {
    either(types.iter().map(|artifact_type| artifact_type.name().to_owned()).collect())
}

/// The artifact types that something makes, each once: `table and balance`.
pub(crate) fn all_types(types: &[ArtifactType]) -> String {
    let mut names: Vec<String> = Vec::new();
    for artifact_type in types {
        if !names.iter().any(|name| name == artifact_type.name()) {
            names.push(artifact_type.name().to_owned());
        }
    }
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => joined(&names, "and"),
    }
}

/// Alternatives in a sentence.
pub(crate) fn either(texts: Vec<String>) -> String {
    joined(&texts, "or")
}

/// What a port takes, in a sentence.
pub(crate) fn wanted(port: &Port) -> String {
    match (&port.accepts[..], port.external) {
        _ if port.any => "any artifact or input".to_owned(),
        ([], _) => "something from `[inputs]`".to_owned(),
        (accepts, true) => format!("{}, or something from `[inputs]`", types(accepts)),
        (accepts, false) => types(accepts),
    }
}

/// The shortest references to artifacts of these types, in the order of the file; never to `reader` itself.
fn makers(stages: &[Stage], accepts: &[ArtifactType], reader: &str) -> Vec<String> {
    let mut references: Vec<String> = Vec::new();
    for stage in stages.iter().filter(|stage| stage.base != reader) {
        let fitting: Vec<&Output> =
            stage.outputs.iter().filter(|output| accepts.contains(&output.artifact_type)).collect();
        let named = match &fitting[..] {
            [_] => vec![stage.base.clone()],
            several => several.iter().map(|output| format!("{}.{}", stage.base, output.name)).collect(),
        };
        for reference in named {
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
    }
    references
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, artifact_type: ArtifactType, path: &str) -> Output {
        Output::new(name, artifact_type, path)
    }

    #[test]
    fn an_index_may_lie_in_the_folder_of_its_shards() {
        let shards = output("shards", ArtifactType::folder("shards"), "shards");
        let index = output("index", ArtifactType::file("index"), "shards/index.parquet");
        assert_eq!(clash(&shards, &index), None);
        let file = output("page", ArtifactType::PAGE, "shards");
        assert_eq!(clash(&index, &file).unwrap(), "the output `index` would lie inside the file of `page`, `shards`");
        let other = output("other", ArtifactType::FOLDER, "shards");
        assert_eq!(clash(&shards, &other).unwrap(), "the outputs `shards` and `other` are both at `shards`");
    }

    #[test]
    fn an_output_stays_below_its_folder() {
        for path in ["a", "a/b.json"] {
            assert!(is_below(path), "{path}");
        }
        for path in ["", "/a", "../a", "a/../b", "./a", "a//b", "a/", "a\\b"] {
            assert!(!is_below(path), "{path}");
        }
    }
}
