//! `hamflow cache`: looks at the store, clears it, checks it.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{CliError, Common, project};
use crate::config::Kinds;
use crate::exec::{RunGuard, list_runs, read_run};
use crate::lock::Lockfile;
use crate::store::{self, Damage};
use crate::ui::{self, bytes};

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
    },
    /// Delete what neither a lock nor a recent run needs, and checkpoints of more than two weeks ago
    Gc {
        /// Say what would be deleted, and delete nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// How many past runs to keep the results of
        #[arg(long, default_value_t = 20, value_name = "N")]
        keep_runs: usize,
    },
    /// Hash every blob and read every result; what is damaged is named and dropped, and the next run makes it again
    Verify,
}

/// Runs the command.
pub fn execute(arguments: &CacheArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let cache = &opened.store;
    match arguments.action {
        Action::Info { json } => {
            let usage = store::usage(cache)?;
            if json {
                let value = json!({"root": cache.root(), "blobs": usage.blobs, "blob_bytes": usage.blob_bytes,
                    "results": usage.results, "memos": usage.memos, "checkpoints": usage.checkpoints,
                    "checkpoint_bytes": usage.checkpoint_bytes});
                ui::data(&value.to_string());
            } else {
                ui::data(&format!("cache        {}", cache.root().display()));
                ui::data(&format!("blobs        {} ({})", usage.blobs, bytes(usage.blob_bytes)));
                ui::data(&format!("results      {}", usage.results));
                ui::data(&format!("memos        {}", usage.memos));
                ui::data(&format!("checkpoints  {} ({})", usage.checkpoints, bytes(usage.checkpoint_bytes)));
            }
        }
        Action::Gc { dry_run, keep_runs } => {
            let _guard = guard(&opened)?;
            let mut keys = BTreeSet::new();
            let mut listings = BTreeSet::new();
            for lock in locks(&opened)? {
                listings
                    .extend(lock.stages.values().flat_map(|stage| stage.inputs.values()).map(|digest| digest.hex()));
                keys.extend(lock.stages.into_values().map(|stage| stage.key));
            }
            let runs = cache.runs_dir();
            for record in list_runs(&runs).iter().take(keep_runs).filter_map(|run| read_run(&runs, run)) {
                keys.extend(record.stages.into_iter().map(|stage| stage.key));
            }
            let garbage = store::collect(cache, &keys, listings, dry_run)?;
            let verb = if dry_run { "would delete" } else { "deleted" };
            ui::data(&format!(
                "{verb} {} results, {} blobs and {} checkpoints ({})",
                garbage.results,
                garbage.blobs,
                garbage.checkpoints,
                bytes(garbage.bytes)
            ));
        }
        Action::Verify => {
            let _guard = guard(&opened)?;
            let damages = store::verify(cache)?;
            for Damage { path, problem } in &damages {
                ui::data(&format!("damaged and dropped: {}: {problem}", path.display()));
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
    }
    Ok(0)
}

fn guard(opened: &project::Project) -> Result<RunGuard, CliError> {
    let waiting = &mut |holder: &crate::exec::Holder| ui::say(&format!("waiting for a run: {}", holder.text));
    Ok(RunGuard::take(opened.store.root(), Some(waiting))?)
}

/// The plain lock and those of every profile.
fn locks(opened: &project::Project) -> Result<Vec<Lockfile>, CliError> {
    let mut locks = vec![Lockfile::read(&opened.graph.pipeline.root.join("pipeline.lock"))?];
    let folder = opened.store.root().join("locks");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "lock")) {
        locks.push(Lockfile::read(&path)?);
    }
    Ok(locks)
}
