//! Pieces that several sections use.

use maud::{Markup, html};

/// A box that scrolls horizontally, also by keyboard, if its content is wider than the page.
pub fn scroll(label: &str, content: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="group" aria-label=(label) { (content) } }
}

/// A fraction as a percentage with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
