//! `hamflow verify`: reruns stages and compares their outputs byte by byte.

use std::sync::mpsc::channel;

use clap::Args;
use serde_json::json;

use super::guard::guard;
use super::run::{interrupt_through, reporter};
use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::exec::{self, Difference, Local, Workers};
use crate::plan::Planner;
use crate::threads;
use crate::ui::{self, bytes, plural};

/// Arguments of `hamflow verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The stages to rerun; cached results, `out/` and the lock file are not changed
    #[arg(long, value_name = "STAGES", required = true, num_args = 1..)]
    rebuild: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Number of threads for all jobs together [default: all available]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print one JSON object per stage
    #[arg(long)]
    json: bool,
    /// Use the digests in the lock file for missing inputs
    #[arg(long)]
    allow_missing: bool,
}

/// Runs the command.
pub fn execute(arguments: &VerifyArguments, kinds: Kinds) -> Result<u8, CliError> {
    let opened = project::open(&arguments.common, kinds)?;
    let (graph, store) = (&opened.graph, &opened.store);
    let wanted = graph.select(&arguments.rebuild)?;
    let _guard = guard(&opened)?;
    // The outputs kept by the previous comparison.
    crate::fs::remove(&store.root().join("rebuilt"))?;
    let mut planner = Planner::new(graph, store, &opened.lock, arguments.allow_missing);
    let missing = planner.scan(&graph.upstream(&wanted))?;
    if !missing.is_empty() {
        return Err(project::missing_inputs(graph, &missing));
    }
    let (_, results) = status::verdicts(&mut planner, &wanted);
    // What was hashed here is not hashed again for each of the stages. Failing to save it only costs time.
    let _ = planner.index().save();
    for id in &wanted {
        if let Some(before) = planner.unfinished(*id, &results).first() {
            let (name, before) = (&graph.stage(*id).name, &graph.stage(*before).name);
            return Err(CliError::user(format!(
                "cannot rebuild `{name}`: its dependency `{before}` is not up to date"
            ))
            .hint(format!("run `hamflow run {name}` first")));
        }
    }
    let (sender, heard) = channel();
    interrupt_through(sender.clone(), None)?;
    let mut executor = Local::new(sender.clone());
    let mut shown = reporter(false);
    let threads = arguments.jobs.map_or_else(threads::available, usize::from);
    let mut all_same = true;
    for id in wanted {
        let name = &graph.stage(id).name;
        let again = exec::Again { id, results: &results, threads };
        let mut planner = Planner::new(graph, store, &opened.lock, arguments.allow_missing);
        planner.scan(&graph.upstream(&[id]))?;
        let workers = Workers { executor: &mut executor, sender: &sender, messages: &heard };
        let rebuilt = exec::rebuild(planner, again, workers, &mut |event| shown.event(&event))?;
        let Some(rebuilt) = rebuilt else { return Ok(130) };
        all_same &= rebuilt.is_same();
        if arguments.json {
            let differences: Vec<_> = rebuilt.differences.iter().map(difference_json).collect();
            let value = json!({"stage": name, "same": rebuilt.is_same(), "files": rebuilt.files, "bytes": rebuilt.bytes,
                "wall_ms": rebuilt.wall_ms, "differences": differences, "kept": rebuilt.kept});
            ui::data(&value.to_string());
            continue;
        }
        let seconds = rebuilt.wall_ms as f64 / 1000.0;
        if rebuilt.is_same() {
            let (files, size) = (rebuilt.files, bytes(rebuilt.bytes));
            ui::data(&format!("same     {name}  {seconds:.1} s  {}, {size}, byte for byte", plural(files, "file")));
            continue;
        }
        let (count, files) = (rebuilt.differences.len(), rebuilt.files);
        ui::data(&format!("differs  {name}  {seconds:.1} s  {count} of {}", plural(files, "file")));
        for difference in &rebuilt.differences {
            ui::data(&format!("  {}", difference_text(difference)));
        }
        if let Some(folder) = &rebuilt.kept {
            ui::say(&format!(
                "hint: the rebuilt outputs are in `{}`, the cached ones in `out/{name}`",
                folder.display()
            ));
        }
    }
    Ok(u8::from(!all_same))
}

fn difference_text(difference: &Difference) -> String {
    let Difference { path, before, after } = difference;
    match (before, after) {
        (Some(before), Some(after)) => format!("{path}: cached {}, rebuilt {}", before.short(), after.short()),
        (Some(_), None) => format!("{path}: missing in the rebuilt outputs"),
        _ => format!("{path}: missing in the cached outputs"),
    }
}

fn difference_json(difference: &Difference) -> serde_json::Value {
    let Difference { path, before, after } = difference;
    let text = |digest: &Option<crate::digest::Digest>| digest.map(|digest| digest.to_string());
    json!({"path": path, "before": text(before), "after": text(after)})
}
