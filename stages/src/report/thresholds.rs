//! The explorer of thresholds for the malignant classes: what each would find, miss, and flag falsely.

use maud::{Markup, PreEscaped, html};
use serde_json::json;

use super::layout::scroll;
use super::sources::Sources;
use crate::plot::grouped;

/// The thresholds of the table, which is there without scripts and in print.
const LISTED: [f64; 7] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9];

/// The steps of the curves and of the slider.
const STEPS: u32 = 100;

/// The probabilities of malignancy of a split, by truth, ascending.
struct Probabilities {
    malignant: Vec<f64>,
    benign: Vec<f64>,
}

/// What happens at a threshold: rows with at least this probability of malignancy are flagged.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Share of the malignant rows that are flagged.
    sensitivity: f64,
    /// Share of the benign rows that are not.
    specificity: f64,
    /// Malignant rows that are flagged, of 100 rows.
    found: f64,
    /// Malignant rows that are not, of 100 rows.
    missed: f64,
    /// Benign rows that are flagged, of 100 rows.
    false_alarms: f64,
}

impl Probabilities {
    fn at(&self, threshold: f64) -> Outcome {
        let flagged = |of: &[f64]| (of.len() - of.partition_point(|probability| *probability < threshold)) as f64;
        let (malignant, benign) = (self.malignant.len() as f64, self.benign.len() as f64);
        let (found, false_alarms) = (flagged(&self.malignant), flagged(&self.benign));
        let of_100 = |rows: f64| 100.0 * rows / (malignant + benign);
        Outcome {
            sensitivity: found / malignant,
            specificity: (benign - false_alarms) / benign,
            found: of_100(found),
            missed: of_100(malignant - found),
            false_alarms: of_100(false_alarms),
        }
    }
}

