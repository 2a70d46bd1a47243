//! `hamflow log --follow`: what a stage says, as it says it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{CliError, project};
use crate::exec::{RunGuard, newest_unfinished_run, read_run, stage_log};
use crate::fs::{self, Symlinks};
use crate::ui;

/// How often the log is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Looks without a new line after which is asked whether a run still works: asking takes its lock for a moment.
const IDLE_POLLS: u32 = 10;

/// Prints the log of `stage` in the run that works now, until the stage or the run ends; waits for a stage that has not begun.
/// Returns whether a run works.
pub fn follow(opened: &project::Project, stage: &str) -> Result<bool, CliError> {
    let (runs, root) = (opened.store.runs_dir(), opened.store.root());
    let mut silent = IDLE_POLLS;
    let mut saw_run = false;
    loop {
        let run = newest_unfinished_run(&runs);
        if let Some(run) = run.filter(|run| stage_log(&runs, run, stage).is_file()) {
            return print_until_end(&runs, root, &run, stage).map(|()| true);
        }
        if silent == IDLE_POLLS {
            if !RunGuard::is_held(root) {
                return Ok(saw_run);
            }
            if !saw_run {
                ui::say(&format!("waiting for stage `{stage}` to begin"));
            }
            (saw_run, silent) = (true, 0);
        }
        silent += 1;
        sleep(POLL_INTERVAL);
    }
}

fn print_until_end(runs: &Path, root: &Path, run: &str, stage: &str) -> Result<(), CliError> {
    let path = stage_log(runs, run, stage);
    let opened = fs::open_regular(&path, Symlinks::Refuse);
    let mut log = BufReader::new(opened.map_err(|error| CliError::user(format!("`{}`: {error}", path.display())))?);
    let mut line = String::new();
    let mut silent = 0;
    loop {
        // Asked before the last look, so that nothing said in between is missed.
        let ended = ended(runs, run, stage) || (silent >= IDLE_POLLS && !RunGuard::is_held(root));
        let mut said = false;
        while log.read_line(&mut line).map_err(|error| CliError::user(format!("`{}`: {error}", path.display())))? > 0 {
            // A line without its end is still being written.
            if !line.ends_with('\n') && !ended {
                break;
            }
            ui::data(line.trim_end_matches('\n'));
            line.clear();
            said = true;
        }
        if ended {
            return Ok(());
        }
        silent = if said || silent > IDLE_POLLS { 0 } else { silent + 1 };
        sleep(POLL_INTERVAL);
    }
}

fn ended(runs: &Path, run: &str, stage: &str) -> bool {
    read_run(runs, run)
        .is_some_and(|record| record.wall_ms > 0 || record.stages.iter().any(|ended| ended.stage == stage))
}
