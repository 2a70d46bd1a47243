//! `hamflow metrics`: the current metrics, or those of two runs or revisions side by side.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use hamflow_stage_api::ArtifactType;
use serde_json::{Value, json};

use super::project::Project;
use super::revision::lock_at;
use super::{CliError, Common, project};
use crate::config::Kinds;
use crate::digest::Digest;
use crate::exec::RunRecord;
use crate::ui;

/// Arguments of `hamflow metrics`.
#[derive(Debug, Args)]
pub struct MetricsArguments {
    /// Runs to compare (IDs from `hamflow log`, or `last`); a single run is compared with the current state
    #[arg(value_name = "RUN", num_args = 0..=2)]
    runs: Vec<String>,
    /// Revisions of Git to compare, by their committed lock file; a single one is compared with the current state
    #[arg(long = "rev", value_name = "REVISION")]
    revisions: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Include metrics below the second level, such as those of single classes
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Metric values by stage and by dotted path within the stage's metrics.
pub type Numbers = BTreeMap<(String, String), f64>;

/// Metrics nested deeper than this (`test.per_class.nv.recall`) are shown only with `--all`.
const SHOWN_LEVELS: usize = 2;

/// `STAGE.PATH`.
pub fn full_name((stage, path): &(String, String)) -> String {
    format!("{stage}.{path}")
}

/// Runs the command.
pub fn execute(arguments: &MetricsArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let mut columns = Vec::new();
    if arguments.runs.len() + arguments.revisions.len() > 2 {
        return Err(CliError::user("`hamflow metrics` compares two runs or revisions, not more"));
    }
    for revision in &arguments.revisions {
        columns.push((revision.clone(), of_revision(&opened, &arguments.common, revision)?));
    }
    for run in &arguments.runs {
        columns.push((run.clone(), of_run(&opened, run)?));
    }
    if columns.len() < 2 {
        columns.push(("now".to_owned(), of_lock(&opened)?));
    }
    if columns.iter().all(|(_, numbers)| numbers.is_empty()) {
        if metrics_outputs(&opened).next().is_none() {
            return Err(CliError::user("no stage of this pipeline produces metrics"));
        }
        let hint = project::other_options(&opened, &arguments.common);
        let hint = hint.unwrap_or_else(|| "run `hamflow run` first".to_owned());
        return Err(CliError::user("there are no metrics yet").hint(hint));
    }
    let mut hidden = 0;
    if !arguments.all {
        let count = |columns: &[(String, Numbers)]| {
            columns.iter().flat_map(|(_, numbers)| numbers.keys()).collect::<BTreeSet<_>>().len()
        };
        let before = count(&columns);
        columns.iter_mut().for_each(|(_, numbers)| keep_shown(numbers));
        hidden = before - count(&columns);
    }
    if arguments.json {
        let named = |numbers: &Numbers| -> BTreeMap<String, f64> {
            numbers.iter().map(|(name, value)| (full_name(name), *value)).collect()
        };
        let columns: BTreeMap<&str, _> = columns.iter().map(|(name, numbers)| (&name[..], named(numbers))).collect();
        ui::data(&json!(columns).to_string());
    } else {
        table(&columns);
        if hidden > 0 {
            ui::say(&format!("{hidden} more with `--all`"));
        }
    }
    Ok(0)
}

fn table(columns: &[(String, Numbers)]) {
    let mut names: Vec<&(String, String)> = columns.iter().flat_map(|(_, numbers)| numbers.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let width = names.iter().map(|name| full_name(name).chars().count()).max().unwrap_or(0);
    let cell = columns.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(12);
    let mut header = format!("{:<width$}", "");
    for (name, _) in columns {
        header.push_str(&format!("  {name:>cell$}"));
    }
    if columns.len() == 2 {
        header.push_str(&format!("  {:>cell$}", "difference"));
    }
    ui::data(&header);
    for name in names {
        let values: Vec<Option<f64>> = columns.iter().map(|(_, numbers)| numbers.get(name).copied()).collect();
        let mut line = format!("{:<width$}", full_name(name));
        for value in &values {
            line.push_str(&format!("  {:>cell$}", value.map_or("-".to_owned(), shown)));
        }
        if let [Some(a), Some(b)] = values[..] {
            line.push_str(&format!("  {:>cell$}", difference(a, b)));
        }
        ui::data(&line);
    }
}

/// Formats `b - a` with its sign; empty where either is undefined.
pub fn difference(a: f64, b: f64) -> String {
    let whole = |value: f64| value.fract() == 0.0;
    match b - a {
        nothing if nothing.is_nan() => String::new(),
        0.0 => "=".to_owned(),
        difference if whole(a) && whole(b) => format!("{difference:+.0}"),
        difference => format!("{difference:+.4}"),
    }
}

/// Formats a metric: integers without decimals, others with four, NaN as `undefined`.
pub fn shown(value: f64) -> String {
    if value.is_nan() {
        return "undefined".to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.4}") }
}

/// The current metrics.
pub fn of_lock(opened: &Project) -> Result<Numbers, CliError> {
    let lock = opened.own_lock()?;
    let digests = |stage: &str| lock.stages.get(stage).map(|locked| locked.outputs.clone()).unwrap_or_default();
    Ok(collect(opened, digests))
}

/// The metrics at a revision, as far as the cache has them.
fn of_revision(opened: &Project, common: &Common, revision: &str) -> Result<Numbers, CliError> {
    if common.profile.is_some() || !common.set.is_empty() {
        return Err(CliError::user("`--rev` cannot be used with `--profile` or `--set`")
            .hint("only the lock file of the pipeline itself is committed"));
    }
    let path = opened.lock_paths.last().expect("the last path is the pipeline's own lock file");
    let lock = lock_at(revision, path)?;
    let digests = |stage: &str| lock.stages.get(stage).map(|locked| locked.outputs.clone()).unwrap_or_default();
    let numbers = collect(opened, digests);
    let lost: BTreeSet<&str> = metrics_outputs(opened)
        .filter(|(stage, output)| {
            digests(stage).get(*output).is_some_and(|digest| !opened.store.content.contains(digest))
        })
        .map(|(stage, _)| stage)
        .collect();
    if !lost.is_empty() {
        let names: Vec<&str> = lost.into_iter().collect();
        ui::say(&format!(
            "the cache no longer has the metrics of `{}` at `{revision}`; to make them again, check out `{revision}` and use \
             `hamflow run`",
            names.join("`, `")
        ));
    }
    Ok(numbers)
}

/// The outputs that are metrics, with their stages.
fn metrics_outputs(opened: &Project) -> impl Iterator<Item = (&str, &str)> {
    opened.graph.pipeline.stages.iter().flat_map(|stage| {
        let metrics = stage.outputs.iter().filter(|output| output.artifact_type == ArtifactType::METRICS);
        metrics.map(|output| (&stage.name[..], &output.name[..]))
    })
}

fn keep_shown(numbers: &mut Numbers) {
    numbers.retain(|(_, path), _| path.matches('.').count() < SHOWN_LEVELS);
}

/// The metrics of a run that are shown without `--all`.
pub fn of_record(opened: &Project, record: &RunRecord) -> Numbers {
    let mut numbers = all_of_record(opened, record);
    keep_shown(&mut numbers);
    numbers
}

fn of_run(opened: &Project, run: &str) -> Result<Numbers, CliError> {
    Ok(all_of_record(opened, &project::past_run(&opened.store, run)?))
}

fn all_of_record(opened: &Project, record: &RunRecord) -> Numbers {
    collect(opened, |stage| outputs(record, stage))
}

fn outputs(record: &RunRecord, stage: &str) -> BTreeMap<String, Digest> {
    let found = record.stages.iter().find(|found| found.stage == stage);
    found.map(|found| found.outputs.clone()).unwrap_or_default()
}

/// Confidence intervals by stage and by the path of the metric.
pub type Intervals = BTreeMap<(String, String), [f64; 2]>;

/// The confidence intervals of a run: a metrics file has those of an object's numbers in its member `intervals`, by name.
pub fn intervals_of_record(opened: &Project, record: &RunRecord) -> Intervals {
    let mut intervals = Intervals::new();
    read(opened, |stage| outputs(record, stage), |stage, value| collect_intervals(stage, "", value, &mut intervals));
    intervals
}

fn collect_intervals(stage: &str, path: &str, value: &Value, intervals: &mut Intervals) {
    let Some(map) = value.as_object() else { return };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, ends) in map.get("intervals").and_then(Value::as_object).into_iter().flatten() {
        if let Ok(ends) = serde_json::from_value::<[f64; 2]>(ends.clone()) {
            intervals.insert((stage.to_owned(), below(name)), ends);
        }
    }
    for (name, value) in map {
        collect_intervals(stage, &below(name), value, intervals);
    }
}

fn collect(opened: &Project, digests: impl Fn(&str) -> BTreeMap<String, Digest>) -> Numbers {
    let mut numbers = Numbers::new();
    read(opened, digests, |stage, value| flatten(stage, "", value, &mut numbers));
    numbers
}

/// Passes every metrics file to `each`, with the name of its stage.
fn read(opened: &Project, digests: impl Fn(&str) -> BTreeMap<String, Digest>, mut each: impl FnMut(&str, &Value)) {
    for (stage, output) in metrics_outputs(opened) {
        let bytes = digests(stage).get(output).and_then(|digest| opened.store.content.read(digest));
        if let Some(value) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) {
            each(stage, &value);
        }
    }
}

