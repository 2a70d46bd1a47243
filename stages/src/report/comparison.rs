//! The section that compares models: metrics with intervals, paired differences, size and speed, and confusion matrices.

use maud::{Markup, html};

use super::figure;
use super::layout::scroll;
use super::sources::Sources;
use crate::comparison_record::{ComparisonRecord, Difference, Latency, ModelFacts, ModelLatency, ModelRecord};
use crate::ml::metric::{Direction, Interval, metric};
use crate::plot::grouped;

/// Renders the section, if models were compared.
pub fn section(sources: &Sources) -> Option<Markup> {
    let record = sources.comparison.as_ref()?;
    let latency = sources.latency.as_ref().filter(|latency| latency.models.len() == record.models.len());
    Some(html! {
        p {
            (record.models.len()) " models on the same " strong { (grouped(record.rows as u64)) " images" }
            " of " (grouped(record.lesions as u64)) " lesions of the " strong { (record.split) } " split."
            @if record.resamples > 0 {
                " Intervals are 95 % bootstrap intervals over " (grouped(record.resamples as u64)) " resamples of the lesions."
            }
        }
        (figure::drawn(&record.plot(), "model-comparison", "Metrics of the models"))
        (scroll("Metrics of the models", &metrics(record)))
        @if record.models.len() > 1 { (differences(record)) }
        @if record.models.iter().any(|model| model.card.is_some()) {
            h3 { "Size and speed" }
            (scroll("Size and speed", &costs(record, latency)))
            @if let Some(latency) = latency { (how_measured(latency)) }
        }
        h3 { "Confusion matrices" }
        div.side-by-side {
            @for (place, model) in record.models.iter().enumerate() {
                (figure::drawn(&record.confusion_plot(model), &format!("compared-matrix-{place}"), &model.name))
            }
        }
    })
}

fn title(name: &str) -> &str {
    metric(name).map_or(name, |metric| metric.title)
}

/// The head of a metric's column, with its direction if lower is better.
fn heading(name: &str) -> Markup {
    let is_lower = metric(name).is_some_and(|metric| metric.direction == Direction::Lower);
    html! { th.number scope="col" { (title(name)) @if is_lower { span.interval { "lower is better" } } } }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), |value| format!("{value:.3}"))
}

