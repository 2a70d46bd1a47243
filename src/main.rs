//! The `hamflow` program: the engine with the built-in kinds of stage.

use std::process::ExitCode;

use hamflow::cli::Program;

#[cfg(feature = "builtin")]
const PROGRAM: Program = Program {
    kinds: hamflow_stages::registry::KINDS,
    commands: hamflow_stages::registry::COMMANDS,
    detect: Some(hamflow_stages::detect::detect),
};
#[cfg(not(feature = "builtin"))]
const PROGRAM: Program = Program { kinds: &[], commands: &[], detect: None };

fn main() -> ExitCode {
    hamflow::cli::main(PROGRAM)
}