/// Collects the numbers of nested objects by their path. Arrays (such as a confusion matrix) are left to the report.
fn flatten(stage: &str, path: &str, value: &Value, numbers: &mut Numbers) {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                numbers.insert((stage.to_owned(), path.to_owned()), number);
            }
        }
        Value::Object(map) => {
            // Undefined metrics are listed with the others instead of being dropped silently.
            for name in
                map.get("undefined").and_then(Value::as_object).into_iter().flat_map(|undefined| undefined.keys())
            {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                numbers.insert((stage.to_owned(), path), f64::NAN);
            }
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(stage, &path, value, numbers);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_metrics_are_named_by_their_path() {
        let mut numbers = Numbers::new();
        flatten("evaluate", "", &json!({"test": {"accuracy": 0.5, "matrix": [[1]], "note": "x"}}), &mut numbers);
        assert_eq!(numbers, Numbers::from([(("evaluate".to_owned(), "test.accuracy".to_owned()), 0.5)]));
        flatten("e", "", &json!({"test": {"auc": null, "undefined": {"auc": "no rows"}}}), &mut numbers);
        assert_eq!(shown(numbers[&("e".to_owned(), "test.auc".to_owned())]), "undefined");
    }

    #[test]
    fn intervals_belong_to_the_numbers_beside_them() {
        let mut intervals = Intervals::new();
        let value =
            json!({"test": {"auc": 0.5, "intervals": {"auc": [0.25, 0.75], "per_class.a.f1": [0, 1], "bad": [1]}}});
        collect_intervals("e", "", &value, &mut intervals);
        let interval = |path: &str| intervals.get(&("e".to_owned(), path.to_owned())).copied();
        assert_eq!(interval("test.auc"), Some([0.25, 0.75]));
        assert_eq!(interval("test.per_class.a.f1"), Some([0.0, 1.0]));
        assert_eq!(intervals.len(), 2);
    }
}
