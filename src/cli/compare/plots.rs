//! The figures of outputs in both runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hamflow_stage_api::Series;
use maud::{Markup, html};

use crate::cli::project::Project;
use crate::exec::RunRecord;

/// A figure for every plot of an output that differs between the runs.
pub fn figures(opened: &Project, runs: [&RunRecord; 2]) -> Vec<Markup> {
    let mut figures = Vec::new();
    for stage in &opened.graph.pipeline.stages {
        for output in stage.kind.plotted_outputs(&stage.params) {
            let made = |run: &RunRecord| {
                let record = run.stages.iter().find(|found| found.stage == stage.name)?;
                opened.store.content.read(record.outputs.get(&output)?)
            };
            let [Some(a), Some(b)] = runs.map(made) else { continue };
            if a == b {
                continue;
            }
            let series = [Series { name: &runs[0].run, values: &a }, Series { name: &runs[1].run, values: &b }];
            // A run before the plots were declared may lack their columns.
            let drawn = stage.kind.draw_plots(&stage.params, &output, &series).unwrap_or_default();
            figures.extend(drawn.into_iter().map(|(title, svg)| {
                html! {
                    figure {
                        img alt={ (title) " of " (stage.name) " in both runs" } src={ "data:image/svg+xml;base64," (STANDARD.encode(svg)) };
                        figcaption { (stage.name) "." (output) ": " (title) }
                    }
                }
            }));
        }
    }
    figures
}
