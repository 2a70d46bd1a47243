//! The commands of Slurm: `sbatch`, `squeue`, `scancel` and `scontrol`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hamflow_stage_api::{StageError, Symlinks, read_regular};

use crate::config::ExecutorOptions;
use crate::exec::executor::Placement;
use crate::sys;

/// The largest index of an array if Slurm does not say it.
const DEFAULT_ARRAY: usize = 1000;

/// What is submitted.
#[derive(Debug)]
pub struct Submission {
    /// The name of the job.
    pub name: String,
    /// The cores of each task.
    pub threads: usize,
    /// What the tasks ask for.
    pub placement: Placement,
    /// The folder of the tasks.
    pub folder: PathBuf,
}

/// The state of a task as Slurm has it, and the reason why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `PENDING`, `RUNNING`, …
    pub name: String,
    /// The reason in parentheses or the nodes.
    pub reason: String,
}

/// Slurm, with the settings of an executor.
pub struct Slurmctl<'a> {
    options: &'a ExecutorOptions,
}

impl<'a> Slurmctl<'a> {
    /// Asks nothing yet.
    pub fn new(options: &'a ExecutorOptions) -> Self {
        Self { options }
    }

    /// The largest number of tasks in an array.
    pub fn max_array_size(&self) -> Result<usize, StageError> {
        let output = run(Command::new("scontrol").args(["show", "config"]), None)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let size =
            text.lines().find_map(|line| line.strip_prefix("MaxArraySize")?.split('=').nth(1)?.trim().parse().ok());
        // The size is one more than the largest index.
        Ok(size.map_or(DEFAULT_ARRAY, |size: usize| size.saturating_sub(1)).max(1))
    }

    /// Submits tasks of a folder as an array; returns its number.
    pub fn submit(&self, submission: &Submission, tasks: &[usize]) -> Result<String, StageError> {
        let Submission { name, threads, placement, folder } = submission;
        let ExecutorOptions { partition, account, qos, constraint, arguments, .. } = self.options;
        let indices: Vec<String> = tasks.iter().map(usize::to_string).collect();
        let mut command = Command::new("sbatch");
        command.args(["--parsable", "--no-requeue", "--export=ALL", "--nodes=1", "--ntasks=1"]);
        let log = folder.join("output-%a.txt");
        let mut option = |name: &str, value: &str| {
            command.arg(format!("--{name}={value}"));
        };
        option("job-name", name);
        option("array", &ranges(&indices));
        option("cpus-per-task", &threads.to_string());
        option("output", &log.display().to_string());
        option("chdir", &folder.display().to_string());
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
        command.args(arguments);
        let script = script(submission)?;
        let output = run(&mut command, Some(&script))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // `NUMBER` or `NUMBER;CLUSTER`.
        let number = text.trim().split(';').next().unwrap_or_default().to_owned();
        match number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() {
            true => Ok(number),
            false => Err(StageError::failed(format!("`sbatch` printed `{}` instead of a number", text.trim()))),
        }
    }

    /// The states of all tasks of arrays, by `ARRAY_INDEX`. `None` if Slurm does not answer.
    pub fn states(&self, arrays: &[String]) -> Option<BTreeMap<String, State>> {
        let mut command = Command::new("squeue");
        command.args([
            "--noheader",
            "--array",
            "--states=all",
            "--format=%i|%T|%r",
            &format!("--jobs={}", arrays.join(",")),
        ]);
        let output = command.stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // Slurm forgets arrays that ended long ago, and says so if it knows none of them.
        if !output.status.success() && !said.contains("Invalid job id") {
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let state = |line: &str| {
            let mut fields = line.split('|').map(|field| field.trim().to_owned());
            Some((fields.next()?, State { name: fields.next()?, reason: fields.next().unwrap_or_default() }))
        };
        Some(text.lines().filter_map(state).collect())
    }

    /// Cancels arrays.
    pub fn cancel(&self, arrays: &[String]) {
        // A task that has ended in between is none that can be cancelled.
        let _ = Command::new("scancel").arg("--quiet").args(arrays).stdin(Stdio::null()).output();
    }
}

/// The file in the folder of an executor that has the numbers of all its arrays.
const ARRAYS: &str = "arrays";

/// Remembers an array of a batch, so that a later run can cancel it if this one is killed.
pub fn remember(batch: &Path, array: &str) {
    let written = sys::append_private(&batch.with_file_name(ARRAYS)).and_then(|mut file| writeln!(file, "{array}"));
    // Then it would go on without use, which wastes time on the cluster and nothing else.
    let _ = written;
}

/// The arrays that were remembered in the folder of an executor.
pub fn remembered(folder: &Path) -> Vec<String> {
    let text = read_regular(&folder.join(ARRAYS), Symlinks::Refuse).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_number = |line: &&str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    text.lines().filter(is_number).map(str::to_owned).collect()
}

/// The script of a task.
fn script(submission: &Submission) -> Result<String, StageError> {
    // A path that is there on the nodes, too, unlike one below `/proc`.
    let program = std::env::current_exe()
        .map_err(|source| StageError::failed(format!("hamflow does not find itself: {source}")))?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let (program, folder) = (program.display().to_string(), submission.folder.display().to_string());
    let threads = submission.threads;
    Ok(format!(
        "#!/bin/sh\nexport RAYON_NUM_THREADS={threads} POLARS_MAX_THREADS={threads}\n\
         exec {} worker --tasks {} --index \"$SLURM_ARRAY_TASK_ID\"\n",
        quoted(&program),
        quoted(&folder)
    ))
}

/// Runs a command with a text as its input. An error has what it said.
fn run(command: &mut Command, input: Option<&str>) -> Result<Output, StageError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let missing = |source: std::io::Error| {
        StageError::input(format!("cannot start `{name}`: {source}"))
            .hint("run hamflow where Slurm is installed, or on this machine with `--executor local`")
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
    Err(StageError::input(format!("`{name}` failed: {said}"))
        .hint("`[executors]` and `resources` say what is asked of Slurm; `--executor local` runs on this machine"))
}

/// Indices as Slurm takes them: `0-3,7`.
fn ranges(indices: &[String]) -> String {
    let numbers: Vec<usize> = indices.iter().filter_map(|index| index.parse().ok()).collect();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
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
        let text = |numbers: &[usize]| ranges(&numbers.iter().map(usize::to_string).collect::<Vec<_>>());
        assert_eq!(text(&[0, 1, 2, 3, 7]), "0-3,7");
        assert_eq!(text(&[4]), "4");
        assert_eq!(text(&[1, 3, 5]), "1,3,5");
        assert_eq!(limit(Duration::from_secs(5405)), "90:05");
    }
}
