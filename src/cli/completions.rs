//! `hamflow completions`: generates a shell completion script.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, CliError};
use crate::ui;

/// Arguments of `hamflow completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell to generate the script for
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn execute(arguments: &CompletionsArguments) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "hamflow", &mut script);
    ui::data(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}
