//! The section about the split: how the classes fall on it, and the proof that nothing leaks.

use maud::{Markup, html};

use super::facts::facts;
use super::sources::Sources;

/// Writes the section, where the balance is known.
pub fn section(sources: &Sources) -> Option<Markup> {
    let balance = sources.balance.as_ref()?;
    Some(html! { (facts(balance, &[])) })
}
