//! The list of runs.

use maud::{Markup, html};

use super::page::{Page, run_word, state};
use super::reply::{Url, segment};
use super::runs::RunState;
use super::site::Site;
use crate::cli::pages;
use crate::exec::{Outcome, RunRecord};
use crate::ui::duration;

/// Runs on one page of the list.
const PAGE: usize = 100;

/// Renders the list: 100 runs, all of them or those that contain the text `q` in name, command, profile or state.
pub fn page(site: &mut Site, url: &Url) -> Markup {
    let filter = url.get("q").unwrap_or_default().trim().to_lowercase();
    let names = site.runs.names();
    let total = names.len();
    // One more than is shown, to know whether others follow.
    let mut wanted: Vec<RunRecord> = if filter.is_empty() {
        names.iter().filter_map(|name| site.runs.get(name)).skip(offset(url)).take(PAGE + 1).collect()
    } else {
        let records: Vec<RunRecord> = names.iter().filter_map(|name| site.runs.get(name)).collect();
        records.into_iter().filter(|record| contains(site, record, &filter)).skip(offset(url)).take(PAGE + 1).collect()
    };
    let has_more = wanted.len() > PAGE;
    wanted.truncate(PAGE);
    let (title, error) = match site.selected() {
        Ok(project) => (project.graph.pipeline.name.clone(), None),
        Err(error) => ("Runs".to_owned(), Some(error)),
    };
    let body = html! {
        @if let Some(error) = error { div.error role="alert" data-part="error" { p { "The pipeline file has errors:" } pre { (error) } } }
        @else { div data-part="error" {} }
        form.search role="search" {
            label { "Filter " input type="search" name="q" value=(url.get("q").unwrap_or_default()) placeholder="run, command, profile or state"; }
            " " button { "Filter" }
        }
        form #compare action="compare" {
            div.bar {
                p data-part="count" { (total) @if total == 1 { " run" } @else { " runs" } }
                button { "Compare two runs" }
            }
            div.scroll tabindex="0" role="group" aria-label="Runs" { (table(site, &wanted)) }
        }
        (pager(url, &filter, has_more))
    };
    Page { title: &title, root: "", live: true, body }.render()
}

fn offset(url: &Url) -> usize {
    url.get("from").and_then(|from| from.parse().ok()).unwrap_or(0)
}

fn contains(site: &Site, record: &RunRecord, filter: &str) -> bool {
    let profile = record.profile.as_deref().unwrap_or_default();
    let command = record.command.get(1..).unwrap_or_default().join(" ");
    let text = format!("{} {command} {profile} {}", record.run, run_word(record, &site.runs.state(record)));
    text.to_lowercase().contains(filter)
}

fn table(site: &Site, records: &[RunRecord]) -> Markup {
    html! {
        table data-part="runs" {
            caption.hidden { "Runs, newest first" }
            thead {
                tr {
                    th scope="col" { "compare" } th scope="col" { "run" } th scope="col" { "state" } th scope="col" { "command" }
                    th.number scope="col" { "time" } th scope="col" { "stages" }
                }
            }
            tbody {
                @for record in records { (row(site, record)) }
                @if records.is_empty() { tr { td colspan="6" { "No runs. Runs with nothing to do are not recorded." } } }
            }
        }
    }
}

fn row(site: &Site, record: &RunRecord) -> Markup {
    let run_state = site.runs.state(record);
    let word = run_word(record, &run_state);
    let stages = match &run_state {
        RunState::Running(progress) => format!("{} of {} ended", progress.ended.len(), progress.stages),
        _ => pages::counts(record, &COUNTED).join(", "),
    };
    html! {
        tr {
            td { input type="checkbox" name="run" value=(record.run) aria-label={ "Compare " (record.run) }; }
            th scope="row" { a href={ "run/" (segment(&record.run)) "/" } { (pages::started(record)) } }
            td { (state(word)) }
            td { code { "hamflow " (record.command.get(1..).unwrap_or_default().join(" ")) } }
            td.number { @if record.wall_ms > 0 { (duration(record.wall_ms)) } @else { "–" } }
            td { (stages) }
        }
    }
}

const COUNTED: [Outcome; 5] = [Outcome::Ran, Outcome::Cached, Outcome::Fresh, Outcome::Failed, Outcome::Skipped];

fn pager(url: &Url, filter: &str, has_more: bool) -> Markup {
    let from = offset(url);
    let link = |from: usize| format!("?from={from}&q={}", segment(filter));
    html! {
        nav.pager aria-label="Pages" {
            @if from > 0 { a href=(link(from.saturating_sub(PAGE))) { "Newer runs" } }
            @if has_more { a href=(link(from + PAGE)) { "Older runs" } }
        }
    }
}
