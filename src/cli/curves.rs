//! The curves that stages recorded in a run, drawn by their kinds.

use std::path::PathBuf;

use hamflow_stage_api::Curves;

use super::project::Project;
use crate::exec::RunRecord;
use crate::fs::{self, Symlinks};

/// Trials of a stage whose curves are drawn.
const MAX_TRIALS: usize = 200;

/// The recorded values of a stage.
pub struct Recorded {
    /// Draws them.
    pub curves: &'static dyn Curves,
    /// The values by the name of the trial; the only name is empty for a stage without trials.
    pub values: Vec<(String, Vec<u8>)>,
}

/// The stages of the pipeline whose kinds have curves.
pub fn stages(opened: &Project) -> Vec<String> {
    let graph = &opened.graph;
    let with_curves = graph.order.iter().map(|id| graph.stage(*id)).filter(|stage| stage.kind.curves().is_some());
    with_curves.map(|stage| stage.name.clone()).collect()
}

/// What a stage wrote in a run while it worked, or else the values in its output; `None` if there is neither.
pub fn recorded(opened: &Project, record: &RunRecord, stage: &str) -> Option<Recorded> {
    let curves = opened.graph.stage(opened.graph.find(stage)?).kind.curves()?;
    let folder = opened.store.runs_dir().join(&record.run).join(stage);
    let mut values: Vec<(String, Vec<u8>)> = side_files(folder, curves.side_file())
        .into_iter()
        .filter_map(|(name, path)| Some((name, fs::read_regular(&path, Symlinks::Refuse).ok()?)))
        .collect();
    if values.is_empty() {
        let made = record.stages.iter().find(|found| found.stage == stage)?;
        values.push((String::new(), opened.store.content.read(made.outputs.get(curves.output())?)?));
    }
    Some(Recorded { curves, values })
}

/// The side outputs of a stage that have its curves: its own, or one of each trial.
fn side_files(folder: PathBuf, file: &str) -> Vec<(String, PathBuf)> {
    let own = folder.join(file);
    if own.is_file() {
        return vec![(String::new(), own)];
    }
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let trials = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().join(file)));
    let mut trials: Vec<(String, PathBuf)> = trials.filter(|(_, path)| path.is_file()).collect();
    // By number: `trial-2` before `trial-10`.
    trials.sort_unstable_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    trials.truncate(MAX_TRIALS);
    trials
}
