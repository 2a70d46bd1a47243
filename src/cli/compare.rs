//! `hamflow compare`: compares two runs on one HTML page.

mod curves;
mod metric_tables;
mod paired;
mod plots;

use clap::Args;
use hamflow_stage_api::Access;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::project::Project;
use super::{CliError, Common, pages, project};
use crate::config::Kinds;
use crate::exec::{Outcome, RunRecord, StageRecord};
use crate::graph::Source;
use crate::plan::{Fingerprint, StaleReason, fingerprint_difference};
use crate::ui::{self, duration};

const STYLE: &str = include_str!("compare.css");

/// Arguments of `hamflow compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// The two runs to compare (IDs from `hamflow log`, or `last`)
    #[arg(value_name = "RUN", num_args = 2, required = true)]
    runs: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// Runs the command.
pub fn execute(arguments: &CompareArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let mut records = Vec::new();
    for run in &arguments.runs {
        records.push(project::past_run(&opened.store, run)?);
    }
    let [a, b] = &records[..] else { return Err(CliError::user("`hamflow compare` takes two runs")) };
    let page = page(&opened, [a, b]).into_string();
    let path = pages::write(&opened, &b.run, &format!("compared-with-{}.html", a.run), &page)?;
    ui::data(&path.display().to_string());
    if arguments.open {
        pages::open(&path)?;
    }
    Ok(0)
}

/// Renders the page: first what differs, then the metrics, the curves, and the runs themselves.
pub fn page(opened: &Project, runs: [&RunRecord; 2]) -> Markup {
    let curves = curves::figures(opened, runs);
    let plots = plots::figures(opened, runs);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (pages::head(&format!("Runs {} and {}", runs[0].run, runs[1].run)))
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { "Run comparison" } }
                main {
                    section { h2 { "What differs" } (differences(opened, runs)) }
                    section { h2 { "Metrics" } (metric_tables::section(opened, runs)) }
                    @if !curves.is_empty() { section { h2 { "Learning curves" } div.figures { @for figure in &curves { (figure) } } } }
                    @if !plots.is_empty() { section { h2 { "Plots" } div.figures { @for figure in &plots { (figure) } } } }
                    section { h2 { "Runs" } (facts(runs)) }
                    section { h2 { "Stages" } (stage_table(runs)) }
                    @for (stage, artifact) in pages::page_stages(opened) {
                        section.wide {
                            h2 { "Pages of " (stage) }
                            div.sides { @for run in runs { (side(opened, run, &stage, &artifact)) } }
                        }
                    }
                }
            }
        }
    }
}

fn facts(runs: [&RunRecord; 2]) -> Markup {
    let [a, b] = runs.map(pages::facts);
    let table = html! {
        table {
            tbody { @for ((name, first), (_, second)) in a.into_iter().zip(b) { tr { th scope="row" { (name) } td { (first) } td { (second) } } } }
        }
    };
    pages::scroll("Runs", &table)
}

/// How a stage differs between the two runs.
struct Difference<'a> {
    stage: &'a str,
    /// Root causes: parameters, seeds, declared inputs.
    own: Vec<String>,
    /// Differences that follow from those of upstream stages.
    follows: Vec<String>,
}

impl<'a> Difference<'a> {
    fn only_in_other(stage: &'a str, run: &RunRecord) -> Self {
        Self { stage, own: vec![format!("is not in run {}", run.run)], follows: Vec::new() }
    }

    fn between(opened: &Project, first: &StageRecord, second: &'a StageRecord) -> Self {
        let fingerprint = |stage: &StageRecord| -> Option<Fingerprint> {
            serde_json::from_value(opened.store.actions.get_hex(&stage.key)?.fingerprint).ok()
        };
        let stage = &second.stage[..];
        if let Some(ended) = [first, second].into_iter().find_map(not_done) {
            return Self { stage, own: vec![ended.to_owned()], follows: Vec::new() };
        }
        let Some((first, second)) = fingerprint(first).zip(fingerprint(second)) else {
            let lost =
                "inputs or parameters changed; details are unavailable because the results are no longer in the cache";
            return Self { stage, own: vec![lost.to_owned()], follows: Vec::new() };
        };
        let all = fingerprint_difference(&|digest| opened.store.text(digest), &first, &second);
        let (follows, own): (Vec<_>, Vec<_>) = all.iter().partition(|reason| is_from_before(opened, stage, reason));
        let words = |reasons: Vec<&StaleReason>| reasons.into_iter().map(ToString::to_string).collect();
        Self { stage, own: words(own), follows: words(follows) }
    }
}

