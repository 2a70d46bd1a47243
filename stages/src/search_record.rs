//! The record of a hyperparameter search, as the kind `search` writes it and the report reads it.

use crate::plot::{SearchCurvesPlot, SearchScoresPlot, SearchedParameter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The trials of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// The number of the best trial.
    pub best: usize,
    /// The epochs after which trials were compared, in order; the last one is the end of training.
    pub budgets: Vec<usize>,
    /// Whether a higher score is better.
    pub higher_is_better: bool,
    /// The metric on the validation rows that scores the trials.
    pub metric: String,
    /// The names of the parameters that were searched.
    pub parameters: Vec<String>,
    /// The trials, by number.
    pub trials: Vec<TrialRecord>,
}

/// One trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The epoch of the score, 1-based; `None` if the trial diverged first.
    pub best_epoch: Option<usize>,
    /// The metric after each epoch; `None` where it is undefined.
    pub curve: Vec<Option<f64>>,
    /// Why the trial ended before its last epoch, if it stopped early or diverged.
    pub reason: Option<String>,
    /// The metric at the epoch whose weights are kept.
    pub score: Option<f64>,
    /// How the trial ended.
    pub status: TrialStatus,
    /// The number, 1-based.
    pub trial: usize,
    /// The searched parameters by name.
    pub values: Map<String, Value>,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialStatus {
    /// It trained to the end, or stopped early by itself.
    Completed,
    /// Successive halving ended it in favour of better trials.
    Pruned,
    /// A step diverged. If the trial has a score, it is that of the epoch before.
    Diverged,
}

impl TrialStatus {
    /// The status in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Pruned => "pruned",
            Self::Diverged => "diverged",
        }
    }
}

impl SearchRecord {
    /// The place of the best trial.
    fn best_place(&self) -> Option<usize> {
        self.trials.iter().position(|trial| trial.trial == self.best)
    }

    /// The plot of the scores by parameter.
    pub fn scores_plot(&self) -> SearchScoresPlot {
        let parameter = |name: &String| SearchedParameter {
            name: name.clone(),
            values: self.trials.iter().map(|trial| trial.values.get(name).cloned().unwrap_or_default()).collect(),
        };
        SearchScoresPlot {
            title: format!("Validation {} by parameter", self.metric.replace('_', " ")),
            metric: format!("validation {}", self.metric.replace('_', " ")),
            higher_is_better: self.higher_is_better,
            best: self.best_place(),
            scores: self.trials.iter().map(|trial| trial.score).collect(),
            parameters: self.parameters.iter().map(parameter).collect(),
        }
    }

    /// The plot of the scores over the epochs.
    pub fn curves_plot(&self) -> SearchCurvesPlot {
        SearchCurvesPlot {
            title: format!("Validation {} by epoch", self.metric.replace('_', " ")),
            metric: format!("validation {}", self.metric.replace('_', " ")),
            best: self.best_place(),
            curves: self.trials.iter().map(|trial| trial.curve.clone()).collect(),
            budgets: self.budgets.clone(),
        }
    }

    /// The best trial.
    pub fn best_trial(&self) -> Option<&TrialRecord> {
        self.trials.iter().find(|trial| trial.trial == self.best)
    }
}

/// Parameter values as people write them: `learning_rate = 0.001, optimiser = "adam-w"`.
pub fn assignments(values: &Map<String, Value>) -> String {
    values.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect::<Vec<_>>().join(", ")
}

/// A value as it is written in `pipeline.toml`. Numbers, booleans and texts of JSON are also TOML.
pub fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            // A key is quoted, since a name such as `blocks.0` would otherwise be a path.
            let entry = |(key, value): (&String, &Value)| format!("{} = {}", Value::from(key.as_str()), toml(value));
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_toml() {
        let value = json!({ "rate_factors": { "blocks.0": 0.1 }, "freeze": ["stem"], "plateau": false, "a": 1e-3 });
        let expected = "a = 0.001, freeze = [\"stem\"], plateau = false, rate_factors = { \"blocks.0\" = 0.1 }";
        assert_eq!(assignments(value.as_object().unwrap()), expected);
    }
}
