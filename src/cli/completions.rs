//! `hamflow completions`: generates a shell completion script.

use clap::Args;
use clap_complete::Shell;

use super::{CliError, Program, command_line};
use crate::ui;

/// Arguments of `hamflow completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell to generate the script for
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn execute(arguments: &CompletionsArguments, program: Program) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command_line(program), "hamflow", &mut script);
    ui::data(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}
