//! Slurm: `sbatch`, `squeue`, `scancel` and `scontrol`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hamflow_stage_api::StageError;

use super::system::{BatchSystem, Meaning, State, States, Submission, run};
use crate::config::ExecutorOptions;

/// The largest index of an array if Slurm does not say it.
const DEFAULT_ARRAY: usize = 1000;

/// How often a submission is tried if Slurm does not answer.
const TRIES: usize = 4;

/// The pause before the next try.
const PAUSE: Duration = Duration::from_secs(5);

/// How many seconds before its time is over a task is asked to end.
const NOTICE: u64 = 90;

/// Slurm, with the settings of an executor.
pub struct Slurm {
    options: ExecutorOptions,
}

impl Slurm {
    /// Asks nothing yet.
    pub fn new(options: &ExecutorOptions) -> Self {
        Self { options: options.clone() }
    }

    /// The arguments of `sbatch`.
    fn arguments(&self, submission: &Submission, tasks: &[usize]) -> Vec<String> {
        let Submission { name, threads, placement, folder, is_probe, avoided, .. } = submission;
        let ExecutorOptions { partition, account, qos, constraint, arguments, .. } = &self.options;
        let fixed = ["--parsable", "--no-requeue", "--export=ALL", "--nodes=1", "--ntasks=1"];
        let mut all: Vec<String> = fixed.iter().map(|&argument| argument.to_owned()).collect();
        let mut option = |name: &str, value: &str| all.push(format!("--{name}={value}"));
        option("job-name", name);
        option("array", &ranges(tasks));
        option("cpus-per-task", &threads.to_string());
        option("output", &submission.log("%a").display().to_string());
        // A node that does not have the folder could not even start a probe there.
        let place = if *is_probe || submission.remote.is_some() { Path::new("/") } else { folder };
        option("chdir", &place.display().to_string());
        // The worker itself, which the script becomes, ends after its next checkpoint.
        option("signal", &format!("B:USR2@{NOTICE}"));
        if let Some(memory) = placement.memory {
            option("mem", &format!("{}M", memory.div_ceil(1 << 20)));
        }
        if let Some(time) = placement.requests.time {
            option("time", &limit(time));
        }
        if let Some(gpus) = placement.requests.gpus.filter(|gpus| *gpus > 0) {
            option("gpus", &gpus.to_string());
        }
        for (name, value) in [("account", account), ("qos", qos), ("constraint", constraint)] {
            value.iter().for_each(|value| option(name, value));
        }
        if let Some(partition) = placement.requests.partition.as_ref().or(partition.as_ref()) {
            option("partition", partition);
        }
        if !avoided.is_empty() {
            option("exclude", &avoided.join(","));
        }
        all.extend(arguments.iter().cloned());
        all
    }
}

