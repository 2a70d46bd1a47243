//! The `hamflow` program: the engine with the built-in kinds of stage.

use std::process::ExitCode;

use hamflow::cli::Program;

#[cfg(feature = "builtin")]
const PROGRAM: Program =
    Program { kinds: hamflow_stages::registry::KINDS, commands: hamflow_stages::registry::COMMANDS };
#[cfg(not(feature = "builtin"))]
const PROGRAM: Program = Program { kinds: &[], commands: &[] };

fn main() -> ExitCode {
    hamflow::cli::main(PROGRAM)
}