fn metrics(record: &ComparisonRecord) -> Markup {
    let interval = |model: &ModelRecord, name: &str| {
        let [low, high] = model.intervals.get(name)?;
        Some(format!("{low:.3} to {high:.3}"))
    };
    html! {
        table {
            caption { "Metrics" }
            thead {
                tr {
                    th scope="col" { "model" }
                    @for name in &record.metrics { (heading(name)) }
                }
            }
            tbody {
                @for model in &record.models {
                    tr {
                        th scope="row" { (model.name) }
                        @for name in &record.metrics {
                            td.number {
                                (number(model.values.get(name).copied().flatten()))
                                @if let Some(interval) = interval(model, name) { span.interval { (interval) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn differences(record: &ComparisonRecord) -> Markup {
    let of = |model: usize, name: &str| {
        record.differences.iter().find(|difference| difference.model == model && difference.metric == name)
    };
    let table = html! {
        table {
            caption { "Difference to " (record.models[0].name) }
            thead {
                tr {
                    th scope="col" { "model" }
                    @for name in &record.metrics { (heading(name)) }
                }
            }
            tbody {
                @for (place, model) in record.models.iter().enumerate().skip(1) {
                    tr {
                        th scope="row" { (model.name) }
                        @for name in &record.metrics { td.number { @if let Some(difference) = of(place, name) { (cell(difference)) } } }
                    }
                }
            }
        }
    };
    html! {
        (scroll("Differences", &table))
        @if record.resamples > 0 {
            p {
                "Differences are paired: each resample draws the same lesions for both models. An interval without 0 is set in bold."
            }
        }
    }
}

fn cell(difference: &Difference) -> Markup {
    let Some(value) = difference.value else { return html! { "undefined" } };
    let text = format!("{value:+.3}");
    let excludes_zero = |[low, high]: Interval| low > 0.0 || high < 0.0;
    html! {
        @if difference.interval.is_some_and(excludes_zero) { strong { (text) } } @else { (text) }
        @if let Some([low, high]) = difference.interval { span.interval { (format!("{low:+.3} to {high:+.3}")) } }
    }
}

fn costs(record: &ComparisonRecord, latency: Option<&Latency>) -> Markup {
    let facts =
        |of: &dyn Fn(&ModelFacts) -> String, model: &ModelRecord| model.card.as_ref().map_or("–".to_owned(), of);
    html! {
        table {
            caption { "Models" }
            thead {
                tr {
                    th scope="col" { "model" }
                    th scope="col" { "architecture" }
                    th.number scope="col" { "input" }
                    th.number scope="col" { "weights" }
                    th.number scope="col" { "file" }
                    th.number scope="col" { "epochs" }
                    @if latency.is_some() {
                        th.number scope="col" { "one image" }
                        th.number scope="col" { "per image, batch of " (ModelLatency::BATCH) }
                        th.number scope="col" { "training per epoch" }
                        th.number scope="col" { "training" }
                    }
                }
            }
            tbody {
                @for (place, model) in record.models.iter().enumerate() {
                    tr {
                        th scope="row" { (model.name) }
                        td { (facts(&|facts| facts.architecture.clone(), model)) }
                        td.number { (facts(&|facts| format!("{} × {}", facts.input[0], facts.input[1]), model)) }
                        td.number { (facts(&|facts| grouped(facts.parameters as u64), model)) }
                        td.number { (facts(&|facts| megabytes(facts.bytes), model)) }
                        td.number { (facts(&|facts| facts.epochs.to_string(), model)) }
                        @if let Some(latency) = latency {
                            @let of = &latency.models[place];
                            td.number { (milliseconds(of.one_image_ms)) }
                            td.number { (milliseconds(of.batch_ms_per_image)) }
                            td.number { (facts(&|facts| seconds(epoch_seconds(facts, of)), model)) }
                            td.number { (facts(&|facts| seconds(epoch_seconds(facts, of) * facts.epochs as f64), model)) }
                        }
                    }
                }
            }
        }
    }
}

fn epoch_seconds(facts: &ModelFacts, latency: &ModelLatency) -> f64 {
    facts.training_rows as f64 * latency.training_ms_per_image / 1e3
}

fn how_measured(latency: &Latency) -> Markup {
    html! {
        p {
            "Times are medians on the machine that compared the models, with " (latency.threads)
            @if latency.threads == 1 { " thread" } @else { " threads" }
            ". Times of training are computed from a step without augmentation with " (ModelLatency::BATCH) " images."
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn milliseconds(value: f64) -> String {
    format!("{value:.1} ms")
}

/// A duration with two or three digits.
fn seconds(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1} s"),
        value if value < 100.0 => format!("{value:.0} s"),
        value if value < 6000.0 => format!("{:.0} min", value / 60.0),
        value => format!("{:.1} h", value / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> ComparisonRecord {
        let model = |name: &str, value: f64, parameters: u64| {
            json!({
                "name": name, "confusion_matrix": [[3, 1], [2, 4]],
                "intervals": { "accuracy": [value - 0.1, value + 0.1] }, "values": { "accuracy": value, "log_loss": null },
                "card": {
                    "architecture": "baseline", "bytes": 15_000_000, "digest": "", "epochs": 20, "input": [75, 100, 3],
                    "parameters": parameters, "training_rows": 7200,
                },
            })
        };
        let record = json!({
            "classes": ["a", "<b>"], "lesions": 5, "rows": 10, "resamples": 1000, "split": "test", "synthetic": false,
            "metrics": ["accuracy", "log_loss"],
            "models": [model("small <i>", 0.7, 3_750_000), model("large", 0.9, 11_200_000)],
            "differences": [
                { "metric": "accuracy", "model": 1, "value": 0.2, "interval": [0.05, 0.35] },
                { "metric": "log_loss", "model": 1, "value": null, "interval": null },
            ],
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn models_are_shown_with_intervals_differences_size_and_speed() {
        let times = json!({ "one_image_ms": 4.0, "batch_ms_per_image": 1.25, "training_ms_per_image": 10.0 });
        let latency = serde_json::from_value(json!({ "models": [times, times], "threads": 2 })).unwrap();
        let sources = Sources { comparison: Some(record()), latency: Some(latency), ..Sources::default() };
        let page = section(&sources).unwrap().into_string();
        for expected in [
            "2 models on the same <strong>10 images</strong> of 5 lesions of the <strong>test</strong> split.",
            "small &lt;i&gt;",
            "0.700<span class=\"interval\">0.600 to 0.800</span>",
            "<strong>+0.200</strong><span class=\"interval\">+0.050 to +0.350</span>",
            "<td class=\"number\">undefined</td>",
            "<td class=\"number\">11,200,000</td>",
            "<td class=\"number\">15.0 MB</td>",
            "<td class=\"number\">4.0 ms</td><td class=\"number\">1.2 ms</td>",
            // 7,200 images of 10 ms, 20 times.
            "<td class=\"number\">72 s</td><td class=\"number\">24 min</td>",
            "with 2 threads",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
    }

    #[test]
    fn without_models_there_is_no_table_of_sizes() {
        let mut record = record();
        record.models.iter_mut().for_each(|model| model.card = None);
        let sources = Sources { comparison: Some(record), ..Sources::default() };
        assert!(!section(&sources).unwrap().into_string().contains("Size and speed"));
        assert!(section(&Sources::default()).is_none());
    }
}
