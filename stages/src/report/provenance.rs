//! The last section: the inputs of the page, and how to reproduce it.

use maud::{Markup, html};

use super::facts::facts;
use super::layout::scroll;
use super::recipe;
use super::sources::Sources;

/// Renders the section.
pub fn section(sources: &Sources) -> Markup {
    let table = html! {
        table {
            caption { "What this page was made from" }
            thead { tr { th scope="col" { "input" } th.number scope="col" { "bytes" } th scope="col" { "BLAKE3 digest" } } }
            tbody {
                @for (name, digest) in &sources.digests {
                    tr { th scope="row" { (name) } td.number { (crate::plot::grouped(digest.size())) } td { code.digest { (digest.hex()) } } }
                }
            }
        }
    };
    html! {
        p { "The same inputs, parameters and seed give this page again, byte for byte, with one command in the project's folder:" }
        pre tabindex="0" { code { "hamflow run --locked" } }
        p {
            "(with the same " code { "--profile" } " and " code { "--set" } ", where the run had any). It fails if anything differs from the \
             lock. When and where the run happened, how long it took, with which version and on which device is in the run's record, \
             which " code { "hamflow report --open" } " shows above this page, and not on the page itself."
        }
        (scroll("What this page was made from", &table))
        @if let Some(pipeline) = recipe::pipeline(&sources.lineage) { (pipeline) }
        @if let Some(card) = &sources.card {
            details {
                summary { h3 { "The model's card" } }
                (facts(card, &["layers"]))
            }
        }
    }
}
