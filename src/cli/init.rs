//! `hamflow init`: creates a new project from a template.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use hamflow_stage_api::{DetectedProject, ProjectDetector};

use super::dvc::{self, Converted};
use super::{CliError, Common, project};
use crate::fs::{self, Durability, Symlinks};
use crate::ui;

/// Arguments of `hamflow init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The directory of the new project
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The template to use [default: a pipeline for the dataset in the directory, or else `ham10000`]
    #[arg(long, value_enum)]
    template: Option<Template>,
    /// Convert a pipeline of DVC (a `dvc.yaml`); the new pipeline is beside it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["folder", "template"])]
    from: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Template {
    /// Train and evaluate a classifier on HAM10000
    Ham10000,
    /// A minimal pipeline of two commands
    Command,
}

const HAM10000: &str = include_str!("../../pipeline.toml");
const COMMAND: &str = include_str!("../../examples/command/pipeline.toml");
const POEM: &str = include_str!("../../examples/command/poem.txt");

const GITIGNORE: &str = ".gitignore";

/// Directories that do not belong in a repository.
const IGNORED: &str = "/cache/\n/out/\n/data/\n";

/// Creates `pipeline.toml` from the template of HAM10000 if there is none here or in a parent, so that its demo runs anywhere.
pub fn prepare_demo(common: &Common) -> Result<(), CliError> {
    let is_demo = common.profile.as_deref() == Some("demo");
    if !cfg!(feature = "builtin") || !is_demo || common.file.is_some() {
        return Ok(());
    }
    let path = project::pipeline_file(common);
    if !path.exists() {
        fs::write(&path, HAM10000.as_bytes(), Durability::Relaxed)?;
        ui::say(&format!("created {}, the pipeline of `hamflow init`, to run its demo", path.display()));
    }
    Ok(())
}

/// Runs the command.
pub fn execute(arguments: &InitArguments, detect: Option<ProjectDetector>) -> Result<u8, CliError> {
    if let Some(file) = &arguments.from {
        return from_dvc(file);
    }
    let path = arguments.folder.join("pipeline.toml");
    if path.exists() {
        return Err(CliError::user(format!("`{}` already exists", path.display())).hint("choose another directory"));
    }
    if arguments.folder.is_file() {
        return Err(CliError::user(format!("`{}` is not a directory", arguments.folder.display()))
            .hint("choose another directory"));
    }
    let detected = match (arguments.template, detect) {
        (None, Some(detect)) if arguments.folder.is_dir() => detect(&arguments.folder)?,
        _ => None,
    };
    if let Some(DetectedProject { found, .. }) = &detected {
        ui::say(&format!("found in `{}`:", arguments.folder.display()));
        found.iter().for_each(|line| ui::say(&format!("  {line}")));
    }
    fs::create_dir(&arguments.folder)?;
    let template = arguments.template.unwrap_or(Template::Ham10000);
    let mut files = match (&detected, template) {
        (Some(detected), _) => vec![("pipeline.toml", &detected.pipeline[..])],
        (None, Template::Ham10000) => vec![("pipeline.toml", HAM10000)],
        (None, Template::Command) => vec![("pipeline.toml", COMMAND), ("poem.txt", POEM)],
    };
    files.push((GITIGNORE, IGNORED));
    for (name, text) in files {
        let path = arguments.folder.join(name);
        if name == GITIGNORE
            && let Ok(there) = fs::read_text(&path, Symlinks::Follow)
        {
            let missing: Vec<&str> =
                IGNORED.lines().filter(|line| !there.lines().any(|found| found == *line)).collect();
            if !missing.is_empty() {
                let lines = missing.join("`, `");
                ui::say(&format!("kept existing {}; add `{lines}` to it", path.display()));
            }
        } else if path.exists() {
            ui::say(&format!("kept existing {}", path.display()));
        } else {
            fs::write(&path, text.as_bytes(), Durability::Relaxed)?;
            ui::say(&format!("created {}", path.display()));
        }
    }
    ui::say(match template {
        _ if detected.is_some() => "next: `hamflow run`",
        Template::Ham10000 => {
            "next: `hamflow run --profile demo` (needs no data), or put HAM10000 into `data/` and run `hamflow run`"
        }
        Template::Command => "next: `hamflow run`",
    });
    Ok(0)
}

/// Converts a pipeline of DVC.
fn from_dvc(file: &Path) -> Result<u8, CliError> {
    if !cfg!(feature = "builtin") {
        return Err(CliError::user("this build of hamflow has no kind `command`"));
    }
    if file.file_name().is_none_or(|name| name != "dvc.yaml") {
        return Err(CliError::user(format!("`{}` is not a `dvc.yaml`", file.display()))
            .hint("`--from` converts pipelines of DVC"));
    }
    let path = file.with_file_name("pipeline.toml");
    if path.exists() {
        return Err(CliError::user(format!("`{}` already exists", path.display())).hint("move it away first"));
    }
    let Converted { pipeline, notes } = dvc::convert(file)?;
    fs::write(&path, pipeline.as_bytes(), Durability::Relaxed)?;
    ui::say(&format!("created {}", path.display()));
    notes.iter().for_each(|note| ui::say(&format!("note: {note}")));
    let folder = file.parent().unwrap_or(Path::new("."));
    let ignore = folder.join(GITIGNORE);
    let there = fs::read_text(&ignore, Symlinks::Follow).unwrap_or_default();
    let missing: Vec<&str> =
        ["/cache/", "/out/"].into_iter().filter(|line| !there.lines().any(|it| it == *line)).collect();
    if !missing.is_empty() {
        ui::say(&format!("add `{}` to {}", missing.join("`, `"), ignore.display()));
    }
    ui::say("next: `hamflow run`");
    Ok(0)
}
