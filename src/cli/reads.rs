//! `hamflow log --reads`: the files that a program used.

use std::collections::BTreeMap;
use std::path::Path;

use hamflow_stage_api::ReadKind;
use serde::Deserialize;

use super::CliError;
use crate::fs::{self, Symlinks};
use crate::ui::{self, plural};

/// The side output of a program that was observed.
const FILE: &str = "reads.json";

/// How many files of a group are listed.
const SHOWN: usize = 20;

/// What a program used.
#[derive(Debug, Deserialize)]
struct Used {
    tracked: BTreeMap<String, ReadKind>,
    programs: Vec<String>,
    others: Vec<String>,
}

/// Prints what the program of a stage used in the most recent of these runs in which it ran.
pub fn show(runs: &Path, candidates: &[String], stage: &str, json: bool) -> Result<(), CliError> {
    let read = |run: &String| fs::read_regular(&runs.join(run).join(stage).join(FILE), Symlinks::Refuse).ok();
    let found = candidates.iter().find_map(|run| Some((run, read(run)?)));
    let Some((run, bytes)) = found else {
        let hint = "only stages of the kind `command` are observed, on Linux, when they run; `undeclared = \"off\"` switches it off";
        return Err(CliError::user(format!("no recorded run observed a program of stage `{stage}`")).hint(hint));
    };
    let used: Used = serde_json::from_slice(&bytes)
        .map_err(|error| CliError::user(format!("the record of run `{run}` is damaged: {error}")))?;
    if json {
        ui::data(String::from_utf8_lossy(&bytes).trim_end());
        return Ok(());
    }
    let tracked: Vec<String> = used.tracked.iter().map(|(path, kind)| format!("{:<24}{path}", words(*kind))).collect();
    group("files that count as inputs, although they are not declared", &tracked, usize::MAX);
    group("programs", &used.programs, SHOWN);
    let (libraries, others) = by_library(&used.others);
    let library = |(folder, count): (String, usize)| format!("{folder}  ({})", plural(count, "file"));
    group("libraries", &libraries.into_iter().map(library).collect::<Vec<_>>(), usize::MAX);
    group("other files", &others, SHOWN);
    Ok(())
}

/// What a program did with a file.
fn words(kind: ReadKind) -> &'static str {
    match kind {
        ReadKind::Content => "read",
        ReadKind::Names => "listed",
        ReadKind::Modules => "searched for modules",
        ReadKind::Presence => "looked for",
    }
}

fn group(title: &str, lines: &[String], shown: usize) {
    if lines.is_empty() {
        return;
    }
    ui::data(title);
    for line in lines.iter().take(shown) {
        ui::data(&format!("  {line}"));
    }
    if lines.len() > shown {
        ui::data(&format!("  … and {} more (`--json` lists all)", lines.len() - shown));
    }
}

/// The numbers of files by library, and the files that belong to none.
fn by_library(files: &[String]) -> (BTreeMap<String, usize>, Vec<String>) {
    let (mut libraries, mut others) = (BTreeMap::new(), Vec::new());
    for file in files {
        match library(file) {
            Some(library) => *libraries.entry(library).or_default() += 1,
            None => others.push(file.clone()),
        }
    }
    (libraries, others)
}

/// The folder of the library that a file belongs to: a package of Python or Node.js, the library of a Python, a folder of shared objects.
fn library(file: &str) -> Option<String> {
    let steps: Vec<&str> = file.split('/').collect();
    let last = steps.len() - 1;
    let packages = steps.iter().rposition(|step| ["site-packages", "dist-packages", "node_modules"].contains(step));
    if let Some(place) = packages.filter(|place| place + 1 < last) {
        return Some(steps[..=place + 1].join("/"));
    }
    let python = steps[..last].iter().position(|step| {
        step.strip_prefix("python").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    if let Some(place) = packages.or(python) {
        return Some(steps[..=place].join("/"));
    }
    let is_shared = steps[last].ends_with(".so") || steps[last].contains(".so.");
    is_shared.then(|| steps[..last].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_grouped_by_library() {
        let files = [
            "/usr/lib/python3.11/json/__init__.py",
            "/usr/lib/python3.11/re.py",
            "/opt/env/lib/python3.11/site-packages/numpy/core/x.so",
            "/opt/env/lib/python3.11/site-packages/six.py",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/etc/hosts",
            "/work/node_modules/left-pad/index.js",
        ];
        let (libraries, others) = by_library(&files.map(str::to_owned));
        let expected = [
            ("/opt/env/lib/python3.11/site-packages", 1),
            ("/opt/env/lib/python3.11/site-packages/numpy", 1),
            ("/usr/lib/python3.11", 2),
            ("/usr/lib/x86_64-linux-gnu", 1),
            ("/work/node_modules/left-pad", 1),
        ];
        assert_eq!(libraries, expected.map(|(folder, count)| (folder.to_owned(), count)).into());
        assert_eq!(others, ["/etc/hosts"]);
    }
}
