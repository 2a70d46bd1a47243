//! Report pages: HTML artifacts, combined with details of the run that must not be part of an artifact.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hamflow_stage_api::{ArtifactType, RUN_DETAILS};
use maud::{Markup, html};

use super::CliError;
use super::project::Project;
use crate::digest::Digest;
use crate::exec::{Outcome, QueuedTask, RunRecord, StageRecord, list_runs, read_run};
use crate::fs::{self, Durability};
use crate::ui::{bytes, duration, plural};

/// The stages that produce a page, each with the name of the artifact.
pub fn page_stages(opened: &Project) -> Vec<(String, String)> {
    let stages = opened.graph.pipeline.stages.iter();
    let pages = stages.flat_map(|stage| {
        let pages = stage.outputs.iter().filter(|output| output.artifact_type == ArtifactType::PAGE);
        pages.map(|output| (stage.name.clone(), output.name.clone()))
    });
    pages.collect()
}

/// Selects the named stage, or the only one that produces a page.
pub fn page_stage(opened: &Project, named: Option<&str>) -> Result<(String, String), CliError> {
    let pages = page_stages(opened);
    let names: Vec<String> = pages.iter().map(|(stage, _)| format!("`{stage}`")).collect();
    match named {
        Some(named) => pages.into_iter().find(|(stage, _)| stage == named).ok_or_else(|| {
            let hint = match names.is_empty() {
                true => "no stage of this pipeline produces a page".to_owned(),
                false => format!("stages with a page: {}", names.join(", ")),
            };
            CliError::user(format!("no stage `{named}` produces a page")).hint(hint)
        }),
        None => match &pages[..] {
            [only] => Ok(only.clone()),
            [] => Err(CliError::user("no stage of this pipeline produces a page").hint("add a stage of kind `report`")),
            _ => {
                Err(CliError::user("several stages produce a page").hint(format!("choose one of {}", names.join(", "))))
            }
        },
    }
}

/// Reads a page from the store.
pub fn read(opened: &Project, stage: &str, digest: &Digest) -> Result<String, CliError> {
    let bytes = opened.store.content.read(digest).ok_or_else(|| {
        CliError::user(format!("the page of `{stage}` is no longer in the cache"))
            .hint(format!("recreate it with `hamflow run {stage}`"))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The latest run that produced this page, or else the latest one that found it up to date.
pub fn run_of(opened: &Project, stage: &str, artifact: &str, page: &Digest) -> Option<RunRecord> {
    let runs = opened.store.runs_dir();
    let made = |record: &StageRecord| record.stage == stage && record.outputs.get(artifact) == Some(page);
    let records = || list_runs(&runs).into_iter().filter_map(|run| read_run(&runs, &run));
    let ran = |record: &StageRecord| made(record) && record.outcome == Outcome::Ran;
    records()
        .find(|record| record.stages.iter().any(ran))
        .or_else(|| records().find(|record| record.stages.iter().any(made)))
}

/// Inserts the details of a run into a page, at [`RUN_DETAILS`] or else at the top.
pub fn with_facts(page: &str, facts: &Markup) -> String {
    let facts = &facts.0;
    if page.contains(RUN_DETAILS) {
        return page.replacen(RUN_DETAILS, facts, 1);
    }
    let body = page.find("<body").and_then(|start| Some(start + page[start..].find('>')? + 1));
    let (before, after) = page.split_at(body.unwrap_or(0));
    format!("{before}{facts}{after}")
}

/// The details of one run as HTML.
pub fn run_facts(record: &RunRecord) -> Markup {
    html! {
        aside aria-label="The run" style="max-width:1080px" {
            details {
                summary { strong { "The run " (record.run) } ": " (took(record)) ", hamflow " (record.version) ", " (devices(record)) }
                dl.facts {
                    @for (name, value) in facts(record) { div { dt { (name) } dd { (value) } } }
                }
                div.scroll tabindex="0" role="group" aria-label="Stages of the run" { (stages(record)) }
            }
        }
    }
}

/// The details of a run as pairs of name and value.
pub fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let command: Vec<&str> = record.command.iter().skip(1).map(String::as_str).collect();
    vec![
        ("run", record.run.clone()),
        ("command", format!("hamflow {}", command.join(" "))),
        ("started (UTC)", started(record)),
        ("took", took(record)),
        ("hamflow", record.version.clone()),
        ("device", devices(record)),
        ("machine", format!("{}, {} threads", record.host, record.threads)),
    ]
}

/// The start time as `2026-11-22 20:15:30`, parsed from the run's ID.
pub fn started(record: &RunRecord) -> String {
    let digits: Vec<char> = record.run.chars().collect();
    let part = |from: usize, to: usize| digits.get(from..to).map(|part| part.iter().collect::<String>());
    let parts = [(0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15)].map(|(from, to)| part(from, to));
    match parts {
        [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)] => {
            format!("{year}-{month}-{day} {hour}:{minute}:{second}")
        }
        _ => record.run.clone(),
    }
}

fn took(record: &RunRecord) -> String {
    if record.wall_ms == 0 { "unfinished".to_owned() } else { duration(record.wall_ms) }
}

fn devices(record: &RunRecord) -> String {
    let mut devices: Vec<&str> = record.stages.iter().filter_map(|stage| stage.device.as_deref()).collect();
    devices.sort_unstable();
    devices.dedup();
    if devices.is_empty() { "cpu".to_owned() } else { devices.join(", ") }
}

/// A table of the stages with their outcomes.
pub fn stages(record: &RunRecord) -> Markup {
    html! {
        table {
            caption { "Stages of run " (record.run) }
            thead {
                tr {
                    th scope="col" { "stage" } th scope="col" { "outcome" } th.number scope="col" { "time" }
                    th.number scope="col" { "memory" } th scope="col" { "why" }
                }
            }
            tbody {
                @for stage in &record.stages {
                    tr {
                        th scope="row" { (stage.stage) }
                        td { (outcome(stage)) }
                        td.number { @if stage.wall_ms > 0 { (duration(stage.wall_ms)) } @else { "–" } }
                        td.number { @if stage.peak_memory > 0 { (bytes(stage.peak_memory)) } @else { "–" } }
                        td { @if let Some(reason) = stage.reasons.first() { (with_code(&reason.to_string())) } }
                    }
                }
            }
        }
    }
}

/// Renders text in backticks as `<code>`.
pub fn with_code(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The number of stages with each of these outcomes, as in `3 ran`; without those that no stage has.
pub fn counts(record: &RunRecord, outcomes: &[Outcome]) -> Vec<String> {
    let count = |outcome| record.stages.iter().filter(|stage| stage.outcome == outcome).count();
    let counted = outcomes.iter().map(|outcome| (count(*outcome), outcome.word())).filter(|(count, _)| *count > 0);
    counted.map(|(count, word)| format!("{count} {word}")).collect()
}

/// The outcome of a stage, with the number of parts that ran if it has parts, and its tasks on a cluster.
pub fn outcome(stage: &StageRecord) -> String {
    let word = stage.outcome.word();
    let outcome = match stage.parts_ran + stage.parts_cached {
        0 => word.to_owned(),
        parts => format!("{word}, {} of {parts} parts", stage.parts_ran),
    };
    match &stage.tasks[..] {
        [] => outcome,
        [only] => format!("{outcome}, as task {}{}", only.id, on_host(only)),
        tasks => {
            let hosts: BTreeSet<&str> = tasks.iter().filter_map(|task| task.host.as_deref()).collect();
            format!("{outcome}, as {} tasks on {}", tasks.len(), plural(hosts.len() as u64, "node"))
        }
    }
}

fn on_host(task: &QueuedTask) -> String {
    task.host.as_ref().map_or_else(String::new, |host| format!(" on {host}"))
}

/// What the heads of all pages about runs begin with.
pub fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        title { (title) }
    }
}

