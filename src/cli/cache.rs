//! `hamflow cache`: looks at the store, clears it, checks it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{CliError, Common, project, remote};
use crate::config::{Kinds, parse_age, parse_size};
use crate::exec::{self, GcOptions, KEPT_RUNS, RunGuard};
use crate::fs::{self, Symlinks, at};
use crate::lock::Lockfile;
use crate::store::{self, BundleReport, Damage, Limits};
use crate::ui::{self, Style, bytes};

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
    /// Say where the cache is and how much it holds
    Info {
        /// One JSON object
        #[arg(long)]
        json: bool,
        /// Also ask the remote what it has of this pipeline's lock
        #[arg(long)]
        remote: bool,
    },
    /// Give the results of this pipeline's lock to the remote
    Push,
    /// Take the results of this pipeline's lock from the remote
    Pull {
        /// The stages; all by default
        #[arg(value_name = "STAGES")]
        stages: Vec<String>,
    },
    /// Make a pair of keys, to sign what is given to a remote
    Keygen {
        /// Make one secret instead, for a remote where all who read may also write
        #[arg(long)]
        shared: bool,
    },
    /// Delete what neither a lock nor a recent run needs, the least recently used first, until the cache fits its budget
    ///
    /// A run does so by itself, at most once an hour. Locks of runs with `--set`, and checkpoints, are kept for two weeks.
    Gc {
        /// Say what would be deleted, and delete nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// How many past runs to keep the results of, whatever the budget
        #[arg(long, default_value_t = KEPT_RUNS, value_name = "N")]
        keep_runs: usize,
        /// The budget in bytes, such as `5GB` or `0`; by default `[cache] max_size`
        #[arg(long, value_name = "SIZE", value_parser = budget)]
        max_size: Option<u64>,
        /// How long a result stays that nobody uses, such as `7d` or `0d`; by default `[cache] max_age`
        #[arg(long, value_name = "AGE", value_parser = age)]
        max_age: Option<Duration>,
    },
    /// Hash every blob and read every result, and name what is damaged
    Verify {
        /// Also drop what is damaged; the next run makes it again
        #[arg(long)]
        fix: bool,
    },
    /// Write what this pipeline's lock needs to one file, for CI to keep between runs
    Export {
        /// The largest size of the file, such as `8GB`; what was dearest to make goes in first
        #[arg(long, value_name = "SIZE", value_parser = size)]
        budget: Option<u64>,
        /// The file; replaced where it is there
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Take what `export` wrote; every blob is checked
    Import {
        /// Do nothing where the file is not there, as in the first run of CI
        #[arg(long)]
        if_present: bool,
        /// The file
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
    /// Print a name for the exported file that changes with the lock
    Key,
}

/// Runs the command.
pub fn execute(arguments: &CacheArguments, kinds: Kinds) -> Result<u8, CliError> {
    if let Action::Keygen { shared } = arguments.action {
        // A key is of no pipeline.
        return remote::keygen(shared).map(|()| 0);
    }
    let opened = project::open(&arguments.common, kinds)?;
    let cache = &opened.store;
    match arguments.action {
        Action::Keygen { .. } => {}
        Action::Push => return remote::push(&opened),
        Action::Pull { ref stages } => return remote::pull(&opened, stages),
        Action::Info { json, remote: ask } => {
            if ask {
                remote::info(&opened, json)?;
                return Ok(0);
            }
            let usage = store::usage(cache)?;
            let Limits { max_bytes, max_age } = opened.graph.pipeline.cache.limits;
            if json {
                let value = json!({"max_bytes": max_bytes, "max_age_s": max_age.map(|age| age.as_secs()), "root": cache.root(), "blobs": usage.blobs, "blob_bytes": usage.blob_bytes,
                    "results": usage.results, "memos": usage.memos, "checkpoints": usage.checkpoints,
                    "checkpoint_bytes": usage.checkpoint_bytes});
                ui::data(&value.to_string());
            } else {
                ui::data(&format!("cache        {}", cache.root().display()));
                ui::data(&format!("blobs        {} ({})", usage.blobs, bytes(usage.blob_bytes)));
                let room = max_bytes.map_or("no limit".to_owned(), bytes);
                let hours = max_age.map(|age| age.as_secs() / 3600);
                let unused = match hours {
                    None => String::new(),
                    Some(hours) if hours % 24 == 0 => format!(", {} days unused", hours / 24),
                    Some(hours) => format!(", {hours} hours unused"),
                };
                ui::data(&format!("budget       {room}{unused}"));
                ui::data(&format!("results      {}", usage.results));
                ui::data(&format!("memos        {}", usage.memos));
                ui::data(&format!("checkpoints  {} ({})", usage.checkpoints, bytes(usage.checkpoint_bytes)));
            }
        }
        Action::Gc { dry_run, keep_runs, max_size, max_age } => {
            let _guard = guard(&opened)?;
            let ours = opened.graph.pipeline.cache.limits;
            let limits = Limits { max_bytes: max_size.or(ours.max_bytes), max_age: max_age.or(ours.max_age) };
            let report = exec::gc(
                cache,
                &opened.graph.pipeline.root,
                GcOptions { keep_runs, limits, dry_run, own_lock: &opened.lock_paths[0] },
            )?;
            let verb = if dry_run { "would delete" } else { "deleted" };
            ui::data(&format!(
                "{verb} {} results, {} blobs and {} checkpoints ({}); {} are left",
                report.results,
                report.blobs,
                report.checkpoints,
                bytes(report.bytes),
                bytes(report.left_bytes)
            ));
            if report.over_bytes > 0 {
                let over = bytes(report.over_bytes);
                ui::say(&match keep_runs {
                    0 => format!(
                        "what locks need is {over} over the budget; to start from nothing, delete `{}`",
                        cache.root().display()
                    ),
                    _ => format!(
                        "what locks and the last {keep_runs} runs need is {over} over the budget; a smaller `--keep-runs` keeps less"
                    ),
                });
            }
        }
        Action::Verify { fix } => {
            let _guard = guard(&opened)?;
            let damages = store::verify(cache, fix)?;
            for Damage { path, problem, dropped } in &damages {
                let word = if *dropped { "damaged and dropped" } else { "damaged" };
                ui::data(&format!("{word}: {}: {problem}", path.display()));
            }
            if !fix && !damages.is_empty() {
                ui::say("hint: `hamflow cache verify --fix` drops it, and the next run makes it again");
            }
            let usage = store::usage(cache)?;
            let state =
                if damages.is_empty() { "nothing is damaged".to_owned() } else { format!("{} damaged", damages.len()) };
            ui::data(&format!(
                "{state}: {} blobs ({}) and {} results",
                usage.blobs,
                bytes(usage.blob_bytes),
                usage.results
            ));
            return Ok(u8::from(!damages.is_empty()));
        }
        Action::Export { budget, ref to } => {
            let _guard = guard(&opened)?;
            export(&opened, budget.unwrap_or(u64::MAX), to)?;
        }
        Action::Import { if_present, ref from } => {
            if if_present && !from.exists() {
                ui::say(&format!("`{}` is not there; nothing was taken", from.display()));
                return Ok(0);
            }
            if !from.is_file() {
                let hint = "hint: `--if-present` takes that for an empty one";
                return Err(CliError::user(format!("there is no file `{}`\n{hint}", from.display())));
            }
            cache.create().map_err(CliError::cache)?;
            let _guard = guard(&opened)?;
            let taken = store::import(cache, from, |text| Lockfile::parse(text, from).is_ok())?;
            warn_skipped("not taken", &taken);
            ui::data(&format!("took {}", words(&taken)));
        }
        Action::Key => {
            let name = opened.lock.key();
            ui::data(&format!("hamflow-cache-{}-{name}", store::FORMAT));
        }
    }
    Ok(0)
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write it as `8GB` or `512MiB`".to_owned())
}

/// A budget may be nothing at all.
fn budget(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

fn age(text: &str) -> Result<Duration, String> {
    parse_age(text).ok_or_else(|| "write it as `30d`, `12h` or `2w`".to_owned())
}

fn export(opened: &project::Project, budget: u64, to: &Path) -> Result<(), CliError> {
    let folder = opened.store.root().join("locks");
    // The lock of a profile is not under version control: without it, a run without the inputs would know nothing of them.
    let own = opened.lock_paths.iter().find(|path| path.starts_with(&folder) && path.is_file());
    let mut locks = Vec::new();
    if let Some(path) = own {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        locks.push((name, fs::read_regular(path, Symlinks::Refuse).map_err(at("read", path))?));
    }
    let stages = opened.lock.stages.iter().map(|(name, stage)| (name.clone(), stage.key.clone()));
    if stages.len() == 0 {
        return Err(CliError::user("the lock of this pipeline names no result\nhint: `hamflow run` makes them"));
    }
    let written = store::export(&opened.store, stages, &locks, budget, to)?;
    warn_skipped("left out", &written);
    let size = std::fs::metadata(to).map_err(at("read", to))?.len();
    ui::data(&format!("wrote {} to `{}` ({})", words(&written), to.display(), bytes(size)));
    Ok(())
}

fn words(report: &BundleReport) -> String {
    let BundleReport { blobs, bytes: size, results, .. } = report;
    format!("{results} results and {blobs} blobs ({})", bytes(*size))
}

fn warn_skipped(verb: &str, report: &BundleReport) {
    let label = Style::of(&std::io::stderr()).label("warning");
    for what in &report.skipped {
        ui::say(&format!("{label} {verb}: {what}"));
    }
}

/// The right to change the store.
pub(super) fn guard(opened: &project::Project) -> Result<RunGuard, CliError> {
    opened.store.check_is_cache()?;
    let waiting = &mut |holder: &crate::exec::Holder| ui::say(&format!("waiting for a run: {}", holder.text));
    let guard = RunGuard::take(opened.store.root(), Some(waiting))?;
    opened.store.create().map_err(CliError::cache)?;
    Ok(guard)
}
