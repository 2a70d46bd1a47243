//! The paired intervals of the differences between two runs.

use std::collections::BTreeMap;

use hamflow_stage_api::{FileDigest, Input, InputFile, PairedDifference};

use crate::cli::project::Project;
use crate::config::Stage;
use crate::exec::RunRecord;

/// The value and interval of differences, by stage and by the path of the metric.
pub type Differences = BTreeMap<(String, String), (f64, [f64; 2])>;

/// What is known of the differences between two runs.
#[derive(Default)]
pub struct Paired {
    /// The differences with an interval.
    pub differences: Differences,
    /// The stages whose results cannot be paired, and why.
    pub unpaired: Vec<(String, String)>,
}

/// Compares the results of every stage whose kind can pair them.
pub fn of_runs(opened: &Project, runs: [&RunRecord; 2]) -> Paired {
    let mut paired = Paired::default();
    for stage in &opened.graph.pipeline.stages {
        let Some(pairs) = stage.kind.pairs() else { continue };
        let [Some(a), Some(b)] = runs.map(|run| result(opened, run, stage, pairs.output())) else { continue };
        if a.digest == b.digest {
            continue;
        }
        match pairs.differences([&a, &b]) {
            Ok(found) => {
                paired.differences.extend(found.into_iter().map(|PairedDifference { metric, value, interval }| {
                    ((stage.name.clone(), metric), (value, interval))
                }))
            }
            Err(error) => paired.unpaired.push((stage.name.clone(), error.message)),
        }
    }
    paired
}

/// The output of a stage that a run produced, named after the run; `None` if it is not in the cache.
fn result(opened: &Project, run: &RunRecord, stage: &Stage, output: &str) -> Option<Input> {
    let path = &stage.outputs.iter().find(|declared| declared.name == output)?.path;
    let made = run.stages.iter().find(|found| found.stage == stage.name)?;
    let digest = *made.outputs.get(output)?;
    let content = &opened.store.content;
    let digest = content.contains(&digest).then_some(FileDigest::Known(digest))?;
    let file = InputFile { root: 0, path: path.clone(), digest, source: content.path(&digest.known()?) };
    let name = format!("run {}", run.run);
    Some(Input { name, is_artifact: true, labels: Vec::new(), digest, files: vec![file], folder: false, path: None })
}
