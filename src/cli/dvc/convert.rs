//! From stages of DVC to those of hamflow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::config::{Table, Value};

use super::expand::plain;
use super::plots::DvcPlot;
use super::read::{Dvc, DvcStage, parse_file};
use super::template::scalar;
use super::words::with_placeholders;

/// A converted pipeline.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// Names and paths.
    pub(super) inputs: Vec<(String, String)>,
    pub(super) stages: Vec<Stage>,
    /// What a report shows.
    pub(super) report: Option<Report>,
}

/// References to the metrics and the figures of a report.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) metrics: String,
    pub(super) figures: Vec<String>,
}

/// A converted stage.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) name: String,
    /// Names and references.
    pub(super) inputs: Vec<(String, String)>,
    pub(super) params_file: Option<String>,
    pub(super) params_used: Vec<String>,
    pub(super) outputs: Vec<Output>,
    /// Whether the program has paths of its own, so that it needs a working folder.
    pub(super) is_isolated: bool,
    pub(super) lines: Vec<String>,
}

/// A converted output.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) artifact_type: &'static str,
    pub(super) path: String,
    pub(super) plots: Vec<DvcPlot>,
    /// Where the program writes it, for a file within another output.
    copied_from: Option<String>,
}

/// What stages make, by path.
type Producers = BTreeMap<String, (String, String)>;

/// Converts all stages.
pub(super) fn convert(dvc: Dvc, folder: &Path, notes: &mut Vec<String>) -> Pipeline {
    let folders = folders_of_lock(folder);
    let mut outputs: Vec<Vec<Output>> = dvc.stages.iter().map(|stage| outputs(stage, &folders, folder)).collect();
    add_measures(&dvc, &mut outputs, notes);
    let mut producers = Producers::new();
    for (stage, outputs) in dvc.stages.iter().zip(&outputs) {
        for (declared, output) in stage.outputs.iter().zip(outputs) {
            producers.insert(declared.path.clone(), (stage.name.clone(), output.name.clone()));
        }
    }
    let report = report(&dvc, &outputs);
    let mut pipeline = Pipeline { report, ..Pipeline::default() };
    for (stage, outputs) in dvc.stages.iter().zip(outputs) {
        let converted = convert_stage(stage, outputs, &producers, &mut pipeline.inputs, notes);
        pipeline.stages.push(converted);
    }
    pipeline
}

/// A report of the first metrics and all plots, unless a stage has its name.
fn report(dvc: &Dvc, outputs: &[Vec<Output>]) -> Option<Report> {
    if dvc.stages.iter().any(|stage| stage.name == "report") {
        return None;
    }
    let all = || dvc.stages.iter().zip(outputs);
    let metrics = all().find_map(|(stage, outputs)| {
        let output = outputs.iter().find(|output| output.artifact_type == "metrics")?;
        Some(format!("{}.{}", stage.name, output.name))
    })?;
    let has_plots = |outputs: &[Output]| outputs.iter().any(|output| !output.plots.is_empty());
    let figures = all().filter(|(_, outputs)| has_plots(outputs)).map(|(stage, _)| format!("{}.plots", stage.name));
    Some(Report { metrics, figures: figures.collect() })
}

