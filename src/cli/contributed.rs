//! Commands that come with the kinds: their arguments, and what the engine does for them.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, value_parser};
use hamflow_stage_api::{
    Arguments, CommandError, Form, Host, Input, InputFile, Output, StageError, Subcommand, SubcommandSpec, Wanted,
};

use super::{CliError, Common, project, status};
use crate::config::Kinds;
use crate::digest::{self, Digest, FileDigest};
use crate::fs::{self, Durability, disk_error};
use crate::plan::Planner;
use crate::threads;
use crate::ui::{self, Style};

/// The grammar of a command: its positional arguments, the options that select a pipeline, its own options.
pub fn grammar(spec: &SubcommandSpec) -> clap::Command {
    let is_positional = |form: Form| matches!(form, Form::Text { .. } | Form::Paths { .. });
    let (positional, options): (Vec<_>, Vec<_>) =
        spec.arguments.iter().partition(|argument| is_positional(argument.form));
    let argument = |argument: &hamflow_stage_api::Argument| {
        let arg = Arg::new(argument.name).help(argument.doc);
        match argument.form {
            Form::Text { placeholder } => arg.value_name(placeholder).required(true),
            Form::Paths { placeholder } => {
                let arg = arg.value_name(placeholder).required(true).num_args(1..).action(ArgAction::Append);
                arg.value_parser(value_parser!(PathBuf))
            }
            Form::PathOption { placeholder } => {
                arg.long(argument.name).value_name(placeholder).value_parser(value_parser!(PathBuf))
            }
            Form::Flag => arg.long(argument.name).action(ArgAction::SetTrue),
        }
    };
    let command = clap::Command::new(spec.name).args(positional.into_iter().map(argument));
    // `augment_args` sets the summary of `Common`, which the command's own replaces.
    Common::augment_args(command).about(spec.summary).args(options.into_iter().map(argument))
}

/// The arguments of an invocation that [`grammar`] accepted.
fn arguments(spec: &SubcommandSpec, matches: &ArgMatches) -> Arguments {
    let mut arguments = Arguments::default();
    for argument in &spec.arguments {
        let name = argument.name;
        match argument.form {
            Form::Text { .. } => {
                let text = matches.get_one::<String>(name).cloned();
                arguments.set_text(name, text.expect("the argument is required"));
            }
            Form::Paths { .. } | Form::PathOption { .. } => {
                let paths = matches.get_many::<PathBuf>(name).into_iter().flatten();
                arguments.set_paths(name, paths.cloned().collect());
            }
            Form::Flag => arguments.set_flag(name, matches.get_flag(name)),
        }
    }
    arguments
}

/// Runs the command.
pub fn execute(command: &dyn Subcommand, matches: &ArgMatches, kinds: Kinds) -> Result<u8, CliError> {
    let common = Common::from_arg_matches(matches).map_err(|error| CliError::bug(error.to_string()))?;
    Ok(command.run(&arguments(&command.spec(), matches), &Engine { common: &common, kinds })?)
}

/// The engine as a command sees it.
struct Engine<'a> {
    common: &'a Common,
    kinds: Kinds,
}

impl Host for Engine<'_> {
    fn artifact(&self, named: &str, wanted: Wanted) -> Result<Input, CommandError> {
        let folder = Path::new(named);
        let found = if folder.is_dir() { in_folder(folder) } else { self.of_stage(named, wanted) };
        Ok(found?)
    }

    fn threads(&self) -> usize {
        threads::available()
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, CommandError> {
        // An unreadable directory of the user is not a failure of hamflow's own disk.
        let listed = fs::list_with_skipped(folder, threads::available());
        let (files, skipped) = listed.map_err(|error| StageError::input(error.to_string()))?;
        let label = Style::of(&std::io::stderr()).label("note");
        for entry in skipped {
            ui::say(&format!("{label} `{}`: skipped {entry}", folder.display()));
        }
        Ok(files.into_iter().map(|listed| listed.path).collect())
    }

    fn create_folder(&self, folder: &Path) -> Result<(), CommandError> {
        Ok(fs::create_dir(folder).map_err(CliError::from)?)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
        Ok(fs::write(path, bytes, Durability::Relaxed).map_err(|error| disk_error(&error))?)
    }

    fn print(&self, line: &str) {
        ui::data(line);
    }

    fn report(&self, error: StageError) {
        ui::say(&CliError::from(error).to_string());
    }
}

impl Engine<'_> {
    /// The up-to-date artifact of the named stage.
    fn of_stage(&self, named: &str, wanted: Wanted) -> Result<Input, CliError> {
        let Wanted { artifact_type, noun, verb } = wanted;
        let common = self.common;
        let nothing = || format!("`{named}` is neither a directory nor a stage that produces a {noun}");
        if common.file.is_none() && !project::pipeline_file(common).exists() {
            // A mistyped directory must not be reported as a missing pipeline file.
            return Err(CliError::user(nothing()));
        }
        let opened = project::open(common, self.kinds)?;
        let is_wanted = |output: &Output| output.artifact_type == artifact_type;
        let makers = opened.graph.pipeline.stages.iter().filter(|stage| stage.outputs.iter().any(is_wanted));
        if !makers.clone().any(|stage| stage.name == named) {
            let names: Vec<String> = makers.map(|stage| format!("`{}`", stage.name)).collect();
            let hint = (!names.is_empty()).then(|| format!("stages with a {noun}: {}", names.join(", ")));
            return Err(CliError::user(nothing()).with_hint(hint));
        }
        let targets = opened.graph.select(&[named.to_owned()])?;
        let mut planner = Planner::new(&opened.graph, &opened.store, &opened.lock, true);
        let (_, results) = status::verdicts(&mut planner, &targets);
        let result = targets.first().and_then(|id| results.get(id)).ok_or_else(|| {
            let hint = project::other_options(&opened, common).unwrap_or_else(|| {
                format!(
                    "{verb} it with `hamflow run {named}` and the same options; `hamflow why {named}` shows what changed"
                )
            });
            CliError::user(format!("the {noun} of `{named}` is not up to date")).hint(hint)
        })?;
        let output = result.outputs.artifacts().iter().find(|output| output.type_name == artifact_type.name());
        let output = output
            .ok_or_else(|| CliError::bug(format!("internal error: the result has no {noun} among its outputs")))?;
        let listed = opened.store.files(result).unwrap_or_default();
        let files = listed.iter().filter_map(|(path, digest)| {
            let path = path.relative_to(&output.path)?.to_string();
            let source = opened.store.content.path(digest);
            Some(InputFile { root: 0, path, digest: FileDigest::Known(*digest), source })
        });
        Ok(input(named.to_owned(), output.digest, files.collect()))
    }
}

/// The files of a directory as an artifact.
fn in_folder(folder: &Path) -> Result<Input, CliError> {
    let mut files = Vec::new();
    for listed in fs::list(folder, 1).map_err(|error| CliError::user(error.to_string()))? {
        let source = folder.join(&listed.path);
        let digest = digest::of_file(&source).map_err(fs::at("read", &source))?;
        files.push(InputFile { root: 0, path: listed.path, digest: digest.into(), source });
    }
    let listing: String = files.iter().map(|file| format!("{} {}\n", file.path, file.digest)).collect();
    Ok(input(folder.display().to_string(), Digest::of(listing.as_bytes()), files))
}

fn input(name: String, digest: Digest, files: Vec<InputFile>) -> Input {
    Input { name, is_artifact: true, labels: Vec::new(), digest: digest.into(), files, folder: true, path: None }
}
