//! `hamflow log --follow`: prints the log of a running stage as it is written.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{CliError, project};
use crate::exec::{RunGuard, newest_unfinished_run, read_run, stage_log};
use crate::fs::{self, Symlinks};
use crate::ui;

/// How often the log is read.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// After this many polls without a new line, check whether a run is still in progress. The check briefly takes the run lock.
const IDLE_POLLS: u32 = 10;

/// Prints the log of `stage` in the run in progress until the stage or the run ends, waiting for the stage to start.
/// Returns whether a run was in progress.
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
                ui::say(&format!("waiting for stage `{stage}` to start"));
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
        // Checked before the last read, so that lines written in between are not missed.
        let ended = ended(runs, run, stage) || (silent >= IDLE_POLLS && !RunGuard::is_held(root));
        let mut said = false;
        while log.read_line(&mut line).map_err(|error| CliError::user(format!("`{}`: {error}", path.display())))? > 0 {
            // An incomplete line is still being written.
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
