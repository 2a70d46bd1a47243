//! The section about the evaluation: all metrics of every split, also per class, and the figures.

use maud::{Markup, html};

use super::figure;
use super::layout::scroll;
use super::sources::{FigureFile, Sources};
use crate::metric::{CLASS_METRICS, MALIGNANT_METRICS, METRICS, Malignant, Metric, SplitMetrics};
use crate::plot::{PLOTS, grouped};

/// Renders the section.
pub fn section(sources: &Sources) -> Markup {
    let splits = sources.splits();
    let mut figures: Vec<(usize, &FigureFile)> = sources.figures.iter().enumerate().collect();
    figures.sort_by_key(|(i, file)| (plot_rank(&file.name), *i));
    let of = |split: &str| -> Vec<(usize, &FigureFile)> {
        figures.iter().filter(|(_, file)| file.name.ends_with(&format!("_{split}"))).copied().collect()
    };
    let others: Vec<(usize, &FigureFile)> = figures
        .iter()
        .filter(|(_, file)| !splits.iter().any(|(split, _)| file.name.ends_with(&format!("_{split}"))))
        .copied()
        .collect();
    html! {
        (metric_table(&splits))
        (malignant_table(&splits))
        @for sentence in interval_sentences(&splits) { p { (sentence) } }
        @for (i, (split, metrics)) in splits.iter().enumerate() {
            details.split open[i == 0] {
                summary { h3 { "On the " (split) " split: " (grouped(metrics.rows as u64)) " images" } }
                (class_table(sources, split, metrics))
                (calibration(metrics))
                (decision(metrics))
                (notes(metrics))
                @for (number, file) in of(split) { (figure::from_file(file, number)) }
            }
        }
        @if !others.is_empty() {
            h3 { "Other figures" }
            @for (number, file) in others { (figure::from_file(file, number)) }
        }
    }
}

fn plot_rank(name: &str) -> usize {
    PLOTS.iter().position(|plot| name.starts_with(plot.name)).unwrap_or(PLOTS.len())
}

fn metric_table(splits: &[(&str, &SplitMetrics)]) -> Markup {
    let table = html! {
        table {
            caption { "Every metric by split" }
            thead {
                tr {
                    th scope="col" { "metric" }
                    @for (split, _) in splits { th.number scope="col" { (split) } }
                    th.says scope="col" { "what it says" }
                }
            }
            tbody {
                tr {
                    th scope="row" { "Rows" }
                    @for (_, metrics) in splits { td.number { (grouped(metrics.rows as u64)) } }
                    td.says { "Images that were evaluated." }
                }
                @for metric in METRICS {
                    tr {
                        th scope="row" { (metric.title) }
                        @for (_, metrics) in splits { td.number { (value(metrics, metric)) } }
                        td.says { (metric.doc) " (" (metric.unit.name()) ", " (metric.direction.name()) ")" }
                    }
                }
            }
        }
    };
    scroll("Every metric by split", &table)
}

fn value(metrics: &SplitMetrics, metric: &Metric) -> Markup {
    match (metrics.value(metric.name), metrics.undefined.get(metric.name)) {
        (Some(value), _) => html! { (format!("{value:.4}")) (interval(metrics, metric.name, 3)) },
        (None, Some(reason)) => html! { abbr title=(reason) { "undefined" } },
        (None, None) => html! { "–" },
    }
}

/// The metrics of malignant classes against the others, by split.
fn malignant_table(splits: &[(&str, &SplitMetrics)]) -> Markup {
    let measured: Vec<(&str, &Malignant)> =
        splits.iter().filter_map(|(split, metrics)| Some((*split, metrics.malignant.as_ref()?))).collect();
    let Some((_, first)) = measured.first() else { return html! {} };
    let cell = |malignant: &Malignant, name: &str| {
        html! {
            @match malignant.value(name) {
                None => "–",
                Some(value) => {
                    (format!("{value:.3}"))
                    @if let Some([low, high]) = malignant.intervals.get(name) {
                        " " span.interval { (format!("{low:.3} to {high:.3}")) }
                    }
                }
            }
        }
    };
    let caption = format!("Malignant ({}) against the other classes", first.classes.join(", "));
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "metric" }
                    @for (split, _) in &measured { th.number scope="col" { (split) } }
                    th.says scope="col" { "what it says" }
                }
            }
            tbody {
                tr {
                    th scope="row" { "Malignant images" }
                    @for (_, malignant) in &measured { td.number { (grouped(malignant.rows as u64)) } }
                    td.says { "The probability of malignancy is the sum over the malignant classes." }
                }
                @for metric in MALIGNANT_METRICS {
                    tr {
                        th scope="row" { (metric.title) }
                        @for (_, malignant) in &measured { td.number { (cell(malignant, metric.name)) } }
                        td.says { (metric.doc) }
                    }
                }
            }
        }
    };
    scroll(&caption, &table)
}

