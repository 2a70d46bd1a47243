//! Reads `dvc.yaml` into stages, with `foreach`, `matrix` and `${…}` expanded.

use std::path::Path;

use super::CliError;
use super::expand::{Expanded, expand};
use super::plots::{self, DvcPlot};
use super::template::{Scope, find, list, scalar};
use super::words::joined;
use crate::config::{Mistakes, Node, Sources, Table, Value, yaml};
use crate::fs::{self, Symlinks};

/// The file of parameters that DVC reads by default.
const PARAMS: &str = "params.yaml";

/// A pipeline of DVC.
#[derive(Debug, Default)]
pub(super) struct Dvc {
    pub(super) stages: Vec<DvcStage>,
    /// Paths of files of metrics that are not among the outputs of stages.
    pub(super) metrics: Vec<String>,
    pub(super) plots: Vec<DvcPlot>,
}

/// A stage. Paths are relative to the folder of `dvc.yaml`.
#[derive(Debug, Default)]
pub(super) struct DvcStage {
    pub(super) name: String,
    /// The commands; parameters are marked.
    pub(super) commands: Vec<String>,
    /// The folder that they run in; empty for that of `dvc.yaml`.
    pub(super) folder: String,
    pub(super) dependencies: Vec<String>,
    pub(super) outputs: Vec<DvcOutput>,
    /// The names of the parameters in [`PARAMS`].
    pub(super) params: Vec<String>,
    pub(super) params_file: Option<String>,
}

/// An output.
#[derive(Debug)]
pub(super) struct DvcOutput {
    pub(super) path: String,
    pub(super) is_metrics: bool,
    pub(super) plots: Vec<DvcPlot>,
}

/// Parses a file of YAML.
pub(super) fn parse(text: &str, file: &Path) -> Result<Table, CliError> {
    let mut mistakes = Mistakes::default();
    let mut sources = Sources::default();
    let source = sources.add_argument(&file.display().to_string(), text);
    let table = yaml::parse_document(source, text, &mut mistakes);
    if mistakes.is_empty() { Ok(table) } else { Err(mistakes.into_diagnostics(&sources).into()) }
}

/// The content of a file of YAML; empty if there is none.
pub(super) fn parse_file(path: &Path) -> Result<Table, CliError> {
    match fs::read_text(path, Symlinks::Follow) {
        Ok(text) => parse(&text, path),
        Err(_) => Ok(Table::default()),
    }
}

/// Reads the text of a `dvc.yaml`.
pub(super) fn read(text: &str, file: &Path, folder: &Path, notes: &mut Vec<String>) -> Result<Dvc, CliError> {
    let root = parse(text, file)?;
    let params = parse_file(&folder.join(PARAMS))?;
    let vars = vars(&root, folder, notes)?;
    let mut dvc = Dvc::default();
    let stages = root.get("stages").map(|entry| &entry.node.value);
    let Some(Value::Table(stages)) = stages else {
        return Err(CliError::user(format!("`{}` has no stages", file.display())));
    };
    for entry in &stages.entries {
        let Value::Table(stage) = &entry.node.value else { continue };
        let resolve = |node: &Node| resolved(node, &vars, &params);
        match expand(&entry.key, stage, &resolve) {
            Ok(all) => {
                if all.len() > 1 {
                    notes.push(format!(
                        "stage `{}` became {} stages; a `matrix` over `params` may be shorter",
                        entry.key,
                        all.len()
                    ));
                }
                for one in all {
                    dvc.stages.push(read_stage(one, &vars, &params, notes));
                }
            }
            Err(problem) => notes.push(format!("not converted: stage `{}`: {problem}", entry.key)),
        }
    }
    for entry in list(root.get("metrics")) {
        dvc.metrics.extend(scalar(entry));
    }
    dvc.plots = plots::read_all(root.get("plots"), notes);
    for entry in &root.entries {
        if !["stages", "metrics", "plots", "params", "vars"].contains(&&entry.key[..]) {
            notes.push(format!("not converted: the section `{}`", entry.key));
        }
    }
    Ok(dvc)
}

