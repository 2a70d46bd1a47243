//! The JSON Schema of `pipeline.toml`, so that editors complete and check it.

use hamflow_stage_api::{AnyKind, KindSpec, Port};
use serde_json::{Map, Value, json};

use super::field_schema::{properties_of, schema_of};
use super::overlay::PROFILE_KEYS;
use super::pipeline::Kinds;
use super::sections::{Document, NAME_PATTERN, StageSection};
use super::value::sorted;

/// Describes every valid `pipeline.toml` of a build with these kinds.
///
/// What only a whole pipeline can tell (references, required inputs that a profile adds) is left to `hamflow status`.
pub fn json_schema(kinds: Kinds) -> Value {
    let mut definitions = Map::new();
    for kind in kinds {
        let name = kind.spec().name;
        definitions.insert(definition_name(name), kind_schema(*kind));
    }
    definitions.insert("stage".to_owned(), stage_schema(kinds, true));
    definitions.insert("stage-change".to_owned(), stage_schema(kinds, false));
    let mut schema = schema_of::<Document>();
    let properties = &mut schema["properties"];
    extend(&mut properties["stages"], stages_schema(kinds));
    let mut change = properties.clone();
    if let Value::Object(sections) = &mut change {
        sections.retain(|section, _| PROFILE_KEYS.contains(&&section[..]));
        sections["stages"] = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/stage-change" } });
    }
    let change = json!({
        "type": "object",
        "description": "Laid over the file by `--profile NAME`: tables merge, everything else replaces.",
        "properties": change,
        "additionalProperties": false,
    });
    properties["profiles"]["additionalProperties"] = change;
    let frame = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline.toml of hamflow",
        "$defs": definitions,
    });
    extend(&mut schema, frame);
    match schema {
        Value::Object(object) => Value::Object(sorted(object)),
        other => other,
    }
}

/// Adds keywords to a schema.
fn extend(schema: &mut Value, keywords: Value) {
    if let (Value::Object(schema), Value::Object(keywords)) = (schema, keywords) {
        schema.extend(keywords);
    }
}

fn definition_name(kind: &str) -> String {
    format!("kind-{kind}")
}

fn reference_to(kind: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{}", definition_name(kind)) })
}

/// `[stages]`: a stage called like a kind may leave `kind` out.
fn stages_schema(kinds: Kinds) -> Value {
    let mut named = Map::new();
    for kind in kinds {
        let name = kind.spec().name;
        let schema = json!({
            "if": { "required": ["kind"] },
            "then": { "$ref": "#/$defs/stage" },
            "else": reference_to(name),
        });
        named.insert(name.to_owned(), schema);
    }
    json!({
        "properties": named,
        "propertyNames": { "pattern": NAME_PATTERN, "not": { "const": "inputs" } },
        "additionalProperties": { "$ref": "#/$defs/stage" },
    })
}

/// A stage by its `kind`, which a profile's change of one may leave out.
fn stage_schema(kinds: Kinds, kind_required: bool) -> Value {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.spec().name).collect();
    let branches: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "if": { "properties": { "kind": { "const": name } }, "required": ["kind"] },
                "then": reference_to(name),
            })
        })
        .collect();
    let mut schema = json!({
        "type": "object",
        "properties": { "kind": { "enum": names, "description": "What the stage does." } },
        "allOf": branches,
    });
    // A change of a stage says only what it changes; its kind is then the file's.
    if kind_required {
        schema["required"] = json!(["kind"]);
    }
    schema
}

fn kind_schema(kind: &dyn AnyKind) -> Value {
    let spec = kind.spec();
    let mut params = kind.schema();
    rewrite_references(&mut params, &definition_name(spec.name));
    let own_definitions = params.get("$defs").cloned();
    let closed = params.get("properties").is_some() || params.get("additionalProperties") == Some(&Value::Bool(false));
    let mut properties = match params.get("properties") {
        Some(Value::Object(own)) => own.clone(),
        _ => Map::new(),
    };
    let mut axes: Map<String, Value> =
        properties.iter().map(|(name, schema)| (name.clone(), axis_schema(schema))).collect();
    for port in &spec.ports {
        let schema = port_schema(port);
        axes.insert(port.name.clone(), json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }));
        properties.insert(port.name.clone(), schema);
    }
    add_engine_properties(&spec, &mut properties, axes, closed);
    let mut schema = json!({
        "type": "object",
        "description": spec.summary,
        "properties": properties,
        "additionalProperties": !closed,
    });
    if let Some(own) = own_definitions {
        schema["$defs"] = own;
    }
    schema
}