/// Renders the explorer for the first split; `None` without malignant classes, or without rows of both sides.
pub fn explorer(sources: &Sources) -> Option<Markup> {
    let (split, metrics) = *sources.splits().first()?;
    let classes = metrics.malignant.as_ref()?.classes.as_slice();
    let mut probabilities = Probabilities { malignant: Vec::new(), benign: Vec::new() };
    for row in sources.predictions.iter().filter(|row| row.split == split) {
        // With the digits of the page's data, so that the table and the script agree.
        let rounded = (row.malignancy? * 1e4).round() / 1e4;
        let side = if classes.contains(&row.label) { &mut probabilities.malignant } else { &mut probabilities.benign };
        side.push(rounded);
    }
    if probabilities.malignant.is_empty() || probabilities.benign.is_empty() {
        return None;
    }
    probabilities.malignant.sort_by(f64::total_cmp);
    probabilities.benign.sort_by(f64::total_cmp);
    let rows = probabilities.malignant.len() + probabilities.benign.len();
    Some(html! {
        h3 { "Thresholds for malignant classes" }
        p {
            "Suppose that an image is flagged if the probabilities of " (classes.join(", ")) " add up to at least a threshold. A low \
             threshold misses fewer malignant images and flags more benign ones. Of the " (grouped(rows as u64)) " images of the "
            (split) " split, " (grouped(probabilities.malignant.len() as u64)) " are malignant; in other collections, and in a \
             practice, that share differs, and so do the numbers per 100 images. Choose a threshold on validation rows, not here."
        }
        div.side-by-side {
            figure {
                (chart(&probabilities))
                figcaption { "Solid: sensitivity. Dashed: specificity. The vertical line is the threshold." }
            }
            div {
                div #thresholds hidden {
                    label.slider for="threshold" { "Threshold" output #threshold-value for="threshold" { "0.50" } }
                    input #threshold type="range" min="0" max="1" step=(1.0 / f64::from(STEPS)) value="0.5";
                    div role="status" {
                        dl.facts {
                            div { dt { "sensitivity" } dd #threshold-sensitivity {} }
                            div { dt { "specificity" } dd #threshold-specificity {} }
                            div { dt { "per 100 images: found" } dd #threshold-found {} }
                            div { dt { "per 100 images: missed" } dd #threshold-missed {} }
                            div { dt { "per 100 images: false alarms" } dd #threshold-false {} }
                        }
                    }
                }
                (table(&probabilities))
            }
        }
        script #threshold-data type="application/json" { (PreEscaped(json!([probabilities.malignant, probabilities.benign]).to_string())) }
    })
}

/// One decimal, ties upwards as in the script.
fn tenths(value: f64) -> String {
    format!("{:.1}", (10.0 * value).round() / 10.0)
}

fn table(probabilities: &Probabilities) -> Markup {
    let caption = "Selected thresholds";
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    @for name in ["threshold", "sensitivity", "specificity", "found per 100", "missed per 100", "false alarms per 100"] {
                        th.number scope="col" { (name) }
                    }
                }
            }
            tbody {
                @for threshold in LISTED {
                    @let outcome = probabilities.at(threshold);
                    tr {
                        th.number scope="row" { (format!("{threshold:.2}")) }
                        td.number { (tenths(100.0 * outcome.sensitivity)) " %" }
                        td.number { (tenths(100.0 * outcome.specificity)) " %" }
                        @for rows in [outcome.found, outcome.missed, outcome.false_alarms] { td.number { (tenths(rows)) } }
                    }
                }
            }
        }
    };
    scroll(caption, &table)
}

/// The curves of sensitivity and specificity over the threshold. The script moves the line.
fn chart(probabilities: &Probabilities) -> Markup {
    let (left, top, width, height) = (56.0, 14.0, 400.0, 220.0);
    let x = |value: f64| left + width * value;
    let y = |value: f64| top + height * (1.0 - value);
    let curve = |of: fn(&Outcome) -> f64| {
        let point = |step: u32| {
            let threshold = f64::from(step) / f64::from(STEPS);
            format!("{:.1},{:.1}", x(threshold), y(of(&probabilities.at(threshold))))
        };
        (0..=STEPS).map(point).collect::<Vec<_>>().join(" ")
    };
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0];
    html! {
        svg.hf-figure viewBox="0 0 480 282" role="img" aria-label="Sensitivity and specificity by threshold" {
            @for tick in ticks {
                line.hf-grid x1=(x(0.0)) x2=(x(1.0)) y1=(y(tick)) y2=(y(tick)) {}
                text.hf-soft x=(left - 8.0) y=(y(tick) + 4.0) text-anchor="end" { (format!("{:.0} %", 100.0 * tick)) }
                text.hf-soft x=(x(tick)) y=(y(0.0) + 18.0) text-anchor="middle" { (tick) }
            }
            text.hf-soft x=(x(0.5)) y=(y(0.0) + 40.0) text-anchor="middle" { "threshold" }
            polyline.hf-l0 stroke-width="2" points=(curve(|outcome| outcome.sensitivity)) {}
            polyline.hf-l1 stroke-width="2" points=(curve(|outcome| outcome.specificity)) {}
            line #threshold-line .hf-axis stroke-width="2" data-left=(left) data-width=(width) x1=(x(0.5)) x2=(x(0.5)) y1=(y(1.0)) y2=(y(0.0)) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // from sklearn.metrics import confusion_matrix
    // truth = [1, 1, 1, 0, 0, 0, 0, 0]; p = [0.9, 0.5, 0.1, 0.6, 0.4, 0.3, 0.2, 0.0]
    // for t in (0, 0.25, 0.5, 0.95): print(confusion_matrix(truth, [v >= t for v in p]).ravel())  # tn, fp, fn, tp
    // [0 5 0 3], [2 3 1 2], [4 1 1 2], [5 0 3 0]
    #[test]
    fn outcomes_are_those_of_the_confusion_matrix_at_the_threshold() {
        let probabilities = Probabilities { malignant: vec![0.1, 0.5, 0.9], benign: vec![0.0, 0.2, 0.3, 0.4, 0.6] };
        for (threshold, [negatives, false_alarms, missed, found]) in [
            (0.0, [0.0, 5.0, 0.0, 3.0]),
            (0.25, [2.0, 3.0, 1.0, 2.0]),
            (0.5, [4.0, 1.0, 1.0, 2.0]),
            (0.95, [5.0, 0.0, 3.0, 0.0]),
        ] {
            let expected = Outcome {
                sensitivity: found / 3.0,
                specificity: negatives / 5.0,
                found: 100.0 * found / 8.0,
                missed: 100.0 * missed / 8.0,
                false_alarms: 100.0 * false_alarms / 8.0,
            };
            assert_eq!(probabilities.at(threshold), expected, "{threshold}");
        }
    }

    #[test]
    fn ties_are_rounded_upwards_as_by_the_script() {
        // Math.round(10 * value) / 10 in JavaScript; `{:.1}` alone would give 1.2 and 12.2.
        assert_eq!([1.25, 12.25, 2.75, 0.04].map(tenths), ["1.3", "12.3", "2.8", "0.0"]);
    }
}
