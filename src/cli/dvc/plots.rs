//! Plots of DVC: figures of the columns of files.

use crate::config::{Entry, Node, Table, Value};

use super::template::{list, scalar};
use super::words::joined;

/// A figure of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct DvcPlot {
    /// The file.
    pub(super) path: String,
    pub(super) x: Option<String>,
    pub(super) y: Vec<String>,
    /// The form of hamflow; empty for the default one.
    pub(super) form: &'static str,
    pub(super) title: Option<String>,
    pub(super) x_label: Option<String>,
    pub(super) y_label: Option<String>,
}

/// The plots at the top of the file.
pub(super) fn read_all(entry: Option<&Entry>, notes: &mut Vec<String>) -> Vec<DvcPlot> {
    let mut plots = Vec::new();
    for node in list(entry) {
        match &node.value {
            Value::String(path) => notes.push(no_columns(path)),
            Value::Table(table) => {
                for entry in &table.entries {
                    match &entry.node.value {
                        Value::Table(settings) => plots.extend(read(&entry.key, settings, notes)),
                        _ => notes.push(no_columns(&entry.key)),
                    }
                }
            }
            _ => {}
        }
    }
    plots
}

/// The plots of an output with settings.
pub(super) fn of_output(path: &str, settings: Option<&Table>, notes: &mut Vec<String>) -> Vec<DvcPlot> {
    match settings {
        Some(settings) if settings.get("y").is_some() => read(path, settings, notes),
        _ => {
            notes.push(no_columns(path));
            Vec::new()
        }
    }
}

fn no_columns(path: &str) -> String {
    format!(
        "not converted: the plot of `{path}` names no columns; write `plots = [{{ x = \"…\", y = \"…\" }}]` in its output"
    )
}

/// Reads the settings of a plot, whose name is the path of its file unless `y` names files.
fn read(name: &str, settings: &Table, notes: &mut Vec<String>) -> Vec<DvcPlot> {
    let text = |key: &str| settings.get(key).and_then(|entry| scalar(&entry.node));
    let template = text("template").unwrap_or_default();
    let (form, is_turned) = match &template[..] {
        "scatter" => ("scatter", false),
        "confusion" | "confusion_normalized" => ("confusion", false),
        "bar_horizontal" | "bar_horizontal_sorted" => ("bar", true),
        _ => ("", false),
    };
    let title = text("title").or_else(|| (!name.contains(['/', '.'])).then(|| name.to_owned()));
    let of_file = |path: &str, y: Vec<String>| {
        let x = settings.get("x").and_then(|entry| column_of(&entry.node, path));
        // The bars of DVC have the categories as `y`.
        let (x, y) = if is_turned { (y.first().cloned(), x.into_iter().collect()) } else { (x, y) };
        let (title, x_label, y_label) = (title.clone(), text("x_label"), text("y_label"));
        DvcPlot { path: joined("", path), x, y, form, title, x_label, y_label }
    };
    let mut plots: Vec<DvcPlot> = Vec::new();
    match settings.get("y").map(|entry| &entry.node) {
        Some(Node { value: Value::Table(files), .. }) => {
            if files.entries.len() > 1 {
                notes.push(format!("plot `{name}` has several files and became a figure of each"));
            }
            for entry in &files.entries {
                plots.push(of_file(&entry.key, list(Some(entry)).into_iter().filter_map(scalar).collect()));
            }
            if plots.len() > 1 {
                for plot in &mut plots {
                    let stem = std::path::Path::new(&plot.path).file_stem().unwrap_or_default().to_string_lossy();
                    plot.title = Some(format!("{} ({stem})", plot.title.as_deref().unwrap_or(name)));
                }
            }
        }
        Some(node) => {
            let y = match &node.value {
                Value::Array(items) => items.iter().filter_map(scalar).collect(),
                _ => scalar(node).into_iter().collect(),
            };
            plots.push(of_file(name, y));
        }
        None => notes.push(no_columns(name)),
    }
    plots
}

/// The column of a file: named for all files, or for each.
fn column_of(node: &Node, path: &str) -> Option<String> {
    match &node.value {
        Value::Table(files) => files.get(path).and_then(|entry| scalar(&entry.node)),
        _ => scalar(node),
    }
}
