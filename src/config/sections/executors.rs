//! `[executors.NAME]`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::inputs::{NAME_PATTERN, is_name};
use crate::config::diagnostic::{Mistake, Mistakes};
use crate::config::spanned::{Named, Spanned, parsed};

/// The executor that stages have by default: this machine.
pub const LOCAL: &str = "local";

/// A batch system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ExecutorKind {
    /// with `sbatch`, `squeue` and `scancel`
    Slurm,
    /// with commands of yours that submit, list and cancel jobs
    Template,
}

/// How inputs get to the nodes, and results back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum TransportKind {
    /// by files that this machine and the nodes see at the same paths
    #[default]
    SharedFiles,
    /// through the remote of the pipeline
    Remote,
}

/// Where jobs run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutorOptions {
    /// The batch system.
    pub kind: ExecutorKind,
    /// How inputs get to the nodes, and results back.
    #[serde(default)]
    pub transport: TransportKind,
    /// The partition, unless the `resources` of a stage name one.
    #[serde(default)]
    pub partition: Option<String>,
    /// The account that is charged.
    #[serde(default)]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default)]
    pub qos: Option<String>,
    /// The features that nodes must have.
    #[serde(default)]
    pub constraint: Option<String>,
    /// Further arguments of `sbatch`.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The command of a template that submits `{script}` and prints the number of the job.
    #[serde(default)]
    pub submit: Option<String>,
    /// The command of a template that prints a line for each job that has not ended: its number, state and reason.
    #[serde(default)]
    pub list: Option<String>,
    /// The command of a template that cancels the jobs `{ids}`.
    #[serde(default)]
    pub cancel: Option<String>,
    /// How many tasks of a stage there are at most; parts are divided among them.
    #[serde(default = "max_jobs")]
    #[schemars(range(min = 1))]
    pub max_jobs: usize,
    /// How long a task should take at least: parts that took less in the last run are done together.
    #[serde(default = "task_time", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub task_time: Duration,
    /// By how much the memory of a task grows if it was ended for lack of memory; 1 lets the stage fail.
    #[serde(default = "memory_retry")]
    #[schemars(range(min = 1.0))]
    pub memory_retry: f64,
    /// How often the batch system is asked, at least every 5 s.
    #[serde(default = "poll", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub poll: Duration,
    /// How long a record may take to appear after its job has ended, on file systems that show new files late.
    #[serde(default = "record_wait", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub record_wait: Duration,
}

fn max_jobs() -> usize {
    100
}

fn task_time() -> Duration {
    Duration::from_mins(1)
}

fn memory_retry() -> f64 {
    1.0
}

fn poll() -> Duration {
    Duration::from_secs(5)
}

fn record_wait() -> Duration {
    Duration::from_secs(60)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parsed(deserializer, parse_time)
}

impl ExecutorOptions {
    /// What is wrong with the keys that are given, with hints.
    fn problems(&self, name: &str) -> Vec<(String, String)> {
        let commands = [("submit", &self.submit), ("list", &self.list), ("cancel", &self.cancel)];
        let of_slurm = [
            ("account", self.account.is_some()),
            ("qos", self.qos.is_some()),
            ("constraint", self.constraint.is_some()),
            ("arguments", !self.arguments.is_empty()),
        ];
        let mut problems = Vec::new();
        match self.kind {
            ExecutorKind::Slurm => {
                for (key, _) in commands.iter().filter(|(_, command)| command.is_some()) {
                    let message = format!("`executors.{name}`: `{key}` is for `kind = \"template\"`");
                    problems.push((message, "remove it; `slurm` knows the commands".to_owned()));
                }
            }
            ExecutorKind::Template => {
                for (key, _) in commands.iter().filter(|(_, command)| command.is_none()) {
                    let message = format!("`executors.{name}`: a template needs `{key}`");
                    problems.push((message, "docs/guide/clusters.md has an example for each batch system".to_owned()));
                }
                for (key, _) in of_slurm.iter().filter(|(_, given)| *given) {
                    let message = format!("`executors.{name}`: `{key}` is for `kind = \"slurm\"`");
                    problems.push((message, "write it into the command at `submit`".to_owned()));
                }
            }
        }
        if self.memory_retry.is_nan() || !(1.0..=10.0).contains(&self.memory_retry) {
            let message = format!("`executors.{name}`: `memory_retry` cannot be {}", self.memory_retry);
            problems.push((message, "use a factor from 1 to 10, such as 1.5".to_owned()));
        }
        if self.max_jobs == 0 {
            let message = format!("`executors.{name}`: `max_jobs` cannot be 0");
            problems.push((message, "use at least 1".to_owned()));
        }
        problems
    }
}

/// Reads a time such as `90s`, `30m`, `2h` or `1d`.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The executors by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(extend("propertyNames" = { "pattern": NAME_PATTERN }))]
pub(crate) struct ExecutorsSection(Named<ExecutorOptions>);

impl ExecutorsSection {
    /// Rejects invalid names, and keys that the kind does not have.
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        let Self(Named(executors)) = self;
        for (Spanned { span, value: name }, options) in executors {
            for (message, hint) in options.problems(name) {
                mistakes.push(Mistake::new(*span, message).hint(hint));
            }
            if !is_name(name) || name == LOCAL {
                let message = format!("`{name}` cannot be the name of an executor");
                let hint = "use letters, digits, `_` and `-`; `local` is this machine".to_owned();
                mistakes.push(Mistake::new(*span, message).hint(hint));
            }
        }
    }

    /// The executors with their names.
    pub(crate) fn into_options(self) -> Vec<(String, ExecutorOptions)> {
        let Self(Named(executors)) = self;
        executors.into_iter().map(|(name, options)| (name.value, options)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let seconds = |text: &str| parse_time(text).map(|time| time.as_secs());
        assert_eq!([seconds("90s"), seconds("30m"), seconds("2h"), seconds("1d")], [90, 1800, 7200, 86400].map(Some));
        for text in ["", "5", "0s", "h", "1w", "-1s", "99999999999999999999h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
