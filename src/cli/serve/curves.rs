//! The curves of a run's stages.

use hamflow_stage_api::Series;

use super::site::Site;
use crate::cli::curves;
use crate::digest::Digest;
use crate::exec::RunRecord;

/// The stages of a run with curves, each with a text that changes whenever they do.
pub fn stages(site: &mut Site, record: &RunRecord) -> Vec<(String, String)> {
    let Ok(project) = site.project(record.profile.as_deref()) else { return Vec::new() };
    let version = |name: String| {
        let values = curves::recorded(project, record, &name)?.values;
        let text: Vec<u8> = values.into_iter().flat_map(|(_, values)| values).collect();
        Some((name, Digest::of(&text).short())).filter(|_| !text.is_empty())
    };
    curves::stages(project).into_iter().filter_map(version).collect()
}

/// Draws the curves of a stage in a run; `None` if it has none.
pub fn of_run(site: &mut Site, record: &RunRecord, stage: &str) -> Option<String> {
    let project = site.project(record.profile.as_deref()).ok()?;
    let recorded = curves::recorded(project, record, stage)?;
    let series: Vec<Series<'_>> = recorded.values.iter().map(|(name, values)| Series { name, values }).collect();
    recorded.curves.draw(&series).ok()
}