/// The array with a name, if Slurm has one: a submission that failed may have been accepted. One that Slurm accepts only to fail it, such as
/// with constraints that no node meets, does not count.
fn array_named(name: &str) -> Option<String> {
    let arguments = ["--noheader", "--states=all", "--format=%F|%T", &format!("--name={name}")];
    let output = Command::new("squeue").args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_good = |(id, state): &(&str, &str)| is_number(id.trim()) && state.trim() != "FAILED";
    let (id, _) = text.lines().filter_map(|line| line.split_once('|')).find(is_good)?;
    Some(id.trim().to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether Slurm was only busy or away for a moment.
fn is_passing(error: &StageError) -> bool {
    ["timed out", "Unable to contact", "temporarily", "Connection refused"]
        .iter()
        .any(|said| error.message.contains(said))
}

/// `0-3,7` of each array among the ids of tasks.
fn by_array(ids: &[String]) -> BTreeMap<&str, Vec<usize>> {
    let mut arrays: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (array, index) in ids.iter().filter_map(|id| id.split_once('_')) {
        arrays.entry(array).or_default().extend(index.parse::<usize>().ok());
    }
    arrays
}

impl BatchSystem for Slurm {
    fn array_limit(&self) -> Result<usize, StageError> {
        let output = run(Command::new("scontrol").args(["show", "config"]), None)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let size =
            text.lines().find_map(|line| line.strip_prefix("MaxArraySize")?.split('=').nth(1)?.trim().parse().ok());
        // The size is one more than the largest index.
        Ok(size.map_or(DEFAULT_ARRAY, |size: usize| size.saturating_sub(1)).max(1))
    }

    fn submit(&self, submission: &Submission, tasks: &[usize]) -> Result<Vec<String>, StageError> {
        let script = submission.script("\"$SLURM_ARRAY_TASK_ID\"");
        let arguments = self.arguments(submission, tasks);
        let mut tries = 0;
        let array = loop {
            tries += 1;
            match run(Command::new("sbatch").args(&arguments), Some(&script)) {
                Ok(output) => {
                    // `NUMBER` or `NUMBER;CLUSTER`.
                    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    let number = text.split(';').next().unwrap_or_default().to_owned();
                    match is_number(&number) {
                        true => break number,
                        false => {
                            return Err(StageError::failed(format!("`sbatch` printed `{text}` instead of a number")));
                        }
                    }
                }
                Err(error) => match array_named(&submission.name) {
                    Some(array) => break array,
                    None if tries < TRIES && is_passing(&error) => std::thread::sleep(PAUSE),
                    None => return Err(error),
                },
            }
        };
        Ok(tasks.iter().map(|task| format!("{array}_{task}")).collect())
    }

    fn states(&self, ids: &[String]) -> Option<States> {
        let arrays: Vec<&str> = by_array(ids).into_keys().collect();
        let mut command = Command::new("squeue");
        command.args(["--noheader", "--array", "--states=all", "--format=%i|%T|%r"]);
        let output = command.arg(format!("--jobs={}", arrays.join(","))).stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // Slurm forgets arrays that ended long ago, and says so if it knows none of them.
        if !output.status.success() && !said.contains("Invalid job id") {
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let state = |line: &str| {
            let mut fields = line.split('|').map(|field| field.trim().to_owned());
            let (id, name, reason) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
            Some((id, State { name, reason: if reason == "None" { String::new() } else { reason } }))
        };
        Some(text.lines().filter_map(state).collect())
    }

    fn meaning(&self, state: &State) -> Meaning {
        match &state.name[..] {
            "OUT_OF_MEMORY" => Meaning::OutOfMemory,
            "TIMEOUT" | "DEADLINE" => Meaning::TimedOut,
            "NODE_FAIL" | "BOOT_FAIL" => Meaning::NodeFailed,
            "PREEMPTED" | "CANCELLED" | "REVOKED" | "FAILED" | "COMPLETED" => Meaning::Ended,
            _ => Meaning::Present,
        }
    }

    fn cancel(&self, ids: &[String]) -> Result<(), StageError> {
        let tasks = by_array(ids).into_iter().map(|(array, tasks)| format!("{array}_[{}]", ranges(&tasks)));
        match run(Command::new("scancel").arg("--quiet").args(tasks), None) {
            // It may have ended in between.
            Err(error) if !error.message.contains("Invalid job id") => Err(error),
            _ => Ok(()),
        }
    }

    fn exit_status(&self, id: &str) -> Option<i32> {
        let output = Command::new("scontrol").args(["--oneliner", "show", "job", id]).stdin(Stdio::null()).output();
        let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
        text.split_whitespace().find_map(|field| field.strip_prefix("ExitCode=")?.split(':').next()?.parse().ok())
    }
}

/// Indices as Slurm takes them: `0-3,7`.
fn ranges(indices: &[usize]) -> String {
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// A time limit in minutes and seconds.
fn limit(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_times_are_written_as_slurm_reads_them() {
        assert_eq!(ranges(&[0, 1, 7, 2, 3]), "0-3,7");
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(ranges(&[1, 3, 5]), "1,3,5");
        assert_eq!(limit(Duration::from_secs(5405)), "90:05");
        let ids = ["7_0", "7_1", "12_4"].map(str::to_owned);
        assert_eq!(by_array(&ids), BTreeMap::from([("12", vec![4]), ("7", vec![0, 1])]));
    }

    #[test]
    fn an_unknown_state_means_that_a_task_is_still_there() {
        let slurm = Slurm::new(&toml::from_str("kind = \"slurm\"").unwrap());
        let meaning = |name: &str| slurm.meaning(&State { name: name.to_owned(), reason: String::new() });
        for name in ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUE_HOLD", "NEW_STATE"] {
            assert_eq!(meaning(name), Meaning::Present, "{name}");
        }
        assert_eq!(meaning("OUT_OF_MEMORY"), Meaning::OutOfMemory);
        assert_eq!(meaning("NODE_FAIL"), Meaning::NodeFailed);
        assert_eq!(meaning("PREEMPTED"), Meaning::Ended);
    }
}
