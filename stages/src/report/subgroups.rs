//! The section about subgroups of the rows.

use maud::{Markup, html};

use super::evaluation;
use super::facts::words;
use super::layout::scroll;
use super::sources::Sources;
use crate::dataset::EXTERNAL;
use crate::ml::metric::{Gap, METRICS, MIN_ROWS, Metric, SplitMetrics, Subgroup, metric};
use crate::plot::grouped;

/// The metrics that are shown for each subgroup; `metrics.json` contains all.
const SHOWN: [&str; 5] = ["accuracy", "balanced_accuracy", "f1_macro", "log_loss", "expected_calibration_error"];

/// Renders the section for the first split and an external test set, if there are subgroups.
pub fn section(sources: &Sources) -> Option<Markup> {
    let splits = sources.splits();
    let first = splits.first().into_iter();
    let shown = first.chain(splits.iter().skip(1).filter(|(name, _)| *name == EXTERNAL));
    let shown: Vec<_> = shown.filter(|(_, metrics)| !metrics.subgroups.is_empty()).collect();
    let several = shown.len() > 1;
    (!shown.is_empty()).then(|| {
        html! {
            @for (split, metrics) in shown {
                @if several { h3 { "On the " (split) " split" } }
                (of_split(split, metrics))
                (evaluation::figures(sources, split, |plot| plot == evaluation::SUBGROUP_PLOT))
            }
        }
    })
}

fn of_split(split: &str, metrics: &SplitMetrics) -> Markup {
    let shown: Vec<&Metric> = METRICS.iter().filter(|metric| SHOWN.contains(&metric.name)).collect();
    html! {
        p {
            "The numbers of the " (split) " split for subgroups of its rows, with their 95 % intervals. Small subgroups have wide \
             intervals, and classes fall on them unevenly: a difference is a reason to look, not yet a finding."
        }
        (gaps(metrics))
        @for (attribute, parts) in &metrics.subgroups { (table(&words(attribute), parts, &shown)) }
    }
}

/// The largest difference in balanced accuracy for each attribute.
fn gaps(metrics: &SplitMetrics) -> Markup {
    let largest: Vec<&Gap> = metrics.gaps.iter().filter(|gap| gap.metric == "balanced_accuracy").collect();
    let title = metric("balanced_accuracy").map_or("", |metric| metric.title);
    html! {
        @if !largest.is_empty() {
            p { "Largest differences in " (title.to_lowercase()) " between subgroups of at least " (MIN_ROWS) " rows that have the same classes:" }
            ul {
                @for Gap { attribute, gap, highest, lowest, .. } in largest {
                    li { strong { (words(attribute)) } ": " (format!("{gap:.3}")) ", between " (highest) " and " (lowest) }
                }
            }
        }
    }
}

fn table(title: &str, parts: &[Subgroup], shown: &[&Metric]) -> Markup {
    let caption = format!("By {title}");
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { (title) }
                    th.number scope="col" { "rows" }
                    th.number scope="col" { abbr title="Means over classes of subgroups with other classes cannot be compared." { "classes" } }
                    @for metric in shown { th.number scope="col" { abbr title=(metric.doc) { (metric.title) } } }
                }
            }
            tbody {
                @for part in parts {
                    tr {
                        th scope="row" { (part.name) }
                        td.number { (grouped(part.rows as u64)) }
                        td.number { (part.classes) }
                        @for metric in shown { td.number { (value(part, metric)) } }
                    }
                }
            }
        }
    };
    scroll(&caption, &table)
}

fn value(part: &Subgroup, metric: &Metric) -> Markup {
    let interval = part.intervals.get(metric.name);
    match (part.value(metric.name), part.undefined.get(metric.name)) {
        (Some(value), _) => html! {
            (format!("{value:.3}"))
            @if let Some([low, high]) = interval { " " span.interval { (format!("{low:.2} to {high:.2}")) } }
        },
        (None, Some(reason)) => html! { abbr title=(reason) { "undefined" } },
        (None, None) => html! { "–" },
    }
}
