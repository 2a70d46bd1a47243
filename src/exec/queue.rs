//! The tasks of a stage in the queue of a batch system, as they are shown and recorded.

use serde::{Deserialize, Serialize};

/// A task: one or more jobs that a node does one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedTask {
    /// The id that the batch system gave it last.
    pub id: String,
    /// The state as the batch system calls it; `submitted` before it was asked, `ended` if all jobs have a record.
    pub state: String,
    /// Why it waits; empty if it does not.
    pub reason: String,
    /// The node that it runs or ran on.
    pub host: Option<String>,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it began on its node, in milliseconds since 1970, as the engine saw it.
    pub began_ms: Option<u64>,
    /// How often it was submitted.
    pub attempts: u32,
    /// How many jobs it has.
    pub jobs: usize,
    /// The time of its jobs so far, in milliseconds.
    pub wall_ms: u64,
    /// The peak resident memory of its jobs so far, in bytes.
    pub peak_memory: u64,
}

/// The state of a task whose jobs have all ended.
pub const ENDED: &str = "ended";

impl QueuedTask {
    /// Whether it has begun on a node and not ended.
    pub fn is_running(&self) -> bool {
        self.began_ms.is_some() && self.state != ENDED
    }

    /// Whether it has not begun.
    pub fn is_waiting(&self) -> bool {
        self.began_ms.is_none() && self.state != ENDED
    }
}

/// The tasks of a stage on one line: `3 tasks run on node7, 9 wait (Priority)`.
pub fn in_words(tasks: &[QueuedTask]) -> String {
    let running: Vec<&QueuedTask> = tasks.iter().filter(|task| task.is_running()).collect();
    let waiting: Vec<&QueuedTask> = tasks.iter().filter(|task| task.is_waiting()).collect();
    let count = |number: usize, one: &str, many: &str| match number {
        1 => format!("1 task {one}"),
        _ => format!("{number} tasks {many}"),
    };
    let mut parts = Vec::new();
    if let Some(first) = running.first() {
        let hosts: std::collections::BTreeSet<&str> = running.iter().filter_map(|task| task.host.as_deref()).collect();
        let place = match (hosts.len(), first.host.as_deref()) {
            (1, Some(host)) => format!(" on {host}"),
            (0, _) => String::new(),
            (nodes, _) => format!(" on {nodes} nodes"),
        };
        parts.push(format!("{}{place}", count(running.len(), "runs", "run")));
    }
    if let Some(first) = waiting.first() {
        let reason = waiting.iter().find(|task| !task.reason.is_empty()).map_or(&first.reason, |task| &task.reason);
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        parts.push(format!("{}{reason}", count(waiting.len(), "waits", "wait")));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_told_in_few_words() {
        let waiting = QueuedTask { reason: "Priority".to_owned(), ..QueuedTask::default() };
        let on = |host: &str| QueuedTask { host: Some(host.to_owned()), began_ms: Some(1), ..QueuedTask::default() };
        let ended = QueuedTask { state: ENDED.to_owned(), ..on("a") };
        assert_eq!(in_words(&[waiting.clone(), waiting.clone()]), "2 tasks wait (Priority)");
        assert_eq!(in_words(&[on("a"), waiting, ended.clone()]), "1 task runs on a, 1 task waits (Priority)");
        assert_eq!(in_words(&[on("a"), on("b"), on("b")]), "3 tasks run on 2 nodes");
        assert_eq!(in_words(&[ended]), "");
    }
}
