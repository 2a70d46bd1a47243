//! Writes `pipeline.toml`.

use super::convert::{Output, Pipeline, Report, Stage};
use super::plots::DvcPlot;

/// The text of a `pipeline.toml`.
pub(super) fn write(pipeline: &Pipeline, name: &str) -> String {
    let mut text = String::from("# Converted from dvc.yaml by `hamflow init --from dvc.yaml`.\n\n");
    text.push_str(&format!("[pipeline]\nname = {}\n", quoted(name)));
    if !pipeline.inputs.is_empty() {
        text.push_str("\n[inputs]\n");
        for (name, path) in &pipeline.inputs {
            text.push_str(&format!("{} = {}\n", key(name), quoted(path)));
        }
    }
    pipeline.stages.iter().for_each(|stage| write_stage(stage, &mut text));
    if let Some(Report { metrics, figures }) = &pipeline.report {
        let figures: Vec<String> = figures.iter().map(|figure| quoted(figure)).collect();
        let title = quoted(name);
        text.push_str(&format!("\n[stages.report]\ntitle = {title}\nmetrics = {}\n", quoted(metrics)));
        if !figures.is_empty() {
            text.push_str(&format!("figures = [{}]\n", figures.join(", ")));
        }
    }
    text
}

fn write_stage(stage: &Stage, text: &mut String) {
    text.push_str(&format!("\n[stages.{}]\nkind = \"command\"\n", key(&stage.name)));
    if !stage.inputs.is_empty() {
        let inputs: Vec<String> =
            stage.inputs.iter().map(|(name, reference)| format!("{} = {}", key(name), quoted(reference))).collect();
        text.push_str(&format!("inputs = {{ {} }}\n", inputs.join(", ")));
    }
    if let Some(file) = &stage.params_file {
        let used: Vec<String> = stage.params_used.iter().map(|name| quoted(name)).collect();
        text.push_str(&format!("params = {}\n", quoted(file)));
        if !used.is_empty() {
            text.push_str(&format!("params_used = [{}]\n", used.join(", ")));
        }
    }
    if stage.is_isolated {
        text.push_str("# The program has paths of its own, so it gets a working folder.\nisolate = true\n");
    }
    match &stage.lines[..] {
        [line] => text.push_str(&format!("run = {}\n", quoted(line))),
        lines if lines.iter().any(|line| line.contains("'''")) => {
            text.push_str(&format!("run = {}\n", quoted(&lines.join("\n"))));
        }
        lines => text.push_str(&format!("run = '''\n{}\n'''\n", lines.join("\n"))),
    }
    for output in &stage.outputs {
        write_output(&stage.name, output, text);
    }
}

fn write_output(stage: &str, output: &Output, text: &mut String) {
    text.push_str(&format!("\n[stages.{}.outputs.{}]\n", key(stage), key(&output.name)));
    text.push_str(&format!("type = {}\npath = {}\n", quoted(output.artifact_type), quoted(&output.path)));
    if !output.plots.is_empty() {
        let plots: Vec<String> = output.plots.iter().map(plot).collect();
        text.push_str(&format!("plots = [{}]\n", plots.join(", ")));
    }
}

fn plot(plot: &DvcPlot) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, value: Option<&String>| {
        parts.extend(value.map(|value| format!("{name} = {}", quoted(value))));
    };
    add("x", plot.x.as_ref());
    match &plot.y[..] {
        [one] => add("y", Some(one)),
        several => {
            let names: Vec<String> = several.iter().map(|name| quoted(name)).collect();
            parts.push(format!("y = [{}]", names.join(", ")));
        }
    }
    let form = Some(plot.form.to_owned()).filter(|form| !form.is_empty());
    let mut add = |name: &str, value: Option<&String>| {
        parts.extend(value.map(|value| format!("{name} = {}", quoted(value))));
    };
    add("form", form.as_ref());
    add("title", plot.title.as_ref());
    add("x_label", plot.x_label.as_ref());
    add("y_label", plot.y_label.as_ref());
    format!("{{ {} }}", parts.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key of a table: bare where TOML allows it.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { name.to_owned() } else { quoted(name) }
}
