//! The metrics of two runs, one table for each group: those that differ first, equal ones folded away.

use std::collections::BTreeMap;

use maud::{Markup, html};

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
}

/// Renders the section.
pub fn section(opened: &Project, runs: [&RunRecord; 2]) -> Markup {
    let numbers = runs.map(|run| metrics::of_record(opened, run));
    let intervals = runs.map(|run| metrics::intervals_of_record(opened, run));
    let headline = |stage: &str, path: &str| {
        let stage = opened.graph.pipeline.stages.iter().find(|found| found.name == stage);
        stage.is_some_and(|stage| stage.outputs.iter().any(|output| output.headline.contains(&path)))
    };
    let groups = groups(&numbers, &intervals, &headline);
    html! {
        @if groups.is_empty() { p { "Neither run has metrics in the cache." } }
        @for (name, metrics) in &groups { (group(name, metrics, runs)) }
        @if groups.values().flatten().any(|metric| !metric.is_equal()) {
            p.soft {
                "Intervals are 95 % confidence intervals of each run alone. Bars show the difference relative to the larger value; the longest \
                 bar of a table is its largest relative difference."
            }
        }
    }
}

/// The metrics by stage and by the first step of their paths, which is the split; headline metrics come first in each group.
fn groups(
    numbers: &[Numbers; 2],
    intervals: &[Intervals; 2],
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
        groups.entry(group).or_default().push(Compared { name: name.to_owned(), values, intervals });
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
            @if let Some([low, high]) = metric.intervals[place] { span.interval { (metrics::shown(low)) " to " (metrics::shown(high)) } }
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
                        td.number { @if let [Some(a), Some(b)] = metric.values { (metrics::difference(a, b)) } }
                        @if largest > 0.0 { td { @if let Some(share) = metric.relative() { (bar(share / largest)) } } }
                    }
                }
            }
        }
    }
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
        let groups = groups(&both, &[ends, Intervals::new()], &|_, path| path == "test.balanced_accuracy");
        let names: Vec<&String> = groups.keys().collect();
        assert_eq!(names, ["evaluate", "evaluate: test", "evaluate: train"]);
        let test = &groups["evaluate: test"];
        assert_eq!((&test[0].name[..], &test[1].name[..]), ("balanced_accuracy", "accuracy"));
        assert_eq!(test[1].intervals, [Some([0.25, 0.75]), None]);
        assert_eq!((test[1].difference(), test[1].relative()), (Some(0.25), Some(0.25 / 0.75)));
        assert!(groups["evaluate: train"][0].is_equal());
        assert_eq!(groups["evaluate"][0].values, [Some(3.0), None]);
    }

    #[test]
    fn equal_undefined_and_zero_values_can_be_compared() {
        let metric = |a, b| Compared { name: String::new(), values: [a, b], intervals: [None, None] };
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
