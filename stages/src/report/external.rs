//! The section about an external test set: the proof that it is independent, and what differs between the test sets.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::facts::words;
use super::layout::{percent, scroll};
use super::sources::Sources;
use crate::dataset::EXTERNAL;
use crate::ml::metric::{ColourSummary, Independence, Population, SplitMetrics};
use crate::plot::grouped;

/// Renders the section, if there is an external test set.
pub fn section(sources: &Sources) -> Option<Markup> {
    let splits = sources.splits();
    let external = splits.iter().find(|(name, _)| *name == EXTERNAL).map(|(_, metrics)| *metrics)?;
    let independence = external.independence.as_ref()?;
    let described: Vec<(&str, &Population)> =
        splits.iter().filter_map(|(name, metrics)| Some((*name, metrics.population.as_ref()?))).collect();
    Some(html! {
        (proof(independence))
        (comparison(sources, external))
        @if described.len() > 1 { (differences(&described)) }
    })
}

fn proof(independence: &Independence) -> Markup {
    let Independence { compared_images, compared_lesions, compared_tensors, without_lesion, in_test } = independence;
    let number = |count: &usize| grouped(*count as u64);
    html! {
        p { "The external images come from another dataset. Compared with every training and validation image:" }
        ul.proof {
            li.good { strong { "0" } " images are among the " (number(compared_images)) " by their name." }
            @if *compared_lesions > 0 {
                li.good { strong { "0" } " lesions are among the " (number(compared_lesions)) " known ones." }
            } @else {
                li.bad { "The training data has no lesions, so they could not be compared." }
            }
            @if *compared_tensors {
                li.good { strong { "0" } " have the same pixels after preprocessing, which identical files have under any name." }
            } @else {
                li.bad { "Pixels could not be compared: without `shards`, a copy under another name is not found." }
            }
            @if *without_lesion > 0 {
                li { (number(without_lesion)) " external images have no known lesion, so one of theirs may be in training." }
            }
            @if *in_test > 0 {
                li { (number(in_test)) " external images are in the internal test split, too." }
            }
        }
    }
}

/// What the change of the dataset costs.
fn comparison(sources: &Sources, external: &SplitMetrics) -> Markup {
    let Some(test) = sources.metrics.get("test") else { return html! {} };
    let change = |name: &str| Some((test.value(name)?, external.value(name)?));
    let metrics = [
        ("accuracy", "accuracy"),
        ("balanced accuracy", "balanced_accuracy"),
        ("macro F1", "f1_macro"),
        ("macro AUC", "roc_auc_macro"),
    ];
    let changes: Vec<String> = metrics
        .iter()
        .filter_map(|(title, name)| change(name).map(|(from, to)| format!("{title} {from:.3} → {to:.3}")))
        .collect();
    html! {
        @if !changes.is_empty() {
            p { "From the internal test to the external one: " (changes.join(", ")) ". All metrics of both are under " a href="#results" { "Results" } ", their figures in the sections after it." }
        }
    }
}

/// The shares of all values side by side.
fn differences(described: &[(&str, &Population)]) -> Markup {
    let classes: BTreeSet<&String> = described.iter().flat_map(|(_, of)| of.classes.keys()).collect();
    let attributes: BTreeSet<&String> = described.iter().flat_map(|(_, of)| of.attributes.keys()).collect();
    let values = |attribute: &String| -> BTreeSet<&String> {
        described.iter().filter_map(|(_, of)| of.attributes.get(attribute)).flat_map(BTreeMap::keys).collect()
    };
    let share = |of: Option<&BTreeMap<String, f64>>, value: &String| match of {
        None => "–".to_owned(),
        Some(shares) => percent(shares.get(value).copied().unwrap_or(0.0)),
    };
    let heading = |title: &str| html! { tr { th scope="rowgroup" colspan=(described.len() + 1) { (title) } } };
    let table = html! {
        table {
            caption { "What the images and patients of the splits are like" }
            thead { tr { th scope="col" { "" } @for (name, _) in described { th.number scope="col" { (name) } } } }
            tbody {
                tr { th scope="row" { "images" } @for (_, of) in described { td.number { (grouped(of.images as u64)) } } }
                tr { th scope="row" { "lesions" } @for (_, of) in described { td.number { (grouped(of.lesions as u64)) } } }
                (heading("class"))
                @for class in classes {
                    tr { th scope="row" { (class) } @for (_, of) in described { td.number { (share(Some(&of.classes), class)) } } }
                }
                @for attribute in attributes {
                    (heading(&words(attribute)))
                    @for value in values(attribute) {
                        tr { th scope="row" { (value) } @for (_, of) in described { td.number { (share(of.attributes.get(attribute), value)) } } }
                    }
                }
                (colours(described))
            }
        }
    };
    html! {
        h3 { "What differs between the test sets" }
        p { "A difference here is a reason for a difference there: other shares of classes change accuracy and precision, another camera changes colours." }
        (scroll("What the images and patients of the splits are like", &table))
    }
}

fn colours(described: &[(&str, &Population)]) -> Markup {
    type Row = (&'static str, fn(&ColourSummary) -> f64);
    const ROWS: [Row; 5] = [
        ("brightness, mean", |colours| colours.brightness),
        ("brightness, standard deviation between images", |colours| colours.brightness_deviation),
        ("red, mean", |colours| colours.mean[0]),
        ("green, mean", |colours| colours.mean[1]),
        ("blue, mean", |colours| colours.mean[2]),
    ];
    html! {
        @if described.iter().any(|(_, of)| of.colours.is_some()) {
            tr { th scope="rowgroup" colspan=(described.len() + 1) { "pixels, from 0 to 1" } }
            @for (title, value) in ROWS {
                tr {
                    th scope="row" { (title) }
                    @for (_, of) in described { td.number { (of.colours.as_ref().map_or("–".to_owned(), |of| format!("{:.3}", value(of)))) } }
                }
            }
        }
    }
}
