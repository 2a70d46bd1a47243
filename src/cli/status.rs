//! `hamflow status`: shows which stages are up to date, without running anything.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::project::Project;
use super::{CliError, Common, project};
use crate::config::Kinds;
use crate::exec::{QueuedTask, RunGuard, RunProgress, StageProgress, left_in_queue, newest_unfinished_run, now_ms};
use crate::graph::StageId;
use crate::plan::{Planner, Results, StaleReason, Verdict};
use crate::ui::{self, Style};

/// Arguments of `hamflow status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Stages to show together with everything upstream [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Print one JSON object per stage
    #[arg(long)]
    json: bool,
    /// Use the digests in the lock file for missing inputs
    #[arg(long)]
    allow_missing: bool,
}

/// Runs the command.
pub fn execute(arguments: &StatusArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let targets = opened.graph.select(&arguments.stages)?;
    let shown = Shown { targets: &targets, forced: false, json: arguments.json };
    show(&opened, &shown, arguments.allow_missing)
}

/// Which verdicts to show, and how.
pub struct Shown<'a> {
    /// The selected stages.
    pub targets: &'a [StageId],
    /// Whether the selected stages run even if they are up to date.
    pub forced: bool,
    /// Whether to print JSON.
    pub json: bool,
}

/// The verdict of each stage in topological order, or an error if its inputs cannot be read.
pub type Verdicts = Vec<(StageId, Result<Verdict, hamflow_stage_api::StageError>)>;

/// Determines the verdicts of `stages` and everything upstream, and the results of those that need not run.
pub fn verdicts(planner: &mut Planner<'_>, stages: &[StageId]) -> (Verdicts, Results) {
    let graph = planner.graph();
    let wanted = graph.upstream(stages);
    let mut results = Results::new();
    let mut verdicts = Vec::new();
    for &id in graph.order.iter().filter(|id| wanted.contains(id)) {
        let waiting = planner.unfinished(id, &results);
        let verdict = if waiting.is_empty() {
            planner.check(id, &results).and_then(|check| {
                let verdict = planner.verdict(id, &check)?;
                if let (Verdict::Fresh | Verdict::Cached, Some((result, _))) = (&verdict, check.result) {
                    results.insert(id, result);
                }
                Ok(verdict)
            })
        } else {
            Ok(Verdict::Pending(waiting))
        };
        verdicts.push((id, verdict));
    }
    // The stat index is the only file that planning may write.
    let _ = planner.index().save();
    (verdicts, results)
}

/// The word for a verdict, and an explanation.
pub fn in_words(planner: &Planner<'_>, verdict: &Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Fresh => ("fresh", String::new()),
        Verdict::Cached => ("cached", "the result is in the cache but not in `out/`".to_owned()),
        Verdict::Stale(reasons) => ("stale", reasons.iter().map(StaleReason::to_string).collect::<Vec<_>>().join("; ")),
        Verdict::Pending(stages) => {
            let names = stages.iter().map(|id| format!("`{}`", planner.graph().stage(*id).name));
            ("pending", format!("waits for {}", names.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// The tasks of each stage in the queue of a batch system: those of the run in progress, or else what earlier runs left.
fn queues(opened: &Project) -> BTreeMap<String, Vec<QueuedTask>> {
    let executors = &opened.graph.pipeline.executors;
    if executors.is_empty() {
        return BTreeMap::new();
    }
    if RunGuard::is_held(opened.store.root()) {
        let runs = opened.store.runs_dir();
        let progress = newest_unfinished_run(&runs).and_then(|run| RunProgress::read(&runs, &run)).unwrap_or_default();
        let of_stage = |(stage, progress): (String, StageProgress)| (stage, progress.tasks);
        return progress.running.into_iter().map(of_stage).filter(|(_, tasks)| !tasks.is_empty()).collect();
    }
    let folder = opened.store.executors_dir();
    executors.iter().flat_map(|(name, options)| left_in_queue(options, &folder.join(name))).collect()
}

/// A task on one line: `task 12_0: RUNNING on node7, 3 jobs, for 2 min`. How long it has run or waited is only said if it is known what time
/// it is.
pub fn task_line(task: &QueuedTask, now_ms: Option<u64>) -> String {
    let QueuedTask { id, state, reason, host, jobs, attempts, wall_ms, peak_memory, .. } = task;
    let mut line = format!("task {id}: {state}");
    if !reason.is_empty() {
        line.push_str(&format!(" ({reason})"));
    }
    if let Some(host) = host {
        line.push_str(&format!(" on {host}"));
    }
    line.push_str(&format!(", {}", ui::plural(*jobs as u64, "job")));
    let since = match task.began_ms {
        Some(began) if task.is_running() => began,
        _ if task.is_waiting() => task.submitted_ms,
        _ => 0,
    };
    if let Some(passed) = now_ms.filter(|_| since > 0).map(|now| now.saturating_sub(since)) {
        line.push_str(&format!(", for {}", ui::duration(passed)));
    }
    if *attempts > 1 {
        line.push_str(&format!(", attempt {attempts}"));
    }
    if *wall_ms > 0 {
        line.push_str(&format!(", {}", ui::duration(*wall_ms)));
    }
    if *peak_memory > 0 {
        line.push_str(&format!(", {}", ui::bytes(*peak_memory)));
    }
    line
}

/// Prints one line per stage. Returns the exit code.
pub fn show(opened: &Project, shown: &Shown<'_>, allow_missing: bool) -> Result<u8, CliError> {
    let Shown { targets, forced, json } = *shown;
    let mut planner = Planner::new(&opened.graph, &opened.store, &opened.lock, allow_missing);
    let style = Style::of(&std::io::stdout());
    let (mut verdicts, _) = verdicts(&mut planner, targets);
    for (_, verdict) in verdicts.iter_mut().filter(|(id, _)| forced && targets.contains(id)) {
        let waits = matches!(verdict, Ok(Verdict::Pending(_)) | Err(_));
        if !waits {
            *verdict = Ok(Verdict::Stale(vec![StaleReason::Forced]));
        }
    }
    let queues = queues(opened);
    let width = verdicts.iter().map(|(id, _)| opened.graph.stage(*id).name.chars().count()).max().unwrap_or(0);
    let mut code = 0;
    for (id, verdict) in &verdicts {
        let name = &opened.graph.stage(*id).name;
        let (word, text) = match verdict {
            Ok(verdict) => in_words(&planner, verdict),
            Err(error) => {
                code = super::error::exit_code(error.category);
                ("missing", error.render().replace('\n', " "))
            }
        };
        let tasks = queues.get(name).map_or(&[][..], Vec::as_slice);
        if json {
            let reasons = match verdict {
                Ok(Verdict::Stale(reasons)) => json!(reasons),
                _ => json!([]),
            };
            let mut line = json!({"stage": name, "verdict": word, "text": text, "reasons": reasons});
            if !tasks.is_empty() {
                line["tasks"] = json!(tasks);
            }
            ui::data(&line.to_string());
        } else {
            ui::data(format!("{} {name:<width$}  {text}", style.word(word)).trim_end());
            tasks.iter().for_each(|task| ui::data(&format!("  {}", task_line(task, Some(now_ms())))));
        }
    }
    Ok(code)
}
