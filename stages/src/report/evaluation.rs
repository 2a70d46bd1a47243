//! The section about the numbers: every metric of every evaluated split, per class too, and the figures.

use maud::{Markup, html};

use super::figure;
use super::layout::scroll;
use super::sources::{FigureFile, Sources};
use crate::metric::{METRICS, Metric, SplitMetrics};
use crate::plot::{PLOTS, grouped};

/// Writes the section.
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
        @for (i, (split, metrics)) in splits.iter().enumerate() {
            details.split open[i == 0] {
                summary { h3 { "On the " (split) " split: " (grouped(metrics.rows as u64)) " images" } }
                (class_table(sources, split, metrics))
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
        (Some(value), _) => html! { (format!("{value:.4}")) },
        (None, Some(reason)) => html! { abbr title=(reason) { "undefined" } },
        (None, None) => html! { "–" },
    }
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
                    @for name in ["rows", "recall", "precision", "F1", "ROC-AUC"] { th.number scope="col" { (name) } }
                }
            }
            tbody {
                @for (label, name) in sources.classes() {
                    @if let Some(class) = metrics.class(&label) {
                        tr {
                            th scope="row" { (label) }
                            td { (name.unwrap_or_default()) }
                            td.number { (grouped(class.support as u64)) }
                            td.number { (number(class.recall)) }
                            td.number { (number(class.precision)) }
                            td.number { (number(class.f1)) }
                            td.number { (number(class.roc_auc)) }
                        }
                    }
                }
            }
        }
    };
    scroll(&caption, &table)
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
