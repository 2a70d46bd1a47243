//! `hamflow why`: explains why a stage must run, by comparing fingerprints.

use clap::Args;
use serde_json::json;

use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::exec::{Outcome, StageRecord};
use crate::graph::StageId;
use crate::plan::{Planner, StaleReason, Verdict};
use crate::ui;

/// Arguments of `hamflow why`.
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// The stage to explain
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    common: Common,
    /// Explain what a past run did (`last`, or an ID from `hamflow log`)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Print the verdict and its reasons as JSON
    #[arg(long)]
    json: bool,
    /// Use the digests in the lock file for missing inputs
    #[arg(long)]
    allow_missing: bool,
}

/// Runs the command.
pub fn execute(arguments: &WhyArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let stages = opened.graph.select(std::slice::from_ref(&arguments.stage))?;
    if let Some(run) = &arguments.run {
        return past(arguments, &opened, &stages, run);
    }
    let mut planner = Planner::new(&opened.graph, &opened.store, &opened.lock, arguments.allow_missing);
    let (verdicts, _) = status::verdicts(&mut planner, &stages);
    for (id, verdict) in verdicts.iter().filter(|(id, _)| stages.contains(id)) {
        let name = &opened.graph.stage(*id).name;
        let verdict = verdict.clone()?;
        let (word, text) = status::in_words(&planner, &verdict);
        let reasons: &[StaleReason] = if let Verdict::Stale(reasons) = &verdict { reasons } else { &[] };
        if arguments.json {
            ui::data(&json!({"stage": name, "verdict": word, "reasons": reasons}).to_string());
            continue;
        }
        match &verdict {
            Verdict::Stale(_) => {
                ui::data(&format!("`{name}` must run:"));
                show(reasons);
            }
            Verdict::Fresh => ui::data(&format!("`{name}` is fresh: nothing that affects its outputs has changed")),
            Verdict::Cached => ui::data(&format!("`{name}` is cached: {text}")),
            Verdict::Pending(_) => {
                ui::data(&format!("`{name}` is pending: it {text}"));
                // The root cause may be several stages upstream.
                let upstream = opened.graph.upstream(&[*id]);
                for (before, verdict) in verdicts.iter().filter(|(before, _)| upstream.contains(before)) {
                    let name = &opened.graph.stage(*before).name;
                    match verdict {
                        Ok(Verdict::Stale(reasons)) => {
                            ui::data(&format!("`{name}` must run:"));
                            show(reasons);
                        }
                        Err(error) => ui::data(&format!("`{name}` cannot be checked: {}", error.render())),
                        Ok(_) => {}
                    }
                }
            }
        }
    }
    Ok(0)
}

fn show(reasons: &[StaleReason]) {
    for reason in reasons {
        ui::data(&format!("  {reason}"));
        for line in reason.details() {
            ui::data(&format!("    {line}"));
        }
    }
}

fn past(arguments: &WhyArguments, opened: &project::Project, stages: &[StageId], run: &str) -> Result<u8, CliError> {
    let record = project::past_run(&opened.store, run)?;
    for id in stages {
        let name = &opened.graph.stage(*id).name;
        let Some(found) = record.stages.iter().find(|stage| stage.stage == *name) else {
            ui::data(&format!("run {} did not include `{name}`", record.run));
            continue;
        };
        if arguments.json {
            ui::data(&serde_json::to_string(found).expect("a record has only string keys"));
            continue;
        }
        let StageRecord { outcome, reasons, error, .. } = found;
        match outcome {
            Outcome::Fresh => ui::data(&format!("in run {} `{name}` was fresh", record.run)),
            Outcome::Skipped => ui::data(&format!("run {} did not reach `{name}`", record.run)),
            Outcome::Ran | Outcome::Cached | Outcome::Failed | Outcome::Interrupted | Outcome::Queued => {
                let verb = match outcome {
                    Outcome::Cached => "came from the cache",
                    Outcome::Interrupted => "was interrupted",
                    Outcome::Queued => "was left in the queue",
                    other => other.word(),
                };
                ui::data(&format!("in run {} `{name}` {verb}:", record.run));
                if reasons.is_empty() && *outcome == Outcome::Cached {
                    ui::data(&format!("  its dependencies had not changed, but the contents of `out/{name}` differed"));
                }
                show(reasons);
                if let Some(error) = error {
                    ui::data(&format!("  {}", error.render().replace('\n', "\n  ")));
                }
            }
        }
    }
    Ok(0)
}
