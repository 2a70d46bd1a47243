//! The sections about the evaluation: results, curves, and how sure the model is.

use maud::{Markup, html};

use super::figure;
use super::layout::scroll;
use super::sources::{FigureFile, Sources};
use super::thresholds;
use crate::ml::metric::{CLASS_METRICS, MALIGNANT_METRICS, METRICS, Malignant, Metric, SplitMetrics};
use crate::plot::{PLOTS, grouped};

/// Plots that belong to another section than the curves.
const RESULT_PLOTS: [&str; 2] = ["confusion_matrix", "class_scores"];
const CERTAINTY_PLOTS: [&str; 1] = ["reliability"];
/// The plot in the section about subgroups.
pub const SUBGROUP_PLOT: &str = "subgroups";

/// Renders what is right and wrong: the confusion matrix beside the classes, then every metric.
pub fn results(sources: &Sources) -> Markup {
    let splits = sources.splits();
    html! {
        (by_split(&splits, |split, metrics| html! {
            (figures(sources, split, |plot| RESULT_PLOTS.contains(&plot)))
            (class_table(sources, split, metrics))
            (notes(metrics))
        }))
        div.blocks { (metric_table(&splits)) (malignant_table(&splits)) }
        @for sentence in interval_sentences(&splits) { p.footnote { (sentence) } }
    }
}

/// Renders the curves of every class and the figures of other programs; `None` without any.
pub fn curves(sources: &Sources) -> Option<Markup> {
    let splits = sources.splits();
    let of_other_sections =
        |plot: &str| RESULT_PLOTS.contains(&plot) || CERTAINTY_PLOTS.contains(&plot) || plot == SUBGROUP_PLOT;
    let others: Vec<(usize, &FigureFile)> = sources
        .figures
        .iter()
        .enumerate()
        .filter(|(_, file)| !splits.iter().any(|(split, _)| plot_of(file, split).is_some()))
        .collect();
    let curves = |split: &str| figures(sources, split, |plot| !of_other_sections(plot));
    let any = splits.iter().any(|(split, _)| !curves(split).0.is_empty());
    (any || !others.is_empty()).then(|| {
        html! {
            @if any { (by_split(&splits, |split, _| curves(split))) }
            @if !others.is_empty() {
                @if !splits.is_empty() { h3 { "Other figures" } }
                div.figures { @for (number, file) in others { (figure::from_file(file, number)) } }
            }
        }
    })
}

/// Renders how sure the model is: calibration, the decision for rare classes, and thresholds for malignant classes.
pub fn certainty(sources: &Sources) -> Option<Markup> {
    let splits = sources.splits();
    let reliability = |split: &str| figures(sources, split, |plot| CERTAINTY_PLOTS.contains(&plot));
    let explorer = thresholds::explorer(sources);
    let any = splits.iter().any(|(split, metrics)| {
        metrics.calibration.is_some() || metrics.decision.is_some() || !reliability(split).0.is_empty()
    });
    (any || explorer.is_some()).then(|| {
        html! {
            @if any {
                (by_split(&splits, |split, metrics| html! { (calibration(metrics)) (decision(metrics)) (reliability(split)) }))
            }
            @if let Some(explorer) = explorer { (explorer) }
        }
    })
}

/// The same for every split: the first at once, the others to open.
fn by_split(splits: &[(&str, &SplitMetrics)], content: impl Fn(&str, &SplitMetrics) -> Markup) -> Markup {
    html! {
        @for (i, (split, metrics)) in splits.iter().enumerate() {
            @let content = content(split, metrics);
            @if i == 0 {
                p.of-split { "On the " strong { (split) } " split: " (grouped(metrics.rows as u64)) " images." }
                (content)
            } @else if !content.0.is_empty() {
                details.split {
                    summary { h3 { "On the " (split) " split: " (grouped(metrics.rows as u64)) " images" } }
                    (content)
                }
            }
        }
    }
}

/// The plot of a figure of a split, from its file name `PLOT_SPLIT`.
fn plot_of<'a>(file: &'a FigureFile, split: &str) -> Option<&'a str> {
    file.name.strip_suffix(split)?.strip_suffix('_')
}

/// The figures of a split whose plot is chosen, in the order of the plots.
pub fn figures(sources: &Sources, split: &str, chosen: impl Fn(&str) -> bool) -> Markup {
    let of_split = sources.figures.iter().enumerate();
    let mut shown: Vec<(usize, &FigureFile)> =
        of_split.filter(|(_, file)| plot_of(file, split).is_some_and(&chosen)).collect();
    shown.sort_by_key(|(i, file)| (plot_rank(&file.name), *i));
    html! { @if !shown.is_empty() { div.figures { @for (number, file) in shown { (figure::from_file(file, number)) } } } }
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
                }
            }
            tbody {
                tr {
                    th scope="row" { "Rows" }
                    @for (_, metrics) in splits { td.number { (grouped(metrics.rows as u64)) } }
                }
                @for metric in METRICS {
                    tr {
                        th scope="row" { abbr title={ (metric.doc) " (" (metric.unit.name()) ", " (metric.direction.name()) ")" } { (metric.title) } }
                        @for (_, metrics) in splits { td.number { (value(metrics, metric)) } }
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
                }
            }
            tbody {
                tr {
                    th scope="row" { abbr title="The probability of malignancy is the sum over the malignant classes." { "Malignant images" } }
                    @for (_, malignant) in &measured { td.number { (grouped(malignant.rows as u64)) } }
                }
                @for metric in MALIGNANT_METRICS {
                    tr {
                        th scope="row" { abbr title=(metric.doc) { (metric.title) } }
                        @for (_, malignant) in &measured { td.number { (cell(malignant, metric.name)) } }
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
            "The second line of a cell is a 95 % percentile interval, from a bootstrap that resamples whole lesions, because \
             images of one lesion are not independent ({each})."
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
