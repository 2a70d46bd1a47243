//! The section about the split: the class distribution, and the proof that there is no leakage.

use maud::{Markup, html};
use serde_json::Value;

use super::facts::{facts, text, words};
use super::figure;
use super::layout::{percent, scroll};
use super::sources::Sources;
use crate::dataset::SPLITS;
use crate::plot::{ClassCountsPlot, grouped};

/// The parts of the balance with a dedicated presentation; everything else is shown generically.
const SHOWN: [&str; 10] = [
    "rows_without_group",
    "classes",
    "splits",
    "groups_crossing",
    "identical_images",
    "folds",
    "group",
    "groups",
    "targets",
    "stratify",
];

/// Renders the section, if the balance is known.
pub fn section(sources: &Sources) -> Option<Markup> {
    let balance = sources.balance.as_ref()?;
    let classes = classes(sources, balance);
    Some(html! {
        (proof(balance))
        @if !classes.is_empty() {
            (figure::drawn(&counts(&classes), "class-counts", "Images per class and split"))
            (table(balance, &classes))
        }
        (facts(balance, &SHOWN))
        @if let Some(folds) = balance.get("folds").filter(|folds| !folds.is_null()) {
            h3 { "Folds" }
            (facts(folds, &[]))
        }
    })
}

/// The classes of the balance in index order: labels and entries.
fn classes<'a>(sources: &Sources, balance: &'a Value) -> Vec<(String, &'a Value)> {
    let order = sources.classes();
    let index = |label: &str| order.iter().position(|(known, _)| known == label).unwrap_or(order.len());
    let label = |class: &Value| class.get("class").map(text).unwrap_or_default();
    let mut classes: Vec<(String, &Value)> = balance
        .get("classes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|class| (label(class), class))
        .collect();
    classes.sort_by_cached_key(|(label, _)| (index(label), label.clone()));
    classes
}

fn side<'a>(of: &'a Value, split: &str, name: &str) -> Option<&'a Value> {
    of.get("splits")?.get(split)?.get(name)
}

fn rows(of: &Value, split: &str) -> u64 {
    side(of, split, "rows").and_then(Value::as_u64).unwrap_or(0)
}

fn proof(balance: &Value) -> Markup {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64);
    let group = balance.get("group").map_or_else(|| "group".to_owned(), text);
    let crossing = number(balance.get("groups_crossing"));
    let alone = number(balance.get("rows_without_group")).unwrap_or(0);
    let is_unproven = alone > 0 && Some(alone) == number(balance.get("rows"));
    let identical = balance.get("identical_images");
    let checked = identical.and_then(|identical| identical.get("checked")?.as_bool()) == Some(true);
    let sets = identical.and_then(|identical| identical.get("sets")?.as_array()).map_or(0, Vec::len);
    let across = number(identical.and_then(|identical| identical.get("crossing")));
    html! {
        p { "What must not happen is that the model is tested on something that it was fitted to. Counted on the finished table:" }
        ul.proof {
            @if is_unproven {
                li.bad {
                    "No image has a " code { (group) } ", so nothing proves that no lesion or patient has images in more than one split. "
                    "The numbers may be too good."
                }
            } @else if let (Some(crossing), Some(groups)) = (crossing, number(balance.get("groups"))) {
                li class=(mark(crossing)) {
                    strong { (grouped(crossing)) } " of " (grouped(groups)) " groups (" code { (group) } ") have images in more than one split."
                }
            }
            @if alone > 0 && !is_unproven {
                li {
                    strong { (grouped(alone)) } @if alone == 1 { " image has" } @else { " images have" } " no " code { (group) }
                    ". Each counts as a group of its own."
                }
            }
            @if checked && sets == 0 {
                li.good { "No two images are byte-identical." }
            } @else if let (true, Some(across)) = (checked, across) {
                li class=(mark(across)) {
                    strong { (grouped(across)) } " of " (grouped(sets as u64))
                    " sets of byte-identical images have images in more than one split."
                }
            } @else {
                li { "Byte-identical images were not looked for." }
            }
        }
    }
}

fn mark(crossing: u64) -> &'static str {
    if crossing == 0 { "good" } else { "bad" }
}

fn counts(classes: &[(String, &Value)]) -> ClassCountsPlot {
    ClassCountsPlot {
        title: "Images per class and split".to_owned(),
        classes: classes.iter().map(|(label, _)| label.clone()).collect(),
        splits: SPLITS.map(str::to_owned).to_vec(),
        counts: classes.iter().map(|(_, class)| SPLITS.iter().map(|split| rows(class, split)).collect()).collect(),
    }
}

fn table(balance: &Value, classes: &[(String, &Value)]) -> Markup {
    let share = |of: &Value, split: &str, name: &str| side(of, split, name).and_then(Value::as_f64);
    let cells = |of: &Value| {
        html! {
            @for split in SPLITS {
                td.number { (grouped(rows(of, split))) }
                td.number { (share(of, split, "fraction").map_or("–".to_owned(), percent)) }
            }
        }
    };
    let table = html! {
        table {
            caption { "Images by class and split, and the share of the class that the split got" }
            thead {
                tr {
                    th scope="col" { "class" }
                    @for split in SPLITS {
                        th.number scope="col" { (split) }
                        th.number scope="col" {
                            "share"
                            @if let Some(target) = share(balance, split, "target") { " (target " (percent(target)) ")" }
                        }
                    }
                }
            }
            tbody { @for (label, class) in classes { tr { th scope="row" { (label) } (cells(class)) } } }
            tfoot { tr { th scope="row" { "all" } (cells(balance)) } }
        }
    };
    html! {
        (scroll("Images by class and split", &table))
        @if let Some(stratify) = balance.get("stratify") { p { "The shares of " code { (words(&text(stratify))) } " were kept as equal as whole groups allow." } }
    }
}
