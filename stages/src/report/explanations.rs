//! The section about Grad-CAM: localisation metrics and heat maps.

use maud::{Markup, html};
use serde_json::Value;

use super::figure;
use super::layout::{percent, scroll};
use super::sources::Sources;
use crate::plot::grouped;

/// The first figure id of this section. Ids are unique in the page; those of the evaluation start at 0, those of the
/// exploration at 1000.
const FIRST_ID: usize = 2000;

/// The columns: key, heading, description.
const COLUMNS: [(&str, &str, &str); 3] = [
    ("pointing_game", "hottest pixel on the lesion", "Share of images (pointing game, Zhang et al. 2016)"),
    ("heat_in_lesion", "heat on the lesion", "Mean share of the heat"),
    ("lesion_share", "lesion's share of the image", "What both would be for a model that looks anywhere"),
];

/// Renders the section, if there are explanations.
pub fn section(sources: &Sources) -> Option<Markup> {
    if sources.explanations.is_empty() && sources.localisation.is_none() {
        return None;
    }
    Some(html! {
        @if sources.localisation.is_some() {
            p {
                "Grad-CAM (Selvaraju et al. 2017) shows which places of the last convolution speak for the predicted class. Of each class \
                 the predictions are shown that the model was most certain of, right ones and wrong ones. Heat says where the model \
                 looked, not why, and not whether it was right to. A white line is the border of the lesion, where its mask is known."
            }
        } @else {
            p { "What the program that made the predictions says about where its model looks. hamflow shows its figures as they are." }
        }
        @for (split, of_split) in sources.localisation.as_ref().and_then(Value::as_object).into_iter().flatten() {
            (table(sources, split, of_split))
        }
        @for (number, file) in sources.explanations.iter().enumerate() { (figure::from_file(file, FIRST_ID + number)) }
    })
}

fn table(sources: &Sources, split: &str, of_split: &Value) -> Markup {
    let caption = format!("How much of the heat is lesion, {split}");
    let count = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64).unwrap_or(0);
    let row = |name: Markup, of: &Value| {
        html! {
            tr {
                th scope="row" { (name) }
                td.number { (grouped(count(of, "images"))) }
                @for (key, _, _) in COLUMNS {
                    td.number { (of.get(key).and_then(Value::as_f64).map_or("undefined".to_owned(), percent)) }
                }
            }
        }
    };
    let classes = sources.classes();
    let rows = classes.iter().filter_map(|(label, _)| Some((label, of_split.get("per_class")?.get(label)?)));
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "true class" }
                    th.number scope="col" { "images" }
                    @for (_, title, doc) in COLUMNS { th.number scope="col" { abbr title=(doc) { (title) } } }
                }
            }
            tbody { @for (label, of_class) in rows { (row(html! { (label) }, of_class)) } }
            tfoot { (row(html! { "all" }, of_split)) }
        }
    };
    match of_split.pointer("/undefined/pointing_game").and_then(Value::as_str) {
        Some(reason) => {
            html! { p { "How much of the heat is lesion cannot be said for the " (split) " split: " (reason) "." } }
        }
        None => html! {
            (scroll(&caption, &table))
            p {
                (grouped(count(of_split, "without_mask"))) " images have no mask that says anything, and of "
                (grouped(count(of_split, "without_heat"))) " nothing speaks for the predicted class; they count in no mean."
            }
        },
    }
}