/// The values of `vars`: tables, and files with them.
fn vars(root: &Table, folder: &Path, notes: &mut Vec<String>) -> Result<Table, CliError> {
    let mut vars = Table::default();
    for item in list(root.get("vars")) {
        let found = match &item.value {
            Value::Table(table) => table.clone(),
            Value::String(name) => {
                let (name, selected) = name.split_once(':').unwrap_or((name, ""));
                let all = parse_file(&folder.join(name))?;
                if all.entries.is_empty() {
                    notes.push(format!("not converted: `vars` names `{name}`, which has no values"));
                }
                let is_selected = |key: &str| selected.is_empty() || selected.split(',').any(|name| name == key);
                Table { entries: all.entries.into_iter().filter(|entry| is_selected(&entry.key)).collect() }
            }
            _ => continue,
        };
        found.entries.into_iter().for_each(|entry| vars.insert(entry));
    }
    Ok(vars)
}

/// A list or a table, or that behind `${NAME}`.
fn resolved(node: &Node, vars: &Table, params: &Table) -> Option<Node> {
    match &node.value {
        Value::String(text) => {
            let name = text.strip_prefix("${")?.strip_suffix('}')?;
            find(vars, name).or_else(|| find(params, name)).cloned()
        }
        _ => Some(node.clone()),
    }
}

fn read_stage(of: Expanded<'_>, vars: &Table, params: &Table, notes: &mut Vec<String>) -> DvcStage {
    let Expanded { name, stage, mut values } = of;
    vars.entries.iter().for_each(|entry| values.insert(entry.clone()));
    for item in list(stage.get("vars")) {
        if let Value::Table(own) = &item.value {
            own.entries.iter().for_each(|entry| values.insert(entry.clone()));
        }
    }
    let scope = Scope { values: &values, params };
    let mut unknown = Vec::new();
    let mut text = |text: &str| {
        scope.text(text).unwrap_or_else(|name| {
            unknown.push(name);
            text.to_owned()
        })
    };
    let folder = list(stage.get("wdir")).first().and_then(|node| scalar(node)).map(|path| text(&path));
    let folder = folder.map(|path| joined("", &path)).unwrap_or_default();
    let mut path = |path: String| joined(&folder, &text(&path));
    let dependencies = list(stage.get("deps")).into_iter().filter_map(scalar).map(&mut path).collect();
    let mut outputs = Vec::new();
    for (key, is_metrics) in [("outs", false), ("metrics", true), ("plots", false)] {
        for node in list(stage.get(key)) {
            let Some((written, settings)) = with_settings(node) else { continue };
            let path = path(written);
            let plots = if key == "plots" { plots::of_output(&path, settings, notes) } else { Vec::new() };
            outputs.push(DvcOutput { path, is_metrics, plots });
        }
    }
    let (mut used, params_file) = read_params(&name, stage, notes);
    let mut commands = Vec::new();
    for node in list(stage.get("cmd")) {
        let Some(line) = scalar(node) else { continue };
        commands.push(scope.command(&line, &mut used).unwrap_or_else(|name| {
            unknown.push(name);
            line.clone()
        }));
    }
    for name_of_value in unknown {
        notes.push(format!("not converted: `${{{name_of_value}}}` in stage `{name}` is not known"));
    }
    for key in ["frozen", "always_changed", "persist"] {
        if stage.get(key).is_some() {
            notes.push(format!("not converted: `{key}` of stage `{name}`"));
        }
    }
    let params_file = params_file.or_else(|| (!used.is_empty()).then(|| PARAMS.to_owned()));
    DvcStage { name, commands, folder, dependencies, outputs, params: used, params_file }
}

/// The names of the parameters of a stage, and their file if it is not the default one.
fn read_params(name: &str, stage: &Table, notes: &mut Vec<String>) -> (Vec<String>, Option<String>) {
    let (mut used, mut file) = (Vec::new(), None);
    for node in list(stage.get("params")) {
        match &node.value {
            Value::String(name) => used.push(name.clone()),
            Value::Table(table) => {
                for entry in &table.entries {
                    if file.as_ref().is_some_and(|file| *file != entry.key) || !used.is_empty() && entry.key != PARAMS {
                        notes.push(format!(
                            "not converted: stage `{name}` has parameters in several files, and a stage has one; `{}` is left out",
                            entry.key
                        ));
                        continue;
                    }
                    file = Some(entry.key.clone());
                    used.extend(list(Some(entry)).into_iter().filter_map(scalar));
                }
            }
            _ => {}
        }
    }
    (used, file)
}

/// The path of an output and its settings: `path`, or `path: {…}`.
fn with_settings(node: &Node) -> Option<(String, Option<&Table>)> {
    let Value::Table(table) = &node.value else { return Some((scalar(node)?, None)) };
    let entry = table.entries.first()?;
    match &entry.node.value {
        Value::Table(settings) => Some((entry.key.clone(), Some(settings))),
        _ => Some((entry.key.clone(), None)),
    }
}
