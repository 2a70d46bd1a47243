//! The last lines of a run: its headline metrics, and where the page is.

use hamflow_stage_api::ArtifactType;

use super::metrics;
use super::project::Project;
use crate::graph::StageId;
use crate::ui;

/// The maximum number of metrics and of pages.
const MOST: usize = 4;

/// Tells the headline metrics and the pages of these stages.
pub fn tell(opened: &Project, targets: &[StageId]) {
    let selected = || targets.iter().map(|id| opened.graph.stage(*id));
    let numbers = metrics::of_lock(opened).unwrap_or_default();
    let headlines = selected().filter_map(|stage| {
        let mut names = stage.outputs.iter().flat_map(|output| output.headline);
        names.find_map(|name| {
            let number = (stage.name.clone(), (*name).to_owned());
            let value = numbers.get(&number).filter(|value| !value.is_nan())?;
            Some(format!("{}  {}", metrics::full_name(&number), metrics::shown(*value)))
        })
    });
    let root = &opened.graph.pipeline.root;
    let pages = selected().flat_map(|stage| {
        let pages = stage.outputs.iter().filter(|output| output.artifact_type == ArtifactType::PAGE);
        pages.map(|page| format!("out/{}/{}", stage.name, page.path))
    });
    let pages = pages.filter(|path| root.join(path).is_file()).map(|path| format!("open {path}"));
    for line in headlines.take(MOST).chain(pages.take(MOST)) {
        ui::say(&line);
    }
}
