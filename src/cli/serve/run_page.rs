//! The page of a run.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::page::{Page, run_word, state};
use super::reply::segment;
use super::runs::RunState;
use super::site::Site;
use super::{artifacts, curves};
use crate::cli::pages;
use crate::cli::status::task_line;
use crate::digest::Digest;
use crate::exec::{RunProgress, RunRecord, StageProgress, StageRecord, now_ms, queue_in_words, stage_log};
use crate::graph::StageId;
use crate::graph::render::{Annotation, Drawing};
use crate::ui::{bytes, duration};

/// Pipelines with more stages are not drawn.
const MAX_DRAWN: usize = 200;

/// Renders the page.
pub fn page(site: &mut Site, record: &RunRecord) -> Markup {
    let run_state = site.runs.state(record);
    let word = run_word(record, &run_state);
    let progress = match &run_state {
        RunState::Running(progress) => progress.clone(),
        _ => RunProgress::default(),
    };
    let live = matches!(run_state, RunState::Running(_));
    let title = format!("Run of {}", pages::started(record));
    let graph = graph(site, record);
    let curves = curves::stages(site, record);
    let body = html! {
        p.lead data-part="state" role="status" {
            (state(word)) " "
            @if live { (progress.ended.len()) " of " (progress.stages) @if progress.stages == 1 { " stage ended" } @else { " stages ended" } }
            @else if record.wall_ms > 0 { "after " (duration(record.wall_ms)) }
            @else { "before it ended; the next run continues from what is in the cache" }
        }
        (pages_of(site, record))
        section aria-labelledby="stages" {
            h2 #stages { "Stages" }
            div.scroll tabindex="0" role="group" aria-label="Stages" { (stages(site, record, &progress)) }
        }
        (errors(record))
        section aria-labelledby="curves" data-part="curves" {
            @if !curves.is_empty() {
                h2 #curves { "Curves" }
                @for (stage, version) in &curves {
                    figure {
                        // The version makes the address new when the curves have grown.
                        img alt={ "Curves of " (stage) } src={ "curves.svg?stage=" (segment(stage)) "&v=" (version) };
                        figcaption { (stage) }
                    }
                }
            }
        }
        section aria-labelledby="graph" data-part="graph" {
            @match &graph {
                Ok(svg) => {
                    h2 #graph { "Graph" }
                    div.scroll tabindex="0" role="group" aria-label="Graph" {
                        img.graph alt="The stages of the pipeline and what they read; their states are in the table above"
                            src={ "graph.svg?v=" (Digest::of(svg.as_bytes()).short()) };
                    }
                }
                Err(error) => { h2 #graph { "Graph" } pre { (error) } }
            }
        }
        section aria-labelledby="facts" data-part="facts" {
            h2 #facts { "Details" }
            dl.facts { @for (name, value) in pages::facts(record) { div { dt { (name) } dd { (value) } } } }
        }
    };
    Page { title: &title, root: "../../", live, body }.render()
}

/// Links to the pages that the run made, and to a comparison with the run before it.
fn pages_of(site: &mut Site, record: &RunRecord) -> Markup {
    let before = site.runs.names().into_iter().find(|name| *name < record.run);
    let pages = site.project(record.profile.as_deref()).map(pages::page_stages).unwrap_or_default();
    let made = pages.into_iter().filter(|(stage, artifact)| {
        let made = record.stages.iter().find(|found| found.stage == *stage);
        made.is_some_and(|made| made.outputs.contains_key(artifact))
    });
    let made: Vec<String> = made.map(|(stage, _)| stage).collect();
    html! {
        p.actions data-part="pages" {
            @for stage in &made { a.button href={ "report?stage=" (segment(stage)) } { "Open " (stage) } " " }
            @if let Some(before) = before {
                a href={ "../../compare?run=" (segment(&before)) "&run=" (segment(&record.run)) } { "Compare with the run before" }
            }
        }
    }
}

fn errors(record: &RunRecord) -> Markup {
    let failed: Vec<(&str, String)> =
        record.stages.iter().filter_map(|stage| Some((&stage.stage[..], stage.error.as_ref()?.render()))).collect();
    html! {
        div data-part="errors" {
            @for (stage, error) in &failed { div.error role="alert" { p { "Stage " code { (stage) } " failed:" } pre { (error) } } }
        }
    }
}

fn stages(site: &mut Site, record: &RunRecord, progress: &RunProgress) -> Markup {
    let runs = site.store.runs_dir();
    let has_log = |stage: &str| stage_log(&runs, &record.run, stage).is_file();
    let pending = pending(site, record, progress);
    html! {
        table data-part="stages" {
            caption.hidden { "Stages of the run" }
            thead {
                tr {
                    th scope="col" { "stage" } th scope="col" { "state" } th.number scope="col" { "time" }
                    th.number scope="col" { "memory" } th scope="col" { "why" } th scope="col" { "log" } th scope="col" { "artifacts" }
                }
            }
            tbody {
                @for (name, stage) in &progress.running { (running_row(name, stage, has_log(name))) }
                @for stage in &record.stages { (ended_row(stage, has_log(&stage.stage))) }
                @for (name, outcome) in &progress.ended {
                    @if !record.stages.iter().any(|stage| stage.stage == *name) { (short_row(name, outcome.word(), has_log(name))) }
                }
                @for name in &pending { (short_row(name, "pending", false)) }
            }
        }
    }
}

/// The stages of a run in progress that have not started.
fn pending(site: &mut Site, record: &RunRecord, progress: &RunProgress) -> Vec<String> {
    if progress.stages == 0 {
        return Vec::new();
    }
    let Ok(project) = site.project(record.profile.as_deref()) else { return Vec::new() };
    let graph = &project.graph;
    let started = |name: &str| progress.running.contains_key(name) || progress.ended.contains_key(name);
    let names = graph.order.iter().map(|id| &graph.stage(*id).name);
    let pending: Vec<String> = names.filter(|name| !started(name)).cloned().collect();
    // A run of some targets has fewer stages than the pipeline; which ones are left is then unknown.
    let left = progress.stages.saturating_sub(progress.running.len() + progress.ended.len());
    if pending.len() == left { pending } else { Vec::new() }
}

fn log_link(stage: &str, has_log: bool) -> Markup {
    html! { @if has_log { a href={ "log?stage=" (segment(stage)) } aria-label={ "Log of " (stage) } { "log" } } }
}

fn running_row(name: &str, stage: &StageProgress, has_log: bool) -> Markup {
    let StageProgress { started_ms, reason, done, total, unit, round, message, tasks } = stage;
    let queue = queue_in_words(tasks);
    let amount = match round {
        Some(round) => round.clone(),
        None if *total > 0 => format!("{done}/{total} {unit}"),
        None => String::new(),
    };
    html! {
        tr {
            th scope="row" { (name) }
            td {
                (state("running")) " " (amount)
                @if *total > 0 { br; progress max=(total) value=(done) aria-label={ "Progress of " (name) } {} }
                @if !message.is_empty() { br; span.soft { (message) } }
                @if !queue.is_empty() { br; span.soft { (queue) } }
            }
            td.number { (duration(now_ms().saturating_sub(*started_ms))) }
            td {}
            td { (pages::with_code(reason)) }
            td { (log_link(name, has_log)) }
            td {}
        }
    }
}

/// A stage of which only the state is known.
fn short_row(name: &str, word: &str, has_log: bool) -> Markup {
    html! {
        tr { th scope="row" { (name) } td { (state(word)) } td {} td {} td {} td { (log_link(name, has_log)) } td {} }
    }
}

fn ended_row(stage: &StageRecord, has_log: bool) -> Markup {
    let word = stage.outcome.word();
    let parts = stage.parts_ran + stage.parts_cached;
    html! {
        tr {
            th scope="row" { (stage.stage) }
            td {
                (state(word)) @if parts > 0 { " " (stage.parts_ran) " of " (parts) " parts" }
                @for task in &stage.tasks { br; span.soft { (task_line(task, None)) } }
            }
            td.number { @if stage.wall_ms > 0 { (duration(stage.wall_ms)) } }
            td.number { @if stage.peak_memory > 0 { (bytes(stage.peak_memory)) } }
            td { @if let Some(reason) = stage.reasons.first() { (pages::with_code(&reason.to_string())) } }
            td { (log_link(&stage.stage, has_log)) }
            td { (artifacts::links(stage)) }
        }
    }
}

/// Draws the pipeline with the states of the run's stages. The error is one for the user.
pub fn graph(site: &mut Site, record: &RunRecord) -> Result<String, String> {
    let progress = match site.runs.state(record) {
        RunState::Running(progress) => progress,
        _ => RunProgress::default(),
    };
    let project = site.project(record.profile.as_deref())?;
    let graph = &project.graph;
    if graph.order.len() > MAX_DRAWN {
        return Err(format!("graphs of more than {MAX_DRAWN} stages are not drawn; `hamflow dag` lists them"));
    }
    let mut annotations: BTreeMap<StageId, Annotation> = BTreeMap::new();
    let mut annotate = |name: &str, status: &str| {
        if let Some(id) = graph.find(name) {
            annotations.insert(id, Annotation { status: Some(status.to_owned()), reason: None });
        }
    };
    for stage in &record.stages {
        annotate(&stage.stage, stage.outcome.word());
    }
    for (name, outcome) in &progress.ended {
        annotate(name, outcome.word());
    }
    for name in progress.running.keys() {
        annotate(name, "running");
    }
    Ok(Drawing { graph, stages: &graph.order, annotations: &annotations }.svg())
}
