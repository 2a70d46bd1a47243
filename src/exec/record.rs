//! The journal of a run: what happened, why, how long it took, on what machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hamflow_stage_api::StageError;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fs::{self, Durability, Symlinks};
use crate::plan::StaleReason;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At least one job of it executed.
    Ran,
    /// Everything came from the cache.
    Cached,
    /// There was nothing to do.
    Fresh,
    /// It failed.
    Failed,
    /// A stage before it failed, or the run ended first.
    Skipped,
    /// The user ended the run while it was at work.
    Interrupted,
}

impl Outcome {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::Fresh => "fresh",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a run did about one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub stage: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The key of its result; empty where it never had one.
    pub key: String,
    /// Why it had to do something.
    pub reasons: Vec<StaleReason>,
    /// Parts that ran.
    pub parts_ran: usize,
    /// Parts that the cache had.
    pub parts_cached: usize,
    /// Milliseconds from its start to its end.
    pub wall_ms: u64,
    /// The largest resident size of a worker that did its jobs, in bytes; 0 where none ran.
    pub peak_memory: u64,
    /// The class of device, where it matters.
    pub device: Option<String>,
    /// By artifact: what it made.
    pub outputs: BTreeMap<String, Digest>,
    /// Why it failed.
    pub error: Option<StageError>,
}

/// The journal of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Names the run: its start, to the second, and some digits more.
    pub run: String,
    /// The version of hamflow.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// The profile.
    pub profile: Option<String>,
    /// Seconds since 1970.
    pub started: u64,
    /// Milliseconds from the first to the last moment; 0 while it runs or where it was killed.
    pub wall_ms: u64,
    /// Whether the user ended it.
    #[serde(default)]
    pub interrupted: bool,
    /// The machine's name.
    pub host: String,
    /// The number of threads that jobs could use.
    pub threads: usize,
    /// What happened to the stages, in the order in which they ended.
    pub stages: Vec<StageRecord>,
}

/// Makes the name of a run that starts now: sorted by name is sorted by time.
pub fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil_date(now.as_secs() / 86_400);
    let second = now.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{:03}", now.subsec_millis())
}

/// Year, month and day of a number of days since 1970 (Hinnant, "chrono-compatible low-level date algorithms", 2013).
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

/// A run that is killed loses at most this much of its record.
const BETWEEN_SAVES: Duration = Duration::from_secs(2);

/// Writes the record and the logs of one run; makes nothing before there is something to write.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// What has happened so far.
    pub record: RunRecord,
    logs: BTreeMap<String, File>,
    saved: Option<Instant>,
}

impl Journal {
    /// Starts a journal below `runs`.
    pub fn new(runs: &Path, record: RunRecord) -> Self {
        Self { folder: runs.join(&record.run), record, logs: BTreeMap::new(), saved: None }
    }

    /// Where a stage's log and side outputs lie.
    pub fn stage_dir(&self, stage: &str) -> PathBuf {
        self.folder.join(stage)
    }

    /// Adds a line to a stage's log. A log that cannot be written is no reason to fail.
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

    /// Ends a stage's log: a run of very many stages shall not hold as many files.
    pub fn close_log(&mut self, stage: &str) {
        self.logs.remove(stage);
    }

    /// Writes the record unless that was done a moment ago; whoever ends the run calls [`save`](Self::save).
    pub fn save_soon(&mut self) {
        if self.saved.is_none_or(|saved| saved.elapsed() > BETWEEN_SAVES) {
            self.save();
            self.saved = Some(Instant::now());
        }
    }

    /// Writes the record as it is now.
    pub fn save(&self) {
        let mut text = serde_json::to_string_pretty(&self.record).expect("a record has only string keys");
        text.push('\n');
        let _ = fs::write(&self.folder.join("record.json"), text.as_bytes(), Durability::Relaxed);
    }
}

/// The names of all recorded runs, the latest first.
pub fn list_runs(runs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| read_run(runs, &entry.file_name().to_string_lossy()).is_some())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names
}

/// The latest run that has written something and has not ended; one that was killed never does.
pub fn newest_unfinished_run(runs: &Path) -> Option<String> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let newest = names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit())).max()?;
    read_run(runs, &newest).is_none_or(|record| record.wall_ms == 0).then_some(newest)
}

/// The record of a run; none where it is absent, of another version, or the record of another run.
pub fn read_run(runs: &Path, run: &str) -> Option<RunRecord> {
    let bytes = fs::read_regular(&runs.join(run).join("record.json"), Symlinks::Refuse).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|record: &RunRecord| record.run == run)
}

/// Where the log of a stage in a run is.
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