fn axis_schema(of: &Value) -> Value {
    json!({ "type": "array", "items": of, "minItems": 1, "uniqueItems": true })
}

/// What the engine takes of every stage of a kind, beside the kind's own parameters.
pub fn of_every_stage(kind: &dyn AnyKind) -> Map<String, Value> {
    let mut properties = Map::new();
    add_engine_properties(&kind.spec(), &mut properties, Map::new(), true);
    properties.retain(|name, _| !["kind", "inputs"].contains(&&name[..]));
    properties
}

fn add_engine_properties(
    spec: &KindSpec,
    properties: &mut Map<String, Value>,
    mut axes: Map<String, Value>,
    closed: bool,
) {
    let mut own = properties_of::<StageSection>();
    own["kind"] = json!({ "const": spec.name, "description": spec.summary });
    if !spec.seeded {
        own.remove("seed");
    }
    if let Some(seed) = own.get("seed") {
        axes.insert("seed".to_owned(), axis_schema(seed));
    }
    extend(&mut own["matrix"], json!({ "properties": axes, "additionalProperties": !closed }));
    properties.extend(own);
    if spec.dynamic_ports {
        let one = json!({ "type": "string" });
        let inputs = json!({
            "type": "object",
            "description": "What the stage reads: `inputs.NAME`, `STAGE` or `STAGE.ARTIFACT` by name.",
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": { "anyOf": [one, { "type": "array", "items": one }] },
        });
        properties.insert("inputs".to_owned(), inputs);
    }
}

fn port_schema(port: &Port) -> Value {
    let one = json!({ "type": "string" });
    let mut schema = if port.many { json!({ "anyOf": [one, { "type": "array", "items": one }] }) } else { one };
    schema["description"] = Value::from(port.doc);
    schema
}

/// Lets `#/$defs/X` of a kind's own schema point to where that schema ends up.
fn rewrite_references(schema: &mut Value, definition: &str) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(own) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{definition}/$defs/{own}");
                        }
                    }
                    other => rewrite_references(other, definition),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite_references(item, definition)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::toy::KINDS;

    #[test]
    fn a_stage_completes_its_parameters_inputs_and_axes() {
        let schema = json_schema(KINDS);
        let properties = &schema["$defs"]["kind-fit"]["properties"];
        assert_eq!(properties["epochs"]["default"], 10);
        assert_eq!(properties["shards"]["description"], "What it learns from.");
        assert_eq!(properties["matrix"]["properties"]["lr"]["items"]["type"], "number");
        assert_eq!(schema["$defs"]["kind-fit"]["additionalProperties"], false);
        assert_eq!(schema["properties"]["stages"]["properties"]["fit"]["else"]["$ref"], "#/$defs/kind-fit");
    }

    #[test]
    fn a_kind_s_own_definitions_are_found_where_they_end_up() {
        let schema = json_schema(KINDS);
        let target = schema["$defs"]["kind-command"]["properties"]["outputs"]["additionalProperties"]["$ref"].clone();
        let pointer = target.as_str().unwrap().strip_prefix('#').unwrap();
        assert_eq!(schema.pointer(pointer).unwrap()["type"], "object");
    }

    #[test]
    fn the_schema_describes_every_key() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&json_schema(KINDS)).unwrap());
    }

    #[test]
    fn a_seed_is_offered_only_where_it_counts() {
        let schema = json_schema(KINDS);
        assert!(schema["$defs"]["kind-fit"]["properties"].get("seed").is_some());
        assert!(schema["$defs"]["kind-map"]["properties"].get("seed").is_none());
    }
}
