//! The first section: the data and the headline results.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::layout::percent;
use super::sources::Sources;
use crate::ml::metric::SplitMetrics;
use crate::plot::grouped;

/// A headline metric.
struct Tile {
    title: &'static str,
    value: String,
    note: String,
}

/// Renders the section.
pub fn section(sources: &Sources) -> Markup {
    let splits = sources.splits();
    html! {
        @match splits.first() {
            Some((name, metrics)) => (headline(sources, name, metrics)),
            None => p { "No split was evaluated." },
        }
        (data_sentence(sources))
        p.purpose role="note" {
            strong { "Not for clinical use. " }
            "This page describes a computer program on one collection of images. It is no medical device, was not tested on patients, \
             and must not be used to diagnose, to rule out or to choose a treatment."
        }
    }
}

fn headline(sources: &Sources, name: &str, metrics: &SplitMetrics) -> Markup {
    let lesions: BTreeSet<&str> =
        sources.predictions.iter().filter(|row| row.split == name).map(|row| row.lesion_id.as_str()).collect();
    html! {
        p.lead {
            "On " strong { (grouped(metrics.rows as u64)) " images" }
            @if !lesions.is_empty() { " of " (grouped(lesions.len() as u64)) " lesions" }
            " of the " strong { (name) } " split, "
            @match name {
                "train" => "to which the model was fitted, ",
                "validation" => "to which the model was not fitted, but which may have chosen its epoch, ",
                _ => "none of which the model was fitted to, ",
            }
            (verdict(metrics))
        }
        ul.tiles {
            @for tile in tiles(metrics) {
                li { span.tile-title { (tile.title) } span.tile-value { (tile.value) } span.tile-note { (tile.note) } }
            }
        }
    }
}

fn verdict(metrics: &SplitMetrics) -> Markup {
    let (Some(accuracy), Some(majority)) = (metrics.value("accuracy"), metrics.value("majority_class_accuracy")) else {
        let reason = metrics.undefined.get("accuracy").map_or("not measured", String::as_str);
        return html! { "nothing can be said: " (reason) "." };
    };
    html! {
        "the predicted class is right for " strong { (percent(accuracy)) } ". Always answering "
        @if let Some(class) = most_frequent(metrics) { code { (class) } ", the most frequent class, " } @else { "the most frequent class " }
        "would be right for " strong { (percent(majority)) } "."
    }
}

fn most_frequent(metrics: &SplitMetrics) -> Option<&str> {
    let support = |label: &String| metrics.class(label).map_or(0, |class| class.support);
    let mut best: Option<&String> = None;
    for label in &metrics.classes {
        if best.is_none_or(|best| support(label) > support(best)) {
            best = Some(label);
        }
    }
    best.map(String::as_str)
}

fn tiles(metrics: &SplitMetrics) -> Vec<Tile> {
    let classes = metrics.per_class.values().filter(|class| class.support > 0).count().max(1);
    let difference = |value: Option<f64>, of: Option<f64>| match (value, of) {
        (Some(value), Some(of)) => {
            format!("{:+.1} points against the majority class ({})", 100.0 * (value - of), percent(of))
        }
        _ => String::new(),
    };
    let tile = |title, name: &str, as_percent: bool, note: String| {
        let value = metrics.value(name);
        let shown = |value: f64| if as_percent { percent(value) } else { format!("{value:.3}") };
        let text = value.map(shown);
        let reason = || metrics.undefined.get(name).cloned().unwrap_or_default();
        let interval =
            metrics.intervals.get(name).map(|[low, high]| format!("95 %: {} to {}; ", shown(*low), shown(*high)));
        let note = if value.is_some() { format!("{}{note}", interval.unwrap_or_default()) } else { reason() };
        Tile { title, value: text.unwrap_or_else(|| "undefined".to_owned()), note }
    };
    let majority = metrics.value("majority_class_accuracy");
    let mut tiles = vec![
        tile("Accuracy", "accuracy", true, difference(metrics.value("accuracy"), majority)),
        tile(
            "Balanced accuracy",
            "balanced_accuracy",
            true,
            format!("a constant answer gets {}", percent(1.0 / classes as f64)),
        ),
        tile("F1, macro", "f1_macro", false, "mean over the classes; 1 is best".to_owned()),
        tile("ROC-AUC, macro", "roc_auc_macro", false, "one class against the rest; chance is 0.5".to_owned()),
    ];
    tiles.extend(malignant(metrics).or_else(|| melanoma(metrics)));
    tiles
}

/// The sensitivity for malignant classes, if there are any.
fn malignant(metrics: &SplitMetrics) -> Option<Tile> {
    let malignant = metrics.malignant.as_ref()?;
    let [sensitivity, specificity] = ["sensitivity", "specificity"].map(|name| malignant.value(name));
    let interval = malignant.intervals.get("sensitivity");
    let interval = interval.map(|[low, high]| format!("95 %: {} to {}; ", percent(*low), percent(*high)));
    let note = format!(
        "{}share of {} found as any of them, while {} of the others are not taken for one",
        interval.unwrap_or_default(),
        malignant.classes.join(", "),
        percent(specificity?)
    );
    Some(Tile { title: "Malignant sensitivity", value: percent(sensitivity?), note })
}

/// The melanoma sensitivity, if that class exists.
fn melanoma(metrics: &SplitMetrics) -> Option<Tile> {
    const NAME: &str = "sensitivity_at_90_specificity";
    let value = metrics.class("mel")?.value(NAME)?;
    let interval = metrics.intervals.get(&format!("per_class.mel.{NAME}"));
    let interval = interval.map(|[low, high]| format!("95 %: {} to {}; ", percent(*low), percent(*high)));
    let note =
        format!("{}share of melanomas found while 90 % of the others are not called so", interval.unwrap_or_default());
    Some(Tile { title: "Melanoma sensitivity at 90 % specificity", value: percent(value), note })
}

fn data_sentence(sources: &Sources) -> Markup {
    let number = |key: &str| sources.metadata.as_ref()?.get(key)?.as_u64().map(grouped);
    html! {
        @if let Some(rows) = number("rows") {
            p {
                "The data: " (rows) " images"
                @if let Some(lesions) = number("lesions").or_else(|| number("unique_lesions")) { " of " (lesions) " lesions" }
                ". "
                @if lesions_kept_together(sources) { "No lesion has images on two sides of the " a href="#split" { "split" } "." }
            }
        }
    }
}

fn lesions_kept_together(sources: &Sources) -> bool {
    let balance = sources.balance.as_ref();
    let is_known = |balance: &serde_json::Value| balance.get("rows_without_group").is_none_or(|alone| alone == 0);
    balance
        .is_some_and(|balance| balance["group"] == "lesion_id" && balance["groups_crossing"] == 0 && is_known(balance))
}
