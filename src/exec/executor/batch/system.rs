//! Batch systems: what a [`Batch`](super::Batch) needs of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hamflow_stage_api::StageError;
use serde::{Deserialize, Serialize};

use super::node;
use crate::exec::executor::Placement;
use crate::store::remote::Place;

/// Tasks that are submitted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The name of the jobs, which no other submission has.
    pub name: String,
    /// The cores of each task.
    pub threads: usize,
    /// What each task asks for.
    pub placement: Placement,
    /// The folder of the tasks.
    pub folder: PathBuf,
    /// The program that performs a task.
    pub program: PathBuf,
    /// Whether it only finds out what the nodes have.
    pub is_probe: bool,
    /// The nodes that the tasks should not run on.
    pub avoided: Vec<String>,
    /// Where the tasks are, if the nodes do not have the folder.
    #[serde(default)]
    pub remote: Option<Place>,
}

/// The exit status of a probe if its node does not see the folder.
pub const NO_FOLDER: i32 = 41;

/// The exit status of a probe if its node does not have the program.
pub const NO_PROGRAM: i32 = 42;

/// The exit status of a worker that cannot get its task from the remote.
pub const NO_REMOTE: u8 = 43;

impl Submission {
    /// The script of the task whose number the shell gets from `index`.
    pub fn script(&self, index: &str) -> String {
        let quoted = |text: String| format!("'{}'", text.replace('\'', r"'\''"));
        let (program, folder) = (quoted(self.program.display().to_string()), quoted(self.folder.display().to_string()));
        let threads = self.threads;
        let mut script = "#!/bin/sh\n".to_owned();
        if self.is_probe && self.remote.is_none() {
            script.push_str(&format!("test -d {folder} || exit {NO_FOLDER}\n"));
        }
        if self.is_probe {
            script.push_str(&format!("test -x {program} || exit {NO_PROGRAM}\n"));
        }
        script.push_str(&format!("export RAYON_NUM_THREADS={threads} POLARS_MAX_THREADS={threads}\n"));
        let tasks = match &self.remote {
            None => format!("--tasks {folder}"),
            Some(place) => {
                let (url, key) = (quoted(place.url.clone()), quoted(place.key.clone()));
                script.push_str(&format!("export {}={url} {}={key}\n", node::URL, node::KEY));
                // With `=`, since the name may begin with a hyphen.
                format!("--remote-tasks={}", quoted(place.name.clone()))
            }
        };
        script.push_str(&format!("exec {program} worker {tasks} --index {index}\n"));
        script
    }

    /// The file for what a task prints; `index` is its number.
    pub fn log(&self, index: &str) -> PathBuf {
        match self.is_probe || self.remote.is_some() {
            true => PathBuf::from("/dev/null"),
            false => self.folder.join(format!("output-{index}.txt")),
        }
    }
}

/// The state of a task as the batch system has it, and the reason why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `PENDING`, `RUNNING`, …
    pub name: String,
    /// The reason; may be empty.
    pub reason: String,
}

/// The states of tasks by their ids.
pub type States = BTreeMap<String, State>;

/// What a state means for a task without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It waits, runs or ends; or nobody knows.
    Present,
    /// It has ended.
    Ended,
    /// Its node failed.
    NodeFailed,
    /// It was ended because it needed more memory than it had asked for.
    OutOfMemory,
    /// It was ended because its time was over.
    TimedOut,
}

/// A batch system.
pub trait BatchSystem: Send + Sync {
    /// The largest number of tasks in one submission.
    fn array_limit(&self) -> Result<usize, StageError>;
    /// Submits tasks; returns the id of each.
    fn submit(&self, submission: &Submission, tasks: &[usize]) -> Result<Vec<String>, StageError>;
    /// The states of tasks, as far as the system still has them; `None` if it does not answer.
    fn states(&self, ids: &[String]) -> Option<States>;
    /// What a state means for a task without a record.
    fn meaning(&self, state: &State) -> Meaning;
    /// Cancels tasks. One that has ended already is no error.
    fn cancel(&self, ids: &[String]) -> Result<(), StageError>;
    /// The exit status of a task that has ended, if the system knows it.
    fn exit_status(&self, _id: &str) -> Option<i32> {
        None
    }
}

/// Runs a command with a text as its input. An error has what it said.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<Output, StageError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let missing = |source: std::io::Error| {
        StageError::input(format!("cannot start `{name}`: {source}"))
            .hint("run hamflow where the batch system is installed, or on this machine with `--executor local`")
    };
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(missing)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // If it does not read, its status says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("sbatch: error: ").replace('\n', "; ");
    Err(StageError::input(format!("`{name}` failed: {said}")).hint(
        "`[executors]` and `resources` say what is asked of the batch system; `--executor local` runs on this machine",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_begins_with_a_hyphen_is_no_option_of_the_worker() {
        let place = Place { url: "/remote".to_owned(), name: "-oX".to_owned(), key: "a'b".to_owned() };
        let submission = Submission {
            name: "x".to_owned(),
            threads: 2,
            placement: Placement::default(),
            folder: PathBuf::from("/tasks"),
            program: PathBuf::from("/bin/hamflow"),
            is_probe: false,
            avoided: Vec::new(),
            remote: Some(place),
        };
        let script = submission.script("\"$I\"");
        assert!(script.ends_with("exec '/bin/hamflow' worker --remote-tasks='-oX' --index \"$I\"\n"), "{script}");
        assert!(script.contains(r"export HAMFLOW_TASKS_URL='/remote' HAMFLOW_TASKS_KEY='a'\''b'"), "{script}");
    }
}
