//! The section with exploratory findings and figures.

use maud::{Markup, html};
use serde_json::Value;

use super::figure;
use super::layout::percent;
use super::sources::Sources;
use crate::plot::grouped;

/// The first figure id of this section.
const FIRST_ID: usize = 1000;

/// The order of the figures; others follow.
const ORDER: [&str; 12] = [
    "samples",
    "images_by_cell_type",
    "images_by_cell_type_and_sex",
    "images_by_sex",
    "images_by_localization",
    "images_by_localization_and_sex",
    "images_by_dx_type",
    "images_by_dx_type_and_sex",
    "age",
    "age_by_sex",
    "age_by_cell_type",
    "age_by_localization",
];

/// The number of images with unknown values: `age of 57, sex of 57`; `None` if all values are known.
fn unknown(findings: &Value) -> Option<String> {
    let counts = findings.get("unknown")?.as_object()?.iter();
    let counts = counts.filter_map(|(name, count)| Some((name, count.as_u64().filter(|count| *count > 0)?)));
    let each: Vec<String> = counts.map(|(name, count)| format!("{name} of {}", grouped(count))).collect();
    (!each.is_empty()).then(|| each.join(", "))
}

/// Renders the section, if the dataset was explored.
pub fn section(sources: &Sources) -> Option<Markup> {
    if sources.findings.is_none() && sources.exploration.is_empty() {
        return None;
    }
    let mut figures: Vec<_> = sources.exploration.iter().enumerate().collect();
    let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    figures.sort_by_key(|(number, file)| (rank(&file.name), *number));
    Some(html! {
        @if let Some(findings) = &sources.findings { (list(findings)) }
        @for (number, file) in figures { (figure::from_file(file, FIRST_ID + number)) }
    })
}

fn list(findings: &Value) -> Markup {
    let count = |pointer: &str| findings.pointer(pointer).and_then(Value::as_u64);
    let number = |pointer: &str| findings.pointer(pointer).and_then(Value::as_f64);
    let text = |pointer: &str| findings.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of_images = |part: u64| percent(part as f64 / count("/images").unwrap_or(0).max(1) as f64);
    html! {
        ul.findings {
            @if let Some(ratio) = number("/imbalance/ratio") {
                li {
                    "For each image of " code { (text("/imbalance/rarest")) } " there are " strong { (format!("{ratio:.1}")) } " of "
                    code { (text("/imbalance/most_frequent")) } "."
                }
            }
            @if let (Some(images), Some(lesions)) = (count("/lesions/images_that_share_a_lesion"), count("/lesions/lesions")) {
                li {
                    strong { (of_images(images)) } " of the images (" (grouped(images)) ") share their lesion with another; there are "
                    (grouped(lesions)) " lesions, none of them on more than " (count("/lesions/most_images_of_one").unwrap_or(0)) " images."
                }
            }
            @if let Some(lesions) = count("/lesions/contradicting_diagnoses") {
                li { strong { (grouped(lesions)) } @if lesions == 1 { " lesion has" } @else { " lesions have" } " images with different diagnoses." }
            }
            @if let (Some(sets), Some(images)) = (count("/identical_images/sets"), count("/identical_images/images")) {
                li {
                    @if sets == 0 { "No two images are the same file." }
                    @else { strong { (grouped(images)) } " images are the same file as another (" (grouped(sets)) " sets)." }
                }
            }
            @if let Some(unknown) = unknown(findings) { li { "Not known: " (unknown) " images." } }
            @for class in findings.pointer("/concentrations/by_class").and_then(Value::as_array).into_iter().flatten() {
                @if let Some(sentence) = concentration(class) { li { (sentence) } }
            }
        }
    }
}

/// The significant concentrations of a class, if any.
fn concentration(class: &Value) -> Option<Markup> {
    /// The minimum effect size that is mentioned.
    const MIN_EFFECT: f64 = 0.1;
    let number = |pointer: &str| class.pointer(pointer).and_then(Value::as_f64);
    let certain = |what: &str| {
        let effect = number(&format!("/{what}/effect"))?;
        (number(&format!("/{what}/p"))? < 0.05 && effect.abs() >= MIN_EFFECT).then_some(effect)
    };
    let (age, site) = (certain("age"), certain("site"));
    let label = class["class"].as_str()?;
    (age.is_some() || site.is_some()).then(|| {
        html! {
            code { (label) }
            @if let Some(effect) = age {
                ": patients are " @if effect > 0.0 { "older" } @else { "younger" } " (median "
                (format!("{:.0}", number("/age/quartiles/1").unwrap_or(0.0))) " against "
                (format!("{:.0}", number("/age/quartiles_of_the_rest/1").unwrap_or(0.0))) " years; rank-biserial "
                (format!("{effect:+.2}")) ")"
            }
            @if let Some(effect) = site {
                @if age.is_some() { ";" } @else { ":" }
                " most over-represented on " (class.pointer("/site/site").and_then(Value::as_str).unwrap_or_default()) " ("
                (percent(number("/site/share").unwrap_or(0.0))) " of its lesions against "
                (percent(number("/site/share_of_the_rest").unwrap_or(0.0))) " of the rest; φ " (format!("{effect:+.2}")) ")"
            }
            "."
        }
    })
}
