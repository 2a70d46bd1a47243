//! `hamflow init`: a pipeline to begin with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::CliError;
use crate::fs::{self, Durability, Symlinks};
use crate::ui;

/// Arguments of `hamflow init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The folder of the new project
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Which pipeline to write
    #[arg(long, value_enum, default_value_t = Template::Ham10000)]
    template: Template,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Template {
    /// From HAM10000's metadata and images to a report
    Ham10000,
    /// Two steps that run programs
    Command,
}

const HAM10000: &str = include_str!("../../pipeline.toml");
const COMMAND: &str = include_str!("../../examples/command/pipeline.toml");
const POEM: &str = include_str!("../../examples/command/poem.txt");

const GITIGNORE: &str = ".gitignore";

/// What comes and goes, or is too large.
const IGNORED: &str = "/cache/\n/out/\n/data/\n";

/// Runs the command.
pub fn execute(arguments: &InitArguments) -> Result<u8, CliError> {
    let path = arguments.folder.join("pipeline.toml");
    if path.exists() {
        return Err(CliError::user(format!("`{}` is there already\nhint: name another folder", path.display())));
    }
    if arguments.folder.is_file() {
        return Err(CliError::user(format!("`{}` is a file\nhint: name a folder", arguments.folder.display())));
    }
    fs::create_dir(&arguments.folder)?;
    let mut files = match arguments.template {
        Template::Ham10000 => vec![("pipeline.toml", HAM10000)],
        Template::Command => vec![("pipeline.toml", COMMAND), ("poem.txt", POEM)],
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
                ui::say(&format!("left alone: {}; add `{lines}` to it, which no repository needs", path.display()));
            }
        } else if path.exists() {
            ui::say(&format!("left alone: {}", path.display()));
        } else {
            fs::write(&path, text.as_bytes(), Durability::Relaxed)?;
            ui::say(&format!("written: {}", path.display()));
        }
    }
    ui::say(match arguments.template {
        Template::Ham10000 => {
            "next: `hamflow run --profile demo` (needs no data), or put HAM10000 into `data/` and `hamflow run`"
        }
        Template::Command => "next: `hamflow run`",
    });
    Ok(0)
}
