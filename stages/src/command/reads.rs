//! From what was observed of a program to the files that its key depends on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hamflow_process::{Listed, Observed, State, Use, Watch};
use hamflow_stage_api::{FileStamp, ReadKind, StageContext, StageError, Undeclared, UndeclaredRead};
use serde::Serialize;

use super::CommandParams;
use super::isolated::Isolated;
use crate::json;

/// The file among the side outputs that lists what a program used.
const SIDE_FILE: &str = "reads.json";

/// How many files an error names.
const NAMED: usize = 5;

/// The folders that matter to keys.
pub(super) struct Places {
    project: PathBuf,
    home: Option<PathBuf>,
    tracked: Vec<PathBuf>,
    /// What declared inputs consist of.
    declared: Vec<PathBuf>,
    own: Vec<PathBuf>,
    /// The working folder of an isolated program, which stands for the project.
    isolated: Option<PathBuf>,
}

impl Places {
    /// The folders of a job.
    pub fn of(params: &CommandParams, isolated: Option<&Isolated>, context: &StageContext<'_>) -> Self {
        let job = context.job();
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let inputs = context.inputs().0.values().flatten();
        let declared = inputs.flat_map(|input| match &input.path {
            Some(path) => vec![real(path)],
            None => input.files.iter().map(|file| real(&file.source)).collect(),
        });
        Self {
            project: real(&job.project_dir),
            home: std::env::home_dir().map(|home| real(&home)).filter(|home| home.parent().is_some()),
            tracked: params.track.iter().map(|path| real(&job.project_dir.join(path))).collect(),
            declared: declared.chain(job.params_file.iter().map(|path| real(path))).collect(),
            own: match isolated {
                // The cache is hidden, but for the folders of the job.
                Some(_) => vec![real(&job.output_dir), real(&job.scratch_dir)],
                None => job.own_paths.iter().map(|path| real(path)).collect(),
            },
            isolated: isolated.map(|isolated| real(isolated.folder())),
        }
    }

    /// What to observe.
    pub fn watch(&self) -> Watch {
        let roots = [&self.project].into_iter().chain(&self.home).chain(&self.tracked).chain(&self.isolated);
        let roots = roots.cloned().collect();
        // The results of other stages are in the store or, declared, in the working folder of the job.
        Watch { roots, except: self.own.iter().chain(&self.declared).cloned().collect() }
    }

    /// What an isolated program looked for in its working folder, and would have found in the project.
    fn missing(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(self.isolated.as_deref()?).ok()?;
        self.project.join(below).is_file().then(|| below.to_str().map(str::to_owned))?
    }

    /// Whether a path is in the working folder of an isolated program.
    fn is_isolated(&self, path: &Path) -> bool {
        self.isolated.as_ref().is_some_and(|folder| path.starts_with(folder))
    }

    /// The path as a key has it: relative to the project, below `~`, or absolute. `None` if it is not UTF-8.
    fn name(&self, path: &Path) -> Option<String> {
        let below = |folder: &Path| path.strip_prefix(folder).ok()?.to_str();
        if path == self.project {
            return Some(".".to_owned());
        }
        if let Some(relative) = below(&self.project) {
            return Some(relative.to_owned());
        }
        let is_tracked = self.tracked.iter().any(|folder| path.starts_with(folder));
        match self.home.as_deref().and_then(below).filter(|_| !is_tracked) {
            Some(relative) => Some(format!("~/{relative}")),
            None => path.to_str().map(str::to_owned),
        }
    }

    /// Whether every program may pass through a folder: those above the project and the declared inputs.
    fn is_above(&self, folder: &Path) -> bool {
        let inner = [&self.project].into_iter().chain(&self.home).chain(&self.tracked).chain(&self.declared);
        inner.chain(&self.own).any(|path| path.starts_with(folder))
    }
}

/// What a program used, for `hamflow log --reads`.
#[derive(Serialize)]
struct Used<'a> {
    /// The files that are part of the key: what matters of each.
    tracked: BTreeMap<&'a str, ReadKind>,
    /// The programs that were executed.
    programs: Vec<&'a Path>,
    /// The other files that were read.
    others: Vec<&'a Path>,
}