/// A table that scrolls in its box if the window is too narrow.
pub fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="group" aria-label=(label) { (table) } }
}

/// Writes a page to the record directory of a run and returns its absolute path.
pub fn write(opened: &Project, run: &str, name: &str, page: &str) -> Result<PathBuf, CliError> {
    let path = opened.store.runs_dir().join(run).join(name);
    let path = std::path::absolute(&path).unwrap_or(path);
    fs::write(&path, page.as_bytes(), Durability::Relaxed).map_err(|error| CliError::cache(error.into()))?;
    Ok(path)
}

/// Opens a page in `$BROWSER` or the default browser.
pub fn open(path: &Path) -> Result<(), CliError> {
    let chosen = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let browsers: Vec<String> = match chosen {
        Some(browser) => vec![browser],
        None => ["xdg-open", "open"].map(str::to_owned).to_vec(),
    };
    for browser in &browsers {
        let quiet = || (Stdio::null(), Stdio::null());
        let (out, err) = quiet();
        if Command::new(browser).arg(path).stdin(Stdio::null()).stdout(out).stderr(err).spawn().is_ok() {
            return Ok(());
        }
    }
    let tried: Vec<String> = browsers.iter().map(|browser| format!("`{browser}`")).collect();
    Err(CliError::user(format!("cannot start a browser (tried {})", tried.join(", ")))
        .hint("set `BROWSER`, or open the file yourself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_details_replace_the_marker_or_go_to_the_top() {
        let facts = html! { b { "run" } };
        let marked = with_facts(&format!("<body><h1>a</h1>{RUN_DETAILS}<p>b</p>"), &facts);
        assert_eq!(marked, "<body><h1>a</h1><b>run</b><p>b</p>");
        assert_eq!(
            with_facts("<html><body class=\"x\"><p>b</p>", &facts),
            "<html><body class=\"x\"><b>run</b><p>b</p>"
        );
        assert_eq!(with_facts("just text", &facts), "<b>run</b>just text");
    }
}
