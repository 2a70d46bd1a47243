//! `hamflow schema`: the JSON Schema of `pipeline.toml`.

use super::CliError;
use crate::config::{Kinds, json_schema};
use crate::ui;

/// Runs the command.
pub fn execute(kinds: Kinds) -> Result<u8, CliError> {
    ui::data(&serde_json::to_string_pretty(&json_schema(kinds)).expect("a schema has only string keys"));
    Ok(0)
}
