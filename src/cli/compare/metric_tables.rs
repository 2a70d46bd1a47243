//! The metrics of two runs, one table for each group: those that differ first, equal ones folded away.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::paired::{self, Differences};
use crate::cli::metrics::{self, Intervals, Numbers};
use crate::cli::pages;
use crate::cli::project::Project;
use crate::exec::RunRecord;

/// A metric in both runs.
struct Compared {
    /// The name within its group.
    name: String,
    values: [Option<f64>; 2],
    intervals: [Option<[f64; 2]>; 2],
    /// The interval of the difference, if the runs measured the same rows.
    paired: Option<[f64; 2]>,
}

impl Compared {
    /// The second value minus the first.
    fn difference(&self) -> Option<f64> {
        let [a, b] = self.values;
        Some(b? - a?).filter(|difference| difference.is_finite())
    }

    /// The difference as a share of the larger value.
    fn relative(&self) -> Option<f64> {
        let [a, b] = self.values;
        let larger = a?.abs().max(b?.abs());
        self.difference().filter(|_| larger > 0.0).map(|difference| difference / larger)
    }

    fn is_equal(&self) -> bool {
        let [a, b] = self.values.map(|value| value.map(f64::to_bits));
        a == b
    }

    /// Whether the interval of the difference excludes 0.
    fn is_clear(&self) -> bool {
        self.paired.is_some_and(|[low, high]| low > 0.0 || high < 0.0)
    }
}

/// Renders the section.
pub fn section(opened: &Project, runs: [&RunRecord; 2]) -> Markup {
    let numbers = runs.map(|run| metrics::of_record(opened, run));
    let intervals = runs.map(|run| metrics::intervals_of_record(opened, run));
    let paired = paired::of_runs(opened, runs);
    let headline = |stage: &str, path: &str| {
        let stage = opened.graph.pipeline.stages.iter().find(|found| found.name == stage);
        stage.is_some_and(|stage| stage.outputs.iter().any(|output| output.headline.contains(&path)))
    };
    let groups = groups(&numbers, &intervals, &paired.differences, &headline);
    html! {
        @if groups.is_empty() { p { "Neither run has metrics in the cache." } }
        @for (name, metrics) in &groups { (group(name, metrics, runs)) }
        @if groups.values().flatten().any(|metric| !metric.is_equal()) {
            p.soft {
                "Intervals below values and differences are 95 % confidence intervals. "
                @if !paired.differences.is_empty() {
                    "That of a difference is paired: it resamples the same lesions for both runs. A difference is bold if its interval excludes 0. "
                }
                "Bars show the difference relative to the larger value; the longest bar of a table is its largest relative difference."
            }
            @for (stage, reason) in &paired.unpaired {
                p.soft { "Differences of " strong { (stage) } " have no interval: " (pages::with_code(reason)) }
            }
        }
    }
}

/// The metrics by stage and by the first step of their paths, which is the split; headline metrics come first in each group.
fn groups(
    numbers: &[Numbers; 2],
    intervals: &[Intervals; 2],
    paired: &Differences,
    is_headline: &dyn Fn(&str, &str) -> bool,
) -> BTreeMap<String, Vec<Compared>> {
    let mut names: Vec<&(String, String)> = numbers.iter().flat_map(Numbers::keys).collect();
    names.sort_unstable();
    names.dedup();
    names.sort_by_key(|(stage, path)| !is_headline(stage, path));
    let mut groups: BTreeMap<String, Vec<Compared>> = BTreeMap::new();
    for key in names {
        let (stage, path) = key;
        let (group, name) = match path.split_once('.') {
            Some((first, rest)) => (format!("{stage}: {first}"), rest),
            None => (stage.clone(), &path[..]),
        };
        let values = [&numbers[0], &numbers[1]].map(|numbers| numbers.get(key).copied());
        let intervals = [&intervals[0], &intervals[1]].map(|intervals| intervals.get(key).copied());
        let mut compared = Compared { name: name.to_owned(), values, intervals, paired: None };
        // A kind that measures something else under the same name does not describe this difference.
        let describes = |(value, _): &&(f64, [f64; 2])| {
            compared.difference().is_some_and(|own| own != 0.0 && (own - value).abs() < 1e-9)
        };
        compared.paired = paired.get(key).filter(describes).map(|(_, interval)| *interval);
        groups.entry(group).or_default().push(compared);
    }
    groups
}

fn group(name: &str, metrics: &[Compared], runs: [&RunRecord; 2]) -> Markup {
    let (equal, different): (Vec<&Compared>, Vec<&Compared>) = metrics.iter().partition(|metric| metric.is_equal());
    let count = if equal.len() == 1 { "1 equal metric".to_owned() } else { format!("{} equal metrics", equal.len()) };
    html! {
        h3 { (name) }
        @if different.is_empty() { p { "No metric differs." } }
        @else { (pages::scroll(name, &table(name, &different, runs))) }
        @if !equal.is_empty() {
            details { summary { (count) } (pages::scroll(&format!("{name}, equal"), &table(name, &equal, runs))) }
        }
    }
}

