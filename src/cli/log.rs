//! `hamflow log`: past runs, the details of a run, the log of a stage.

use clap::Args;
use hamflow_stage_api::near_miss::did_you_mean;

use super::{CliError, Common, follow, pages, project, reads, status};
use crate::config::Kinds;
use crate::exec::{Outcome, RunRecord, list_runs, read_run, stage_log};
use crate::fs::{self, Symlinks};
use crate::store::Store;
use crate::ui::{self, Style, bytes, duration};

/// Arguments of `hamflow log`.
#[derive(Debug, Args)]
pub struct LogArguments {
    /// A run (or `last`), a stage, or both [default: list all runs]
    #[arg(value_name = "RUN|STAGE", num_args = 0..=2)]
    what: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Follow the log of the named stage until it ends
    #[arg(short, long)]
    follow: bool,
    /// List the files that the program of the named stage used
    #[arg(long, conflicts_with = "follow")]
    reads: bool,
    /// Print the run records, or with `--reads` the files, as JSON
    #[arg(long, conflicts_with = "follow")]
    json: bool,
    /// Maximum number of runs to list
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    number: usize,
}

/// Runs the command.
pub fn execute(arguments: &LogArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = match project::open(&arguments.common, kinds) {
        Ok(opened) => Some(opened),
        Err(error) if arguments.follow || !project::pipeline_file(&arguments.common).exists() => return Err(error),
        // The records are most useful while the pipeline file is broken.
        Err(_) => None,
    };
    let store = match &opened {
        Some(opened) => opened.store.clone(),
        None => project::store_of(&arguments.common)?,
    };
    let stages: Vec<&str> =
        opened.iter().flat_map(|opened| &opened.graph.pipeline.stages).map(|stage| &stage.name[..]).collect();
    let runs = store.runs_dir();
    let known = list_runs(&runs);
    if let Some(opened) = opened.as_ref().filter(|_| arguments.follow) {
        let [stage] = &arguments.what[..] else {
            return Err(CliError::user("`--follow` requires the name of one stage").hint("`hamflow log -f train`"));
        };
        if !stages.contains(&&stage[..]) {
            return Err(unknown(&stages, stage));
        }
        if follow::follow(opened, stage)? {
            return Ok(0);
        }
        ui::say("no run is in progress; showing the most recent log:");
    }
    if arguments.reads {
        return show_reads(&store, &arguments.what, &stages, arguments.json);
    }
    match &arguments.what[..] {
        [] => {
            if known.is_empty() {
                ui::say("no runs recorded yet (runs with nothing to do are not recorded)");
            }
            for record in known.iter().take(arguments.number).filter_map(|run| read_run(&runs, run)) {
                if arguments.json { ui::data(&json(&record)) } else { ui::data(&headline(&record)) }
            }
        }
        [what] => match project::find_run(&store, what) {
            Some(record) => {
                if arguments.json {
                    ui::data(&json(&record))
                } else {
                    show(&record)
                }
            }
            None => {
                let with_log = known.iter().find(|run| stage_log(&runs, run, what).is_file());
                let run = with_log.ok_or_else(|| unknown(&stages, what))?;
                print(&runs, run, what)?;
            }
        },
        [run, stage] => {
            let record = project::past_run(&store, run)?;
            if !record.stages.iter().any(|found| found.stage == *stage)
                && !stage_log(&runs, &record.run, stage).is_file()
            {
                let of_run: Vec<&str> = record.stages.iter().map(|found| &found.stage[..]).collect();
                return Err(unknown(&of_run, stage));
            }
            print(&runs, &record.run, stage)?;
        }
        _ => return Err(CliError::user("`hamflow log` takes at most a run and a stage")),
    }
    Ok(0)
}

fn show_reads(store: &Store, what: &[String], stages: &[&str], json: bool) -> Result<u8, CliError> {
    let runs = store.runs_dir();
    let (candidates, stage) = match what {
        [stage] if stages.contains(&&stage[..]) => (list_runs(&runs), stage),
        [stage] => return Err(unknown(stages, stage)),
        [run, stage] => (vec![project::past_run(store, run)?.run], stage),
        _ => return Err(CliError::user("`--reads` requires the name of a stage").hint("`hamflow log --reads STAGE`")),
    };
    reads::show(&runs, &candidates, stage, json).map(|()| 0)
}

fn unknown(stages: &[&str], what: &str) -> CliError {
    if stages.contains(&what) {
        return CliError::user(format!("no recorded run has a log of stage `{what}`"));
    }
    let of_matrix: Vec<&str> = stages
        .iter()
        .copied()
        .filter(|name| name.strip_prefix(what).is_some_and(|rest| rest.starts_with('[')))
        .collect();
    if !of_matrix.is_empty() {
        return CliError::user(format!("`{what}` is a matrix of stages, each with its own log"))
            .hint(format!("choose one of `{}`", of_matrix.join("`, `")));
    }
    let hint = did_you_mean(what, stages.iter().copied())
        .unwrap_or_else(|| "`hamflow log` lists the runs, `hamflow dag` lists the stages".to_owned());
    CliError::user(format!("`{what}` is neither a recorded run nor a stage")).hint(hint)
}

fn print(runs: &std::path::Path, run: &str, stage: &str) -> Result<(), CliError> {
    let path = stage_log(runs, run, stage);
    let text = fs::read_regular(&path, Symlinks::Refuse)
        .map_err(|_| CliError::user(format!("stage `{stage}` has no log in run `{run}`")))?;
    for line in String::from_utf8_lossy(&text).lines() {
        ui::data(line);
    }
    Ok(())
}

fn json(record: &RunRecord) -> String {
    serde_json::to_string(record).expect("a record has only string keys")
}

fn headline(record: &RunRecord) -> String {
    let counts = pages::counts(record, &[Outcome::Ran, Outcome::Cached, Outcome::Fresh, Outcome::Failed]);
    let time = if record.wall_ms == 0 { "unfinished".to_owned() } else { duration(record.wall_ms) };
    let counts = if record.interrupted { [counts, vec!["interrupted".to_owned()]].concat() } else { counts };
    let command: Vec<&str> = record.command.iter().skip(1).map(String::as_str).collect();
    format!("{}  {time:>12}  {:<32}  hamflow {}", record.run, counts.join(", "), command.join(" "))
}

fn show(record: &RunRecord) {
    ui::data(&headline(record));
    ui::data(&format!("hamflow {} on {}, {} threads", record.version, record.host, record.threads));
    let style = Style::of(&std::io::stdout());
    let width = record.stages.iter().map(|stage| stage.stage.chars().count()).max().unwrap_or(0);
    for stage in &record.stages {
        let mut line =
            format!("{} {:<width$}  {:>12}", style.word(stage.outcome.word()), stage.stage, duration(stage.wall_ms));
        let memory = if stage.peak_memory > 0 { bytes(stage.peak_memory) } else { String::new() };
        line.push_str(&format!("  {memory:>9}"));
        if stage.parts_ran + stage.parts_cached > 0 {
            line.push_str(&format!("  {} of {} parts", stage.parts_ran, stage.parts_ran + stage.parts_cached));
        }
        if let Some(device) = &stage.device {
            line.push_str(&format!("  {device}"));
        }
        if let Some(reason) = stage.reasons.first() {
            line.push_str(&format!("  {reason}"));
        }
        ui::data(line.trim_end());
        stage.tasks.iter().for_each(|task| ui::data(&format!("  {}", status::task_line(task, None))));
        if let Some(error) = &stage.error {
            ui::data(&format!("  {}", error.render().replace('\n', "\n  ")));
        }
    }
}
