//! The section about the hyperparameter search: scores by parameter, curves, and the table of trials.

use maud::{Markup, html};

use super::figure;
use super::layout::scroll;
use super::sources::Sources;
use crate::search_record::{SearchRecord, TrialRecord, TrialStatus, toml};

/// Renders the section, if there was a search.
pub fn section(sources: &Sources) -> Option<Markup> {
    let record = sources.search.as_ref()?;
    let metric = record.metric.replace('_', " ");
    Some(html! {
        p {
            @match record.trials.len() { 1 => "1 trial was scored", count => { (count) " trials were compared" } }
            " by the " strong { (metric) } " on the validation rows"
            @if record.budgets.len() > 1 { ", after " (budgets(record)) " epochs each time with fewer of them" }
            ". Test rows were not looked at."
        }
        @if let Some(best) = record.best_trial() { (best_trial(record, best)) }
        (figure::drawn(&record.scores_plot(), "search-scores", "Scores by parameter"))
        (figure::drawn(&record.curves_plot(), "search-curves", "Scores by epoch"))
        (scroll("Trials", &table(record)))
    })
}

fn budgets(record: &SearchRecord) -> String {
    let mut budgets: Vec<String> = record.budgets.iter().map(usize::to_string).collect();
    let last = budgets.pop().unwrap_or_default();
    format!("{} and {last}", budgets.join(", "))
}

fn best_trial(record: &SearchRecord, best: &TrialRecord) -> Markup {
    let lines: Vec<String> = best.values.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect();
    html! {
        p {
            "The best is trial " strong { (best.trial) }
            @if let Some(score) = best.score { " with " strong { (format!("{score:.4}")) } }
            @if record.trials.len() > 1 { ". Its score is optimistic, since the same rows chose it" }
            ". Its parameters for " code { "train" } ":"
        }
        pre { (lines.join("\n")) }
    }
}

fn table(record: &SearchRecord) -> Markup {
    let mut trials: Vec<&TrialRecord> = record.trials.iter().collect();
    // The best first, then those that were trained to the end, then by the budget that was reached, then by score.
    let rung = |trial: &TrialRecord| match trial.status {
        TrialStatus::Completed => usize::MAX,
        _ => record.budgets.iter().filter(|budget| **budget <= trial.curve.len()).count(),
    };
    let place = |trial: &TrialRecord| (trial.trial != record.best, std::cmp::Reverse(rung(trial)));
    let score = |trial: &TrialRecord| match trial.score {
        Some(score) if record.higher_is_better => -score,
        Some(score) => score,
        None => f64::INFINITY,
    };
    trials.sort_by(|a, b| place(a).cmp(&place(b)).then(score(a).total_cmp(&score(b))));
    html! {
        table {
            caption { "Trials, best first" }
            thead {
                tr {
                    th.number scope="col" { "trial" }
                    @for name in &record.parameters { th scope="col" { code { (name) } } }
                    th.number scope="col" { (record.metric.replace('_', " ")) }
                    th.number scope="col" { "epoch" }
                    th.number scope="col" { "epochs" }
                    th scope="col" { "result" }
                }
            }
            tbody {
                @for trial in trials {
                    tr {
                        th.number scope="row" { (trial.trial) @if trial.trial == record.best { " ★" } }
                        @for name in &record.parameters {
                            td { @if let Some(value) = trial.values.get(name) { (toml(value)) } @else { "–" } }
                        }
                        td.number { (trial.score.map_or("–".to_owned(), |score| format!("{score:.4}"))) }
                        td.number { (trial.best_epoch.map_or("–".to_owned(), |epoch| epoch.to_string())) }
                        td.number { (trial.curve.len()) }
                        td { (result(trial)) }
                    }
                }
            }
        }
    }
}

fn result(trial: &TrialRecord) -> String {
    let name = trial.status.name();
    match &trial.reason {
        Some(reason) if trial.status != TrialStatus::Pruned => format!("{name}: {reason}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trials_are_ranked_and_the_best_parameters_are_toml() {
        let trial = |trial: usize, rate: f64, curve: &[f64], status: &str, reason: Option<&str>| {
            let score = curve.iter().copied().reduce(f64::max);
            json!({
                "trial": trial, "curve": curve, "score": score, "best_epoch": score.map(|_| 1), "status": status,
                "reason": reason, "values": { "learning_rate": rate, "model": "baseline" },
            })
        };
        let record = json!({
            "best": 2, "budgets": [1, 2], "higher_is_better": true, "metric": "balanced_accuracy",
            "parameters": ["learning_rate", "model"],
            "trials": [
                trial(1, 1.0, &[], "diverged", Some("the loss is <NaN>")), trial(2, 0.01, &[0.5, 0.6], "completed", None),
                trial(3, 0.001, &[0.9], "pruned", Some("not among the best")),
            ],
        });
        let search = Some(serde_json::from_value(record).unwrap());
        let page = section(&Sources { search, ..Sources::default() }).unwrap().into_string();
        for expected in [
            "3 trials were compared by the <strong>balanced accuracy</strong> on the validation rows, after 1 and 2 epochs",
            "<pre>learning_rate = 0.01\nmodel = &quot;baseline&quot;</pre>",
            "diverged: the loss is &lt;NaN&gt;",
            "<td>pruned</td>",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
        let places = ["2 ★</th>", "3</th>", "1</th>"].map(|row| page.find(row).unwrap());
        assert!(places.is_sorted(), "a trial that was pruned early is behind those that got further: {places:?}");
        assert_eq!(page.matches("<svg").count(), 2);
    }
}
