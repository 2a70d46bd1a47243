//! `hamflow man`: writes man pages.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, Program, command_line};
use crate::{fs, ui};

/// Arguments of `hamflow man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// The directory for the pages, such as `~/.local/share/man/man1`
    folder: PathBuf,
}

/// Runs the command.
pub fn execute(arguments: &ManArguments, program: Program) -> Result<u8, CliError> {
    fs::create_dir(&arguments.folder)?;
    clap_mangen::generate_to(command_line(program), &arguments.folder).map_err(fs::at("write", &arguments.folder))?;
    ui::say(&format!("wrote the man pages to {}", arguments.folder.display()));
    Ok(0)
}
