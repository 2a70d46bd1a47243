//! Any batch system, by the commands that submit, list and cancel its jobs.
//!
//! | placeholder | value |
//! | --- | --- |
//! | `{name}` | the name of the job |
//! | `{script}` | the file to submit |
//! | `{log}` | the file for what the job prints |
//! | `{cpus}`, `{gpus}` | how many |
//! | `{memory_mb}` | megabytes (2²⁰ bytes) of memory; empty if the stage does not say it |
//! | `{seconds}`, `{minutes}` | the time limit; empty if the stage does not say it |
//! | `{partition}` | of the stage or the executor; empty if there is none |
//! | `{ids}` | the numbers of jobs, with spaces between them |

use std::io::Write;
use std::process::Command;

use hamflow_stage_api::StageError;

use super::system::{BatchSystem, Meaning, State, States, Submission, run};
use crate::config::ExecutorOptions;
use crate::sys;

/// The commands of an executor.
pub struct Template {
    options: ExecutorOptions,
}

impl Template {
    /// Runs nothing yet.
    pub fn new(options: &ExecutorOptions) -> Self {
        Self { options: options.clone() }
    }
}

/// A command line in which placeholders are replaced by their values, quoted for the shell.
fn filled(line: &str, values: &[(&str, String)]) -> String {
    let quoted = |value: &str| format!("'{}'", value.replace('\'', r"'\''"));
    values.iter().fold(line.to_owned(), |line, (name, value)| {
        // Numbers stand within words such as `-l mem={memory_mb}M`.
        let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.,/".contains(&byte));
        line.replace(&format!("{{{name}}}"), &if is_plain { value.clone() } else { quoted(value) })
    })
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    command
}

impl BatchSystem for Template {
    fn array_limit(&self) -> Result<usize, StageError> {
        // Each task is submitted by itself.
        Ok(usize::MAX)
    }

    fn submit(&self, submission: &Submission, tasks: &[usize]) -> Result<Vec<String>, StageError> {
        let Submission { name, threads, placement, folder, .. } = submission;
        let mut ids = Vec::new();
        for task in tasks {
            let script = folder.join(format!("task-{task}.sh"));
            // It may have the key of the tasks.
            let written = sys::create_private(&script)
                .and_then(|mut file| file.write_all(submission.script(&task.to_string()).as_bytes()));
            written.map_err(|source| StageError::io("write", &script, &source))?;
            let or_empty = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
            let time = placement.requests.time;
            let partition = placement.requests.partition.as_ref().or(self.options.partition.as_ref());
            let values = [
                ("name", format!("{name}-{task}")),
                ("script", script.display().to_string()),
                ("log", submission.log(&task.to_string()).display().to_string()),
                ("cpus", threads.to_string()),
                ("gpus", placement.requests.gpus.unwrap_or(0).to_string()),
                ("memory_mb", or_empty(placement.memory.map(|memory| memory.div_ceil(1 << 20)))),
                ("seconds", or_empty(time.map(|time| time.as_secs()))),
                ("minutes", or_empty(time.map(|time| time.as_secs().div_ceil(60)))),
                ("partition", partition.cloned().unwrap_or_default()),
            ];
            let line = filled(self.options.submit.as_deref().unwrap_or_default(), &values);
            let output = run(&mut shell(&line), None).map_err(|error| of_command("submit", &line, error));
            let output = output.inspect_err(|_| drop(self.cancel(&ids)))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            match number(&text) {
                Some(id) => ids.push(id),
                None => {
                    let _ = self.cancel(&ids);
                    return Err(StageError::input(format!("`submit` printed `{}` instead of a number", text.trim()))
                        .hint(
                            "it must print the number of the job, such as with `qsub -terse` or `bsub … | grep -o`",
                        ));
                }
            }
        }
        Ok(ids)
    }

    fn states(&self, _ids: &[String]) -> Option<States> {
        let output = shell(self.options.list.as_deref()?).output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let state = |line: &str| {
            let mut words = line.split_whitespace();
            let id = number(words.next()?)?;
            let name = words.next().unwrap_or("present").to_owned();
            Some((id, State { name, reason: words.collect::<Vec<_>>().join(" ") }))
        };
        Some(text.lines().filter_map(state).collect())
    }

    fn meaning(&self, _state: &State) -> Meaning {
        // What is listed has not ended.
        Meaning::Present
    }

    fn cancel(&self, ids: &[String]) -> Result<(), StageError> {
        if !ids.is_empty() {
            let line = filled(self.options.cancel.as_deref().unwrap_or_default(), &[]).replace("{ids}", &ids.join(" "));
            let cancelled = run(&mut shell(&line), None).map_err(|error| of_command("cancel", &line, error));
            // A job that has ended in between is none that can be cancelled.
            let is_left = || self.states(ids).is_none_or(|states| ids.iter().any(|id| states.contains_key(id)));
            return cancelled.map(drop).or_else(|error| if is_left() { Err(error) } else { Ok(()) });
        }
        Ok(())
    }
}

/// The first number in a text such as `Your job 123 ("x") has been submitted` or `Job <123> is submitted`, or `123.server`.
fn number(text: &str) -> Option<String> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    Some(text[start..].chars().take_while(char::is_ascii_digit).collect())
}

fn of_command(key: &str, line: &str, error: StageError) -> StageError {
    let message = error.message.replacen("`sh`", &format!("`{key}` (`{line}`)"), 1);
    StageError { message, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_values_that_the_shell_reads_as_one_word() {
        let values = [("script", "/it's".to_owned()), ("log", "/a b".to_owned()), ("memory_mb", "500".to_owned())];
        let line = filled("qsub -l m={memory_mb}M -o {log} {script} {x}", &values);
        assert_eq!(line, r"qsub -l m=500M -o '/a b' '/it'\''s' {x}");
    }

    #[test]
    fn the_number_of_a_job_is_found_in_what_batch_systems_print() {
        assert_eq!(number("Your job 123 (\"x\") has been submitted").as_deref(), Some("123"));
        assert_eq!(number("Job <77> is submitted to queue <normal>.").as_deref(), Some("77"));
        assert_eq!(number("1234.pbs-server\n").as_deref(), Some("1234"));
        assert_eq!(number("error"), None);
    }
}
