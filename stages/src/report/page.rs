//! The page: head, banner, contents, and sections.

use hamflow_stage_api::RUN_DETAILS;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::sources::Sources;
use super::{
    comparison, data, evaluation, explanations, exploration, external, failures, numbers, provenance, search, splits,
    subgroups, summary, training,
};
use crate::plot;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The content security policy: the page may not load external resources.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// A section of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    body: Markup,
}

/// The sections that have content.
fn sections(failures: usize, sources: &Sources) -> Vec<Section> {
    let numbers = numbers::section(sources.numbers.as_ref());
    let summary_title = if numbers.is_some() { "Metrics" } else { "Summary" };
    [
        ("summary", summary_title, Some(numbers.unwrap_or_else(|| summary::section(sources)))),
        (
            "results",
            "Results",
            (!sources.metrics.is_empty() || sources.numbers.is_none()).then(|| evaluation::results(sources)),
        ),
        ("curves", if sources.metrics.is_empty() { "Figures" } else { "Curves" }, evaluation::curves(sources)),
        ("failures", "Errors worth looking at", failures::section(sources, failures)),
        ("predictions", "Predictions", failures::explorer(sources)),
        ("explanations", "Where the model looks", explanations::section(sources)),
        ("certainty", "Calibration and thresholds", evaluation::certainty(sources)),
        ("subgroups", "Subgroups", subgroups::section(sources)),
        ("external", "External test set", external::section(sources)),
        ("comparison", "Model comparison", comparison::section(sources)),
        ("search", "Search", search::section(sources)),
        ("training", "Model and training", training::section(sources)),
        ("data", "Data", data::section(sources)),
        ("exploration", "What the data looks like", exploration::section(sources)),
        ("split", "Split", splits::section(sources)),
        ("provenance", "Provenance", Some(provenance::section(sources))),
    ]
    .into_iter()
    .filter_map(|(id, title, body)| body.map(|body| Section { id, title, body }))
    .collect()
}

/// Renders the page.
pub fn page(title: &str, failures: usize, sources: &Sources) -> Markup {
    let sections = sections(failures, sources);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(plot::STYLE)) }
            }
            body {
                a.skip href="#summary" { "Skip to the summary" }
                header {
                    h1 { (title) }
                    @if sources.synthetic() {
                        p.banner role="note" {
                            strong { "Synthetic data." }
                            " The images were made by a program, not by a camera: no number on this page says anything about skin."
                        }
                    }
                }
                // The page itself does not depend on time, host or duration.
                (PreEscaped(RUN_DETAILS))
                div.columns {
                    nav #contents aria-label="Contents" {
                        h2 { "Contents" }
                        ol { @for section in &sections { li { a href={ "#" (section.id) } { (section.title) } } } }
                    }
                    main {
                        @for section in &sections {
                            section id=(section.id) aria-labelledby={ (section.id) "-title" } {
                                h2 id={ (section.id) "-title" } { (section.title) }
                                (section.body)
                            }
                        }
                    }
                }
                footer { p { "Written by hamflow from the artifacts listed under " a href="#provenance" { "Provenance" } ". No number was typed by hand." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}