/// The 95 % interval of a metric, if there is one.
fn interval(metrics: &SplitMetrics, name: &str, decimals: usize) -> Markup {
    html! {
        @if let Some([low, high]) = metrics.intervals.get(name) {
            " " span.interval { (format!("{low:.decimals$} to {high:.decimals$}")) }
        }
    }
}

/// The descriptions of the intervals, once for all splits that share one.
fn interval_sentences(splits: &[(&str, &SplitMetrics)]) -> Vec<String> {
    let of = |(split, metrics): &(&str, &SplitMetrics)| Some(format!("{split}: {}", metrics.resamples.as_ref()?));
    let each: Vec<String> = splits.iter().filter_map(of).collect();
    let sentence = |each: String| {
        format!(
            "Below the numbers stand their 95 % percentile intervals, by drawing whole lesions again with replacement, because \
             images of one lesion say the same twice ({each})."
        )
    };
    (!each.is_empty()).then(|| sentence(each.join("; "))).into_iter().collect()
}

fn class_table(sources: &Sources, split: &str, metrics: &SplitMetrics) -> Markup {
    let caption = format!("Per class, {split}");
    let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "class" }
                    th scope="col" { "name" }
                    th.number scope="col" { "rows" }
                    @for metric in CLASS_METRICS { th.number scope="col" { abbr title=(metric.doc) { (metric.title) } } }
                }
            }
            tbody {
                @for (label, name) in sources.classes() {
                    @if let Some(class) = metrics.class(&label) {
                        tr {
                            th scope="row" { (label) }
                            td { (name.unwrap_or_default()) }
                            td.number { (grouped(class.support as u64)) }
                            @for metric in CLASS_METRICS {
                                td.number {
                                    (number(class.value(metric.name)))
                                    (interval(metrics, &format!("per_class.{label}.{}", metric.name), 2))
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    scroll(&caption, &table)
}

/// The effect of temperature scaling.
fn calibration(metrics: &SplitMetrics) -> Markup {
    let Some(calibration) = &metrics.calibration else { return html! {} };
    let helps = metrics.value("log_loss").is_some_and(|before| calibration.log_loss < before);
    let said = match (helps, calibration.temperature > 1.0) {
        (true, true) => "The model is too sure of itself",
        (true, false) => "The model is not sure enough of itself",
        (false, _) => "The validation rows do not say how sure the model should be of these rows",
    };
    let change = |name: &str, after: f64| {
        metrics.value(name).map_or(String::new(), |before| format!("from {before:.3} to {after:.3}"))
    };
    html! {
        p {
            (said) ": temperature scaling fitted to the validation rows divides the logarithms of \
             the probabilities by " strong { (format!("{:.2}", calibration.temperature)) } ", which takes the log loss "
            (change("log_loss", calibration.log_loss)) ", the Brier score " (change("brier", calibration.brier))
            " and the calibration error " (change("expected_calibration_error", calibration.expected_calibration_error))
            ". No prediction changes by it; the numbers above are without it."
        }
    }
}

/// The decision for rare classes.
fn decision(metrics: &SplitMetrics) -> Markup {
    let Some(decision) = metrics.decision.as_ref().filter(|decision| decision.power > 0.0) else { return html! {} };
    let change = |name: &str| match (metrics.value(name), decision.value(name)) {
        (Some(before), Some(after)) => format!("from {before:.3} to {after:.3}"),
        _ => String::new(),
    };
    html! {
        p {
            "A decision for rare classes divides each probability by the share of its class to the power of "
            strong { (format!("{:.1}", decision.power)) } ", which was chosen on the validation rows. It takes balanced "
            "accuracy " (change("balanced_accuracy")) ", macro F1 " (change("f1_macro")) " and accuracy "
            (change("accuracy")) ". The numbers above are without it."
        }
    }
}

fn notes(metrics: &SplitMetrics) -> Markup {
    let all: Vec<(&String, &String)> = metrics.undefined.iter().chain(&metrics.warnings).collect();
    html! {
        @if !all.is_empty() {
            details.notes {
                summary { "Numbers that need a word (" (all.len()) ")" }
                ul { @for (name, reason) in all { li { code { (name) } ": " (reason) } } }
            }
        }
    }
}
