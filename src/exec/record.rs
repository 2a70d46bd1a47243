//! The journal of a run: what happened, why, how long it took and on which machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hamflow_stage_api::StageError;
use serde::{Deserialize, Serialize};

use super::queue::QueuedTask;
use crate::digest::Digest;
use crate::fs::{self, Durability, Symlinks};
use crate::plan::StaleReason;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At least one of its jobs was executed.
    Ran,
    /// Everything came from the cache.
    Cached,
    /// There was nothing to do.
    Fresh,
    /// The stage failed.
    Failed,
    /// An upstream stage failed, or the run ended first.
    Skipped,
    /// The user interrupted the run while the stage was running.
    Interrupted,
    /// Its jobs were left in the queue of a batch system.
    Queued,
}

impl Outcome {
    /// The name of the outcome.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::Fresh => "fresh",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
            Self::Queued => "queued",
        }
    }
}

/// The record of a stage in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub stage: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The key of its result; empty if it was never computed.
    pub key: String,
    /// Why it was stale.
    pub reasons: Vec<StaleReason>,
    /// Number of executed parts.
    pub parts_ran: usize,
    /// Number of cached parts.
    pub parts_cached: usize,
    /// Milliseconds from its start to its end.
    pub wall_ms: u64,
    /// The largest resident set size of its workers, in bytes; 0 if no job ran.
    pub peak_memory: u64,
    /// The time of all its jobs together, in milliseconds.
    #[serde(default)]
    pub work_ms: u64,
    /// Its tasks in the queue of a batch system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<QueuedTask>,
    /// The device class, if the result depends on it.
    pub device: Option<String>,
    /// The digest of each output by artifact name.
    pub outputs: BTreeMap<String, Digest>,
    /// The error, if it failed.
    pub error: Option<StageError>,
}

/// The record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The name of the run: its start time with milliseconds.
    pub run: String,
    /// The version of hamflow.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// The profile.
    pub profile: Option<String>,
    /// Start time in seconds since 1970.
    pub started: u64,
    /// Duration in milliseconds; 0 while the run is in progress or if it was killed.
    pub wall_ms: u64,
    /// Whether the user interrupted the run.
    #[serde(default)]
    pub interrupted: bool,
    /// The host name.
    pub host: String,
    /// Number of threads available to jobs.
    pub threads: usize,
    /// The stages in the order in which they finished.
    pub stages: Vec<StageRecord>,
}

/// Returns the name of a run that starts now. Names sort chronologically.
pub fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil_date(now.as_secs() / 86_400);
    let second = now.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{:03}", now.subsec_millis())
}

/// Converts days since 1970 to year, month and day (Hinnant, "chrono-compatible low-level date algorithms", 2013).
pub fn civil_date(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Minimum time between two saves of the record; limits what a killed run loses.
const BETWEEN_SAVES: Duration = Duration::from_secs(2);

/// Writes the record and the logs of a run. Files are created on the first write.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// The record so far.
    pub record: RunRecord,
    logs: BTreeMap<String, File>,
    saved: Option<Instant>,
    /// Whether the record has changed since it was saved.
    unsaved: bool,
}

impl Journal {
    /// Creates the journal of a run in the directory `runs`.
    pub fn new(runs: &Path, record: RunRecord) -> Self {
        Self { folder: runs.join(&record.run), record, logs: BTreeMap::new(), saved: None, unsaved: false }
    }

    /// The directory of the log and the side outputs of a stage.
    pub fn stage_dir(&self, stage: &str) -> PathBuf {
        self.folder.join(stage)
    }

    /// Appends a line to the log of a stage. Errors are ignored.
    pub fn log(&mut self, stage: &str, line: &str) {
        if !self.logs.contains_key(stage) {
            let folder = self.stage_dir(stage);
            let opened = fs::create_dir(&folder).ok().and_then(|()| {
                let mut options = OpenOptions::new();
                fs::open_with(options.create(true).append(true), &folder.join("log.txt"), Symlinks::Refuse).ok()
            });
            let Some(file) = opened else { return };
            self.logs.insert(stage.to_owned(), file);
        }
        if let Some(file) = self.logs.get_mut(stage) {
            let _ = writeln!(file, "{line}");
        }
    }

    /// Closes the log of a stage, so that runs with many stages do not run out of file descriptors.
    pub fn close_log(&mut self, stage: &str) {
        self.logs.remove(stage);
    }

    /// Saves the record unless it was saved recently. The end of a run must call [`save`](Self::save).
    pub fn save_soon(&mut self) {
        self.unsaved = true;
        self.save_pending();
    }

    /// Saves what [`save_soon`](Self::save_soon) has put off, once enough time has passed.
    pub fn save_pending(&mut self) {
        if self.unsaved && self.saved.is_none_or(|saved| saved.elapsed() > BETWEEN_SAVES) {
            self.save();
            (self.saved, self.unsaved) = (Some(Instant::now()), false);
        }
    }

    /// Saves the record. Errors are ignored.
    pub fn save(&self) {
        let mut text = serde_json::to_string_pretty(&self.record).expect("a record has only string keys");
        text.push('\n');
        let _ = fs::write(&self.folder.join("record.json"), text.as_bytes(), Durability::Relaxed);
    }
}

/// The names of all recorded runs, newest first.
pub fn list_runs(runs: &Path) -> Vec<String> {
    let mut names = run_names(runs);
    names.retain(|name| read_run(runs, name).is_some());
    names
}

/// The names of the folders that may belong to runs, newest first, without reading the records.
pub fn run_names(runs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit())).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names
}

/// The newest run if it has written something and has not finished. A killed run never finishes.
pub fn newest_unfinished_run(runs: &Path) -> Option<String> {
    let newest = run_names(runs).into_iter().next()?;
    read_run(runs, &newest).is_none_or(|record| record.wall_ms == 0).then_some(newest)
}

/// Reads the record of a run; `None` if it is missing, has another format or belongs to another run.
pub fn read_run(runs: &Path, run: &str) -> Option<RunRecord> {
    let bytes = fs::read_regular(&runs.join(run).join("record.json"), Symlinks::Refuse).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|record: &RunRecord| record.run == run)
}

/// The path of the log of a stage in a run.
pub fn stage_log(runs: &Path, run: &str, stage: &str) -> PathBuf {
    runs.join(run).join(stage).join("log.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_779), (2026, 11, 22));
    }
}