/// Reports the files that a program used and no input declares. An error if the stage allows none.
pub(super) fn report(
    observed: &Observed,
    params: &CommandParams,
    places: &Places,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    let mut reads = Vec::new();
    let mut hidden = Vec::new();
    for (path, used) in &observed.uses {
        if places.is_isolated(path) {
            hidden.extend(places.missing(path).filter(|_| used.before == State::Absent && !used.is_written));
            continue;
        }
        let Some(kind) = kind(path, used, places) else { continue };
        match places.name(path) {
            Some(name) => reads.push(undeclared(name, kind, used, params)),
            None => {
                let shown = path.display();
                context.warn(format!("the program reads `{shown}`, whose name is not UTF-8; no key can name it"));
            }
        }
    }
    let used = Used {
        tracked: reads.iter().map(|read| (&read.path[..], read.kind)).collect(),
        programs: observed.programs.iter().map(PathBuf::as_path).collect(),
        // Programs look for libraries in many places.
        others: observed.others.iter().map(PathBuf::as_path).filter(|path| path.is_file()).collect(),
    };
    let side = context.side_dir().join(SIDE_FILE);
    std::fs::write(&side, json::write(&used)?).map_err(|source| StageError::io("write", &side, &source))?;
    refuse(&reads, hidden, params)?;
    let reads = Some(reads).filter(|_| observed.problem.is_none());
    context.undeclared(reads, params.undeclared == Undeclared::Warn, observed.problem.clone());
    Ok(())
}

/// What a program depends on; `None` if it does not depend on the path.
fn kind(path: &Path, used: &Use, places: &Places) -> Option<ReadKind> {
    // What the program made itself is no input.
    if used.is_written_first || (used.before == State::Absent && used.is_written) {
        return None;
    }
    match (&used.before, used.listed) {
        (State::Other, _) => None,
        (State::Folder, Some(Listed::All)) => Some(ReadKind::Names),
        (State::Folder, Some(Listed::Modules)) => Some(ReadKind::Modules),
        (State::Folder, None) if places.is_above(path) => None,
        (State::File(_) | State::Absent, _) if used.is_opened => Some(ReadKind::Content),
        _ => Some(ReadKind::Presence),
    }
}

fn undeclared(path: String, kind: ReadKind, used: &Use, params: &CommandParams) -> UndeclaredRead {
    let stamp = match used.before {
        State::File(stamp) if kind == ReadKind::Content && !used.is_written => {
            let [seconds, nanoseconds] = stamp.modified;
            let modified = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
            Some(FileStamp { size: stamp.size, modified, inode: stamp.inode })
        }
        _ => None,
    };
    let is_named = params.run.texts().iter().any(|text| names(text, &path));
    UndeclaredRead { path, kind, stamp, was_absent: used.before == State::Absent, is_named }
}

/// Whether a command has a path as a word.
fn names(text: &str, path: &str) -> bool {
    let is_word_end = |character: char| character.is_whitespace() || "\"'=;|&<>()".contains(character);
    text.split(is_word_end).any(|word| word == path || word.strip_prefix("./") == Some(path))
}

/// Fails if a program read what it must not.
fn refuse(reads: &[UndeclaredRead], hidden: Vec<String>, params: &CommandParams) -> Result<(), StageError> {
    let is_read = |read: &&UndeclaredRead| !read.was_absent && read.kind != ReadKind::Presence;
    if let Some(read) = reads.iter().filter(is_read).find(|read| read.path.starts_with("out/")) {
        let stage = read.path.split('/').nth(1).unwrap_or_default();
        let message = format!("the program reads `{}`, an output of stage `{stage}`, without a declaration", read.path);
        let hint = format!(
            "declare it, so that `{stage}` runs first: `inputs = {{ x = \"{stage}\" }}`, and use `{{inputs.x}}` in `run`"
        );
        return Err(StageError::input(message).hint(hint));
    }
    let mut undeclared: Vec<&str> = reads.iter().filter(is_read).map(|read| &read.path[..]).collect();
    undeclared.extend(hidden.iter().map(|path| &path[..]));
    let is_refused = params.isolate || params.undeclared == Undeclared::Error;
    let Some(first) = undeclared.first().filter(|_| is_refused) else { return Ok(()) };
    let shown: Vec<String> = undeclared.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    let more = if undeclared.len() > NAMED { format!(" and {} more", undeclared.len() - NAMED) } else { String::new() };
    let why = if params.isolate { ", so `isolate` hides it" } else { "" };
    let message = format!("the program reads {}{more}, but no input declares it{why}", shown.join(", "));
    let path = match (first.strip_prefix("~/"), std::env::home_dir()) {
        (Some(below), Some(home)) => home.join(below).display().to_string(),
        _ => (*first).to_owned(),
    };
    let hint = format!("write `x = \"{path}\"` under `[inputs]` and `inputs = {{ x = \"inputs.x\" }}` in the stage");
    Err(StageError::input(message).hint(hint))
}
