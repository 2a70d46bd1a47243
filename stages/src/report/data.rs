//! The section about the dataset: what it holds, what was missing and how it was filled in.

use maud::{Markup, html};

use super::facts::facts;
use super::sources::Sources;

/// Writes the section, where anything is known about the data.
pub fn section(sources: &Sources) -> Option<Markup> {
    if sources.metadata.is_none() && sources.clean.is_none() && sources.quarantine.is_none() {
        return None;
    }
    Some(html! {
        @if let Some(metadata) = &sources.metadata {
            (facts(metadata, &[]))
        }
        @if let Some(clean) = &sources.clean {
            h3 { "Missing values filled in" }
            (facts(clean, &[]))
        }
        @if let Some(quarantine) = &sources.quarantine {
            h3 { "Images that could not be read" }
            (facts(quarantine, &[]))
        }
    })
}
