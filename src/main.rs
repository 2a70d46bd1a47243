//! The `hamflow` program: the engine with the built-in kinds of stage.

use std::process::ExitCode;

#[cfg(feature = "builtin")]
const KINDS: hamflow::config::Kinds = hamflow_stages::registry::KINDS;
#[cfg(not(feature = "builtin"))]
const KINDS: hamflow::config::Kinds = &[];

fn main() -> ExitCode {
    hamflow::cli::main(KINDS)
}