fn table(name: &str, metrics: &[&Compared], runs: [&RunRecord; 2]) -> Markup {
    let largest = metrics.iter().filter_map(|metric| metric.relative()).map(f64::abs).fold(0.0, f64::max);
    let cell = |metric: &Compared, place: usize| {
        html! {
            (metric.values[place].map_or("–".to_owned(), metrics::shown))
            (interval(metric.intervals[place], metrics::shown))
        }
    };
    let difference = |metric: &Compared| {
        let [Some(a), Some(b)] = metric.values else { return html! {} };
        let text = metrics::difference(a, b);
        html! {
            @if metric.is_clear() { strong { (text) } } @else { (text) }
            (interval(metric.paired, |end| format!("{end:+.4}")))
        }
    };
    html! {
        table {
            caption.hidden { (name) }
            thead {
                tr {
                    th scope="col" { "metric" }
                    @for run in runs { th.number scope="col" { (run.run) } }
                    th.number scope="col" { "difference" }
                    @if largest > 0.0 { th scope="col" { span.hidden { "difference as a bar" } } }
                }
            }
            tbody {
                @for metric in metrics {
                    tr {
                        th scope="row" { (metric.name.replace('_', " ")) }
                        td.number { (cell(metric, 0)) }
                        td.number { (cell(metric, 1)) }
                        td.number { (difference(metric)) }
                        @if largest > 0.0 { td { @if let Some(share) = metric.relative() { (bar(share / largest)) } } }
                    }
                }
            }
        }
    }
}

fn interval(ends: Option<[f64; 2]>, shown: impl Fn(f64) -> String) -> Markup {
    html! { @if let Some([low, high]) = ends { span.interval { (shown(low)) " to " (shown(high)) } } }
}

/// A bar from the middle to the left or right, for a share from -1 to 1.
fn bar(share: f64) -> Markup {
    let length = 60.0 * share.abs();
    let left = if share < 0.0 { 60.0 - length } else { 60.0 };
    html! {
        svg.bar viewBox="0 0 120 14" width="120" height="14" aria-hidden="true" {
            rect x=(format!("{left:.1}")) y="2" width=(format!("{:.1}", length.max(1.0))) height="10" class=(if share < 0.0 { "less" } else { "more" }) {}
            path d="M60 0V14" class="middle" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: &[(&str, f64)]) -> Numbers {
        values.iter().map(|(path, value)| (("evaluate".to_owned(), (*path).to_owned()), *value)).collect()
    }

    #[test]
    fn groups_are_splits_and_the_headline_comes_first() {
        let both = [
            numbers(&[
                ("test.accuracy", 0.5),
                ("test.balanced_accuracy", 0.25),
                ("train.accuracy", 1.0),
                ("seconds", 3.0),
            ]),
            numbers(&[("test.accuracy", 0.75), ("test.balanced_accuracy", 0.2), ("train.accuracy", 1.0)]),
        ];
        let ends = Intervals::from([(("evaluate".to_owned(), "test.accuracy".to_owned()), [0.25, 0.75])]);
        let key = |path: &str| ("evaluate".to_owned(), path.to_owned());
        let paired = Differences::from([
            (key("test.accuracy"), (0.25, [0.125, 0.5])),
            (key("test.balanced_accuracy"), (0.125, [-0.5, 0.5])),
        ]);
        let groups = groups(&both, &[ends, Intervals::new()], &paired, &|_, path| path == "test.balanced_accuracy");
        let names: Vec<&String> = groups.keys().collect();
        assert_eq!(names, ["evaluate", "evaluate: test", "evaluate: train"]);
        let test = &groups["evaluate: test"];
        assert_eq!((&test[0].name[..], &test[1].name[..]), ("balanced_accuracy", "accuracy"));
        assert_eq!(test[1].intervals, [Some([0.25, 0.75]), None]);
        assert_eq!((test[1].difference(), test[1].relative()), (Some(0.25), Some(0.25 / 0.75)));
        assert_eq!((test[0].paired, test[1].paired), (None, Some([0.125, 0.5])), "of another difference; of this one");
        assert!(!test[0].is_clear() && test[1].is_clear());
        assert!(groups["evaluate: train"][0].is_equal());
        assert_eq!(groups["evaluate"][0].values, [Some(3.0), None]);
    }

    #[test]
    fn equal_undefined_and_zero_values_can_be_compared() {
        let metric = |a, b| Compared { name: String::new(), values: [a, b], intervals: [None, None], paired: None };
        assert!(metric(Some(f64::NAN), Some(f64::NAN)).is_equal());
        assert_eq!(metric(Some(f64::NAN), Some(1.0)).difference(), None);
        assert_eq!(metric(Some(0.0), Some(-0.0)).relative(), None);
        assert_eq!(metric(Some(0.0), Some(2.0)).relative(), Some(1.0));
    }

    #[test]
    fn bars_point_to_the_larger_run() {
        assert!(bar(0.5).into_string().contains("x=\"60.0\" y=\"2\" width=\"30.0\""));
        assert!(bar(-1.0).into_string().contains("x=\"0.0\" y=\"2\" width=\"60.0\""));
    }
}