/// The outputs that are folders, by `dvc.lock`.
fn folders_of_lock(folder: &Path) -> BTreeSet<String> {
    let lock = parse_file(&folder.join("dvc.lock")).unwrap_or_default();
    let mut folders = BTreeSet::new();
    let Some(Value::Table(stages)) = lock.get("stages").map(|entry| &entry.node.value) else { return folders };
    let tables = |value: &Value| -> Vec<Table> {
        match value {
            Value::Array(items) => items
                .iter()
                .filter_map(|item| match &item.value {
                    Value::Table(table) => Some(table.clone()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    };
    for stage in &stages.entries {
        let Value::Table(stage) = &stage.node.value else { continue };
        for output in stage.get("outs").map(|entry| tables(&entry.node.value)).unwrap_or_default() {
            let text = |key: &str| output.get(key).and_then(|entry| scalar(&entry.node));
            if text("md5").is_some_and(|digest| digest.ends_with(".dir")) {
                folders.extend(text("path"));
            }
        }
    }
    folders
}

/// The name of an input or output: that of the file without its ending, with more of the path if that is taken.
fn name_of(path: &str, taken: &BTreeSet<String>) -> String {
    let (above, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file);
    let folder = above.rsplit('/').next().unwrap_or_default();
    let base = Some(plain(stem)).filter(|name| !name.is_empty()).unwrap_or_else(|| "file".to_owned());
    let with_folder = Some(plain(&format!("{folder}_{stem}"))).filter(|_| !folder.is_empty());
    let numbered = (2..).map(|number| format!("{base}_{number}"));
    let mut names = std::iter::once(base.clone()).chain(with_folder).chain([plain(file)]).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or(base)
}

fn outputs(stage: &DvcStage, folders: &BTreeSet<String>, root: &Path) -> Vec<Output> {
    let mut taken = BTreeSet::from(["plots".to_owned()]);
    let mut outputs = Vec::new();
    for declared in &stage.outputs {
        let name = name_of(&declared.path, &taken);
        taken.insert(name.clone());
        let extension = Path::new(&declared.path).extension().and_then(|extension| extension.to_str());
        let is_folder = folders.contains(&declared.path)
            || root.join(&declared.path).is_dir()
            || extension.is_none() && !root.join(&declared.path).is_file();
        let artifact_type = match extension {
            _ if is_folder => "folder",
            _ if declared.is_metrics => "metrics",
            Some("csv") => "csv",
            _ => "file",
        };
        let path = declared.path.rsplit('/').next().unwrap_or(&declared.path).to_owned();
        outputs.push(Output { name, artifact_type, path, plots: declared.plots.clone(), copied_from: None });
    }
    outputs
}

/// Adds the metrics and plots at the top of `dvc.yaml` to the stages that write their files.
fn add_measures(dvc: &Dvc, outputs: &mut [Vec<Output>], notes: &mut Vec<String>) {
    let metrics = dvc.metrics.iter().map(|path| (path, None));
    let plots = dvc.plots.iter().map(|plot| (&plot.path, Some(plot)));
    for (path, plot) in metrics.chain(plots) {
        let place = dvc.stages.iter().enumerate().find_map(|(number, stage)| {
            let within = |output: &super::read::DvcOutput| is_within(path, &output.path);
            stage.outputs.iter().position(within).map(|output| (number, output))
        });
        let Some((stage, output)) = place else {
            notes.push(format!("not converted: no stage has `{path}`, which is a metric or a plot, among its outputs"));
            continue;
        };
        let outputs = &mut outputs[stage];
        let is_whole = dvc.stages[stage].outputs[output].path == *path;
        let known = outputs.iter().position(|other| other.copied_from.as_ref() == Some(path));
        let place = match known {
            _ if is_whole => output,
            Some(known) => known,
            None => {
                let taken = outputs.iter().map(|output| output.name.clone()).chain(["plots".to_owned()]).collect();
                let name = name_of(path, &taken);
                let extension = Path::new(path).extension().and_then(|it| it.to_str()).unwrap_or("json");
                let (artifact_type, copied) = ("file", Some(path.clone()));
                let file = format!("{name}.{extension}");
                outputs.push(Output { name, artifact_type, path: file, plots: Vec::new(), copied_from: copied });
                outputs.len() - 1
            }
        };
        match plot {
            Some(plot) => outputs[place].plots.push(plot.clone()),
            None => outputs[place].artifact_type = "metrics",
        }
    }
}

/// Whether a path is another one or below it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn convert_stage(
    stage: &DvcStage,
    outputs: Vec<Output>,
    producers: &Producers,
    inputs: &mut Vec<(String, String)>,
    notes: &mut Vec<String>,
) -> Stage {
    let mut converted = Stage { name: stage.name.clone(), outputs, ..Stage::default() };
    converted.params_file.clone_from(&stage.params_file);
    converted.params_used.clone_from(&stage.params);
    let mut paths: Vec<(String, String)> = Vec::new();
    let mut made: Vec<(String, String)> = Vec::new();
    for path in &stage.dependencies {
        if stage.params_file.as_ref() == Some(path) {
            continue;
        }
        let taken: BTreeSet<String> = converted.inputs.iter().map(|(name, _)| name.clone()).collect();
        let name = name_of(path, &taken);
        let producer = producers.iter().find(|(output, _)| is_within(path, output));
        let (reference, placeholder) = match producer {
            Some((output, (stage, artifact))) => {
                let placeholder = format!("{{inputs.{name}}}{}", &path[output.len()..]);
                made.push((path.clone(), placeholder.clone()));
                (format!("{stage}.{artifact}"), placeholder)
            }
            None if path.contains("://") => {
                notes.push(format!(
                    "not converted: stage `{}` depends on `{path}`, which is not a local file",
                    stage.name
                ));
                continue;
            }
            None => (format!("inputs.{}", declared(path, inputs)), format!("{{inputs.{name}}}")),
        };
        paths.push((path.clone(), placeholder));
        converted.inputs.push((name, reference));
    }
    for (declared, output) in stage.outputs.iter().zip(&converted.outputs) {
        paths.push((declared.path.clone(), format!("{{outputs.{}}}", output.name)));
    }
    let (mut lines, mut used) = (Vec::new(), BTreeSet::new());
    for command in &stage.commands {
        let (line, replaced) = with_placeholders(command, &stage.folder, &paths);
        used.extend(replaced);
        lines.push(line);
    }
    let linked: Vec<&(String, String)> = made.iter().filter(|(path, _)| !used.contains(path)).collect();
    let written = |path: &String| !used.contains(path);
    converted.is_isolated = !linked.is_empty() || stage.outputs.iter().any(|output| written(&output.path));
    converted.lines = script(stage, &converted.outputs, &linked, lines, &written);
    converted
}

/// The name of the declared input with a path.
fn declared(path: &str, inputs: &mut Vec<(String, String)>) -> String {
    if let Some((name, _)) = inputs.iter().find(|(_, known)| known == path) {
        return name.clone();
    }
    let taken = inputs.iter().map(|(name, _)| name.clone()).collect();
    let name = name_of(path, &taken);
    inputs.push((name.clone(), path.to_owned()));
    name
}

/// The lines of a stage: what its program expects in its working folder, its commands, and the outputs that it writes there.
fn script(
    stage: &DvcStage,
    outputs: &[Output],
    linked: &[&(String, String)],
    commands: Vec<String>,
    is_written_there: &dyn Fn(&String) -> bool,
) -> Vec<String> {
    let parent = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let there: Vec<(&String, &Output)> = stage
        .outputs
        .iter()
        .map(|output| &output.path)
        .zip(outputs)
        .filter(|(path, _)| is_written_there(path))
        .collect();
    let mut folders: BTreeSet<String> = there.iter().filter_map(|(path, _)| parent(path)).collect();
    folders.extend(linked.iter().filter_map(|(path, _)| parent(path)));
    if !linked.is_empty() || !there.is_empty() {
        folders.extend(Some(stage.folder.clone()).filter(|folder| !folder.is_empty()));
    }
    let mut lines: Vec<String> = folders.iter().map(|folder| format!("mkdir -p {}", word(folder))).collect();
    lines.extend(linked.iter().map(|(path, placeholder)| format!("ln -s {placeholder} {}", word(path))));
    match stage.folder.is_empty() {
        true => lines.extend(commands),
        false => {
            lines.push("(".to_owned());
            lines.push(format!("cd {}", word(&stage.folder)));
            lines.extend(commands);
            lines.push(")".to_owned());
        }
    }
    for output in outputs {
        let Some(from) = &output.copied_from else { continue };
        let whole = stage.outputs.iter().zip(outputs).find(|(declared, _)| is_within(from, &declared.path));
        let source = match whole {
            Some((declared, whole)) if !is_written_there(&declared.path) => {
                format!("{{outputs.{}}}{}", whole.name, &from[declared.path.len()..])
            }
            _ => word(from),
        };
        lines.push(format!("cp {source} {{outputs.{}}}", output.name));
    }
    lines.extend(there.iter().map(|(path, output)| format!("mv {} {{outputs.{}}}", word(path), output.name)));
    lines
}

/// A path as a word of the shell, with doubled braces.
fn word(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%:,".contains(c);
    let text = if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) };
    text.replace('{', "{{").replace('}', "}}")
}
