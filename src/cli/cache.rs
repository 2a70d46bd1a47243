//! `hamflow cache`: inspects and manages the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::guard::guard;
use super::project::Project;
use super::{CliError, Common, project, remote};
use crate::config::{Kinds, parse_age, parse_size};
use crate::exec::{self, GcOptions, KEPT_RUNS};
use crate::fs::{self, Symlinks, at};
use crate::lock::Lockfile;
use crate::store::{self, BundleReport, Damage, ExportFile, Limits};
use crate::ui::{self, Style, bytes, plural};

/// Arguments of `hamflow cache`.
#[derive(Debug, Args)]
pub struct CacheArguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the location and size of the cache
    Info {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Show which results in the lock file the remote has
        #[arg(long)]
        remote: bool,
    },
    /// Upload the results in the lock file to the remote
    Push,
    /// Download the results in the lock file from the remote
    Pull {
        /// The stages to download [default: all]
        #[arg(value_name = "STAGES")]
        stages: Vec<String>,
    },
    /// Generate a key pair for signing results in a remote
    Keygen {
        /// Generate one shared secret instead, for a remote where every reader may also write
        #[arg(long)]
        shared: bool,
    },
    /// Delete unused results until the cache is within its limits
    ///
    /// Results that a lock file or a recent run refers to are kept; others are deleted, least recently used first. Runs do this
    /// automatically, at most once an hour. Lock files of runs with `--set` and checkpoints are kept for two weeks.
    Gc {
        /// Show what would be deleted without deleting anything
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Number of past runs whose results are kept regardless of the limits
        #[arg(long, default_value_t = KEPT_RUNS, value_name = "N")]
        keep_runs: usize,
        /// Maximum size of the cache, such as `5GB` or `0` [default: `[cache] max_size`]
        #[arg(long, value_name = "SIZE", value_parser = size_limit)]
        max_size: Option<u64>,
        /// Maximum time since the last use of a result, such as `7d` or `0d` [default: `[cache] max_age`]
        #[arg(long, value_name = "AGE", value_parser = age)]
        max_age: Option<Duration>,
    },
    /// Check the integrity of all blobs and results
    Verify {
        /// Delete damaged entries; the next run recreates them
        #[arg(long)]
        fix: bool,
    },
    /// Export the results in the lock file to a single file, such as for a CI cache
    Export {
        /// Maximum size of the file, such as `8GB`; the results that took longest to compute are exported first
        #[arg(long, value_name = "SIZE", value_parser = size)]
        budget: Option<u64>,
        /// The file to write or overwrite
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Import a file written by `hamflow cache export`, verifying its contents
    Import {
        /// Do nothing if the file does not exist, as in the first CI run
        #[arg(long)]
        if_present: bool,
        /// The file to import
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
    /// Print a cache key for the exported file, derived from the lock file
    Key,
}

/// Runs the command.
pub fn execute(arguments: &CacheArguments, kinds: Kinds) -> Result<u8, CliError> {
    if let Action::Keygen { shared } = arguments.action {
        // Works outside of a project.
        return remote::keygen(shared).map(|()| 0);
    }
    let opened = project::open(&arguments.common, kinds)?;
    match &arguments.action {
        Action::Keygen { .. } => {}
        Action::Push => return remote::push(&opened),
        Action::Pull { stages } => return remote::pull(&opened, stages),
        Action::Info { json, remote: true } => remote::info(&opened, *json)?,
        Action::Info { json, remote: false } => info(&opened, *json)?,
        Action::Gc { dry_run, keep_runs, max_size, max_age } => {
            let configured = opened.graph.pipeline.cache.limits;
            let limits =
                Limits { max_bytes: max_size.or(configured.max_bytes), max_age: max_age.or(configured.max_age) };
            let own_lock = &opened.lock_paths[0];
            gc(&opened, GcOptions { keep_runs: *keep_runs, limits, dry_run: *dry_run, own_lock })?;
        }
        Action::Verify { fix } => return verify(&opened, *fix),
        Action::Export { budget, to } => export(&opened, budget.unwrap_or(u64::MAX), to)?,
        Action::Import { if_present: true, from } if !from.exists() => {
            ui::say(&format!("`{}` does not exist; nothing to import", from.display()));
        }
        Action::Import { from, .. } => import(&opened, from)?,
        Action::Key => ui::data(&format!("hamflow-cache-{}-{}", store::FORMAT, opened.lock.key())),
    }
    Ok(0)
}

fn info(opened: &Project, json: bool) -> Result<(), CliError> {
    let cache = &opened.store;
    let usage = store::usage(cache)?;
    let Limits { max_bytes, max_age } = opened.graph.pipeline.cache.limits;
    if json {
        let value = json!({
            "max_bytes": max_bytes,
            "max_age_s": max_age.map(|age| age.as_secs()),
            "root": cache.root(),
            "blobs": usage.blobs,
            "blob_bytes": usage.blob_bytes,
            "results": usage.results,
            "memos": usage.memos,
            "checkpoints": usage.checkpoints,
            "checkpoint_bytes": usage.checkpoint_bytes,
        });
        ui::data(&value.to_string());
        return Ok(());
    }
    let max_size = max_bytes.map_or("no limit".to_owned(), bytes);
    let hours = max_age.map(|age| age.as_secs() / 3600);
    let unused = match hours {
        None => String::new(),
        Some(hours) if hours % 24 == 0 => format!(", {} days unused", hours / 24),
        Some(hours) => format!(", {hours} hours unused"),
    };
    ui::data(&format!("cache        {}", cache.root().display()));
    ui::data(&format!("blobs        {} ({})", usage.blobs, bytes(usage.blob_bytes)));
    ui::data(&format!("budget       {max_size}{unused}"));
    ui::data(&format!("results      {}", usage.results));
    ui::data(&format!("memos        {}", usage.memos));
    ui::data(&format!("checkpoints  {} ({})", usage.checkpoints, bytes(usage.checkpoint_bytes)));
    Ok(())
}

fn gc(opened: &Project, options: GcOptions<'_>) -> Result<(), CliError> {
    let _guard = guard(opened)?;
    let GcOptions { keep_runs, dry_run, .. } = options;
    let report = exec::gc(&opened.store, &opened.graph.pipeline.root, options)?;
    let verb = if dry_run { "would delete" } else { "deleted" };
    ui::data(&format!(
        "{verb} {}, {} and {} ({}); {} remaining",
        plural(report.results, "result"),
        plural(report.blobs, "blob"),
        plural(report.checkpoints, "checkpoint"),
        bytes(report.bytes),
        bytes(report.left_bytes)
    ));
    if report.over_bytes > 0 {
        let over = bytes(report.over_bytes);
        ui::say(&match keep_runs {
            0 => format!(
                "the results in lock files exceed the size limit by {over}; to start over, delete `{}`",
                opened.store.root().display()
            ),
            _ => format!(
                "the results of lock files and the last {} exceed the size limit by {over}; use a smaller `--keep-runs` to keep fewer",
                plural(keep_runs, "run")
            ),
        });
    }
    Ok(())
}

/// Returns exit code 1 if anything is damaged.
fn verify(opened: &Project, fix: bool) -> Result<u8, CliError> {
    let _guard = guard(opened)?;
    let damages = store::verify(&opened.store, fix)?;
    for Damage { path, problem, deleted } in &damages {
        let word = if *deleted { "damaged (deleted)" } else { "damaged" };
        ui::data(&format!("{word}: {}: {problem}", path.display()));
    }
    if !fix && !damages.is_empty() {
        ui::say("hint: delete damaged entries with `hamflow cache verify --fix`; the next run recreates them");
    }
    let usage = store::usage(&opened.store)?;
    let state = match damages.len() {
        0 => "no damage found".to_owned(),
        1 => "1 damaged entry".to_owned(),
        count => format!("{count} damaged entries"),
    };
    ui::data(&format!(
        "{state}: {} ({}) and {}",
        plural(usage.blobs, "blob"),
        bytes(usage.blob_bytes),
        plural(usage.results, "result")
    ));
    Ok(u8::from(!damages.is_empty()))
}

fn import(opened: &Project, from: &Path) -> Result<(), CliError> {
    if !from.is_file() {
        return Err(CliError::user(format!("no such file: `{}`", from.display()))
            .hint("use `--if-present` to ignore a missing file"));
    }
    opened.store.create().map_err(CliError::cache)?;
    let _guard = guard(opened)?;
    let imported = store::import(&opened.store, from, |text| Lockfile::parse(text, from).is_ok())?;
    warn_skipped(&imported);
    ui::data(&format!("imported {}", summary(&imported)));
    Ok(())
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write it as `8GB` or `512MiB`".to_owned())
}

/// Parses a size that may be zero.
fn size_limit(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

fn age(text: &str) -> Result<Duration, String> {
    parse_age(text).ok_or_else(|| "write it as `30d`, `12h` or `2w`".to_owned())
}

fn export(opened: &Project, budget: u64, to: &Path) -> Result<(), CliError> {
    let _guard = guard(opened)?;
    let folder = opened.store.locks_dir();
    // The lock file of a profile is not under version control, but a run without the inputs needs it.
    let own = opened.lock_paths.iter().find(|path| path.starts_with(&folder) && path.is_file());
    let mut locks = Vec::new();
    if let Some(path) = own {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        locks.push((name, fs::read_regular(path, Symlinks::Refuse).map_err(at("read", path))?));
    }
    let stages = opened.lock.stages.iter().map(|(name, stage)| (name.clone(), stage.key.clone()));
    if stages.len() == 0 {
        return Err(CliError::user("the lock file lists no results").hint("run `hamflow run` first"));
    }
    let written = store::export(&opened.store, stages, ExportFile { path: to, budget, locks: &locks })?;
    warn_skipped(&written);
    let size = std::fs::metadata(to).map_err(at("read", to))?.len();
    ui::data(&format!("exported {} to `{}` ({})", summary(&written), to.display(), bytes(size)));
    Ok(())
}

fn summary(report: &BundleReport) -> String {
    let BundleReport { blobs, bytes: size, results, .. } = report;
    format!("{} and {} ({})", plural(*results, "result"), plural(*blobs, "blob"), bytes(*size))
}

fn warn_skipped(report: &BundleReport) {
    let label = Style::of(&std::io::stderr()).label("warning");
    for what in &report.skipped {
        ui::say(&format!("{label} skipped {what}"));
    }
}
