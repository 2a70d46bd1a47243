//! `hamflow kinds`: the reference of the kinds of stage, generated from their specifications.

use clap::Args;
use hamflow_stage_api::{Access, AnyKind};
use serde_json::{Value, json};

use super::CliError;
use crate::config::{Kinds, of_every_stage};
use crate::ui;

/// Arguments of `hamflow kinds`.
#[derive(Debug, Args)]
pub struct KindsArguments {
    /// The kind to describe [default: list all kinds]
    kind: Option<String>,
}

/// Runs the command.
pub fn execute(arguments: &KindsArguments, kinds: Kinds) -> Result<u8, CliError> {
    let Some(name) = &arguments.kind else {
        for kind in kinds {
            let spec = kind.spec();
            ui::data(&format!("{:<12} {}", spec.name, spec.summary));
        }
        return Ok(0);
    };
    let names: Vec<&str> = kinds.iter().map(|kind| kind.spec().name).collect();
    let found = kinds.iter().find(|kind| kind.spec().name == name);
    let kind = found.ok_or_else(|| {
        CliError::user(format!("unknown kind `{name}`")).hint(format!("available kinds: {}", names.join(", ")))
    })?;
    describe(*kind);
    Ok(0)
}

fn describe(kind: &dyn AnyKind) {
    let spec = kind.spec();
    ui::data(&format!("{} (revision {}): {}", spec.name, spec.revision, spec.summary));
    ui::data("\ninputs");
    for port in &spec.ports {
        let mut types: Vec<&str> = port.accepts.iter().map(|accepted| accepted.name()).collect();
        if port.external {
            types.push("a declared input");
        }
        let mut notes = Vec::new();
        match port.unless {
            Some(other) => notes.push(format!("in place of `{other}`")),
            None if !port.required => notes.push("optional".to_owned()),
            None => {}
        }
        if port.many {
            notes.push("may be a list".to_owned());
        }
        if port.access == Access::Names {
            notes.push("file names only".to_owned());
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join(", ")) };
        ui::data(&format!("  {:<14} {}{notes}: {}", port.name, types.join(" or "), port.doc));
    }
    if spec.dynamic_ports {
        ui::data("  inputs = { NAME = \"reference\" }: any number of named inputs");
    } else if spec.ports.is_empty() {
        ui::data("  none");
    }
    let outputs = kind.default_outputs();
    if !outputs.is_empty() {
        ui::data("\noutputs");
        for output in outputs {
            ui::data(&format!("  {:<14} {} ({})", output.name, output.artifact_type, output.path));
        }
    }
    ui::data("\nparameters");
    show_parameters(&kind.schema());
    ui::data("\nparameters of every stage");
    show_parameters(&json!({ "properties": of_every_stage(kind) }));
    if spec.dynamic_ports {
        ui::data(
            "\nthe program's environment has only PATH, HOME, TMPDIR, HAMFLOW_PARAMS and the variables in `env` and `secret_env`",
        );
    }
}

fn show_parameters(schema: &Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let text = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let default = property.get("default").map_or(String::new(), |default| format!(" (default {default})"));
        let values = values(property);
        let values = if values.is_empty() { String::new() } else { format!(" One of {}.", values.join(", ")) };
        ui::data(&format!("  {name:<18} {text}{values}{default}"));
    }
}

/// The allowed values of a parameter, if the schema lists them.
fn values(property: &Value) -> Vec<String> {
    let listed = property.get("enum").and_then(Value::as_array).into_iter().flatten().map(Value::to_string);
    let choices = ["oneOf", "anyOf"].into_iter().filter_map(|key| property.get(key)?.as_array()).flatten();
    listed
        .chain(choices.flat_map(|choice| match choice.get("const") {
            Some(value) => vec![value.to_string()],
            None => values(choice),
        }))
        .collect()
}