/// The outcome of a stage that has no result.
fn not_done(stage: &StageRecord) -> Option<&'static str> {
    match stage.outcome {
        Outcome::Failed => Some("failed in one of the runs"),
        Outcome::Skipped => Some("was not reached in one of the runs"),
        Outcome::Interrupted => Some("was interrupted in one of the runs"),
        Outcome::Queued => Some("was left in the queue in one of the runs"),
        _ => None,
    }
}

/// Whether a difference comes from an upstream stage, judged by the current pipeline.
fn is_from_before(opened: &Project, stage: &str, reason: &StaleReason) -> bool {
    let graph = &opened.graph;
    let is_artifact = |source: &Source| matches!(source, Source::Artifact { .. });
    let Some(place) = graph.pipeline.stages.iter().position(|found| found.name == stage) else { return false };
    let mut bindings = graph.edges[place].iter();
    match reason {
        StaleReason::Input { port, .. } => {
            bindings.find(|edge| edge.port.name == *port).is_some_and(|binding| binding.sources.iter().all(is_artifact))
        }
        // A view does not record its port: it may belong to any port that is read through views.
        StaleReason::View { .. } => bindings
            .filter(|binding| binding.port.access == Access::View)
            .all(|binding| binding.sources.iter().all(is_artifact)),
        _ => false,
    }
}

/// What made the results differ, down to the parameter, file or row.
fn differences(opened: &Project, runs: [&RunRecord; 2]) -> Markup {
    let find = |run: &RunRecord, stage: &str| run.stages.iter().position(|found| found.stage == stage);
    let mut found = Vec::new();
    for second in &runs[1].stages {
        match find(runs[0], &second.stage).map(|place| &runs[0].stages[place]) {
            None => found.push(Difference::only_in_other(&second.stage, runs[0])),
            Some(first) if first.key != second.key => found.push(Difference::between(opened, first, second)),
            Some(_) => {}
        }
    }
    let only_in_first = runs[0].stages.iter().filter(|first| find(runs[1], &first.stage).is_none());
    found.extend(only_in_first.map(|first| Difference::only_in_other(&first.stage, runs[1])));
    html! {
        @if found.is_empty() { p { "None: every stage had the same inputs, parameters and seed in both runs." } }
        @else {
            ul {
                @for Difference { stage, own, follows } in &found {
                    li {
                        strong { (stage) } ": "
                        @if own.is_empty() { "upstream changes only" } @else { (pages::with_code(&own.join("; "))) }
                        @if !follows.is_empty() { details { summary { "upstream changes" } (pages::with_code(&follows.join("; "))) } }
                    }
                }
            }
        }
    }
}

fn stage_table(runs: [&RunRecord; 2]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for stage in runs.iter().flat_map(|run| &run.stages) {
        if !names.contains(&&stage.stage[..]) {
            names.push(&stage.stage);
        }
    }
    let found = |run: &RunRecord, name: &str| run.stages.iter().find(|stage| stage.stage == name).cloned();
    let cell = |stage: Option<StageRecord>| {
        stage.map_or("–".to_owned(), |stage| match stage.wall_ms {
            0 => pages::outcome(&stage),
            time => format!("{}, {}", pages::outcome(&stage), duration(time)),
        })
    };
    let table = html! {
        table {
            thead { tr { th scope="col" { "stage" } @for run in runs { th scope="col" { (run.run) } } } }
            tbody { @for name in names { tr { th scope="row" { (name) } @for run in runs { td { (cell(found(run, name))) } } } } }
        }
    };
    pages::scroll("Stages", &table)
}

/// The page of a run in an iframe, so that the IDs and scripts of the two pages do not interfere.
fn side(opened: &Project, run: &RunRecord, stage: &str, artifact: &str) -> Markup {
    let made = run.stages.iter().find(|found| found.stage == stage).and_then(|found| found.outputs.get(artifact));
    let text = made.and_then(|digest| pages::read(opened, stage, digest).ok());
    html! {
        div {
            h3 { (run.run) }
            @match text {
                Some(text) => iframe title={ "Page of " (stage) " in run " (run.run) } sandbox="allow-scripts" srcdoc=(text) {},
                None => p { "This run produced no page of `" (stage) "`, or it is no longer in the cache." },
            }
        }
    }
}
