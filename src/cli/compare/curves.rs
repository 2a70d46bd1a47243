//! The curves of both runs, each stage's in one figure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hamflow_stage_api::Series;
use maud::{Markup, html};

use crate::cli::curves;
use crate::cli::project::Project;
use crate::exec::RunRecord;

/// A figure for every stage whose curves differ between the runs.
pub fn figures(opened: &Project, runs: [&RunRecord; 2]) -> Vec<Markup> {
    curves::stages(opened).iter().filter_map(|stage| figure(opened, runs, stage)).collect()
}

fn figure(opened: &Project, runs: [&RunRecord; 2], stage: &str) -> Option<Markup> {
    let [a, b] = runs.map(|run| curves::recorded(opened, run, stage));
    let (a, b) = (a?, b?);
    // The trials of a search are compared on its own page.
    let ([(_, of_a)], [(_, of_b)]) = (&a.values[..], &b.values[..]) else { return None };
    if of_a == of_b {
        return None;
    }
    let series = [Series { name: &runs[0].run, values: of_a }, Series { name: &runs[1].run, values: of_b }];
    let svg = a.curves.draw(&series).ok()?;
    Some(html! {
        figure {
            img alt={ "Learning curves of " (stage) " in both runs" } src={ "data:image/svg+xml;base64," (STANDARD.encode(svg)) };
            figcaption { (stage) ": the thick lines are validation. A lower loss, or the same loss after fewer epochs, is better." }
        }
    })
}
