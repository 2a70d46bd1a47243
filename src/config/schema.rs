//! The JSON Schema of `pipeline.toml`, so that editors complete and check it.

use hamflow_stage_api::{Kind, KindSpec, Port};
use serde_json::{Map, Value, json};

use super::value::sorted;
use super::{DEFAULT_CACHE_DIR, Kinds};

const NAME_PATTERN: &str = "^[A-Za-z0-9_-]+$";

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
    let sections = |stages: Value| {
        json!({
            "pipeline": pipeline_schema(),
            "inputs": inputs_schema(),
            "stages": stages,
            "cache": cache_schema(),
        })
    };
    let mut properties = sections(stages_schema(kinds));
    let change = json!({
        "type": "object",
        "description": "Laid over the file by `--profile NAME`: tables merge, everything else replaces.",
        "properties": sections(json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/stage-change" } })),
        "additionalProperties": false,
    });
    properties["profiles"] = json!({ "type": "object", "additionalProperties": change });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline.toml of hamflow",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    });
    match schema {
        Value::Object(object) => Value::Object(sorted(object)),
        other => other,
    }
}

fn definition_name(kind: &str) -> String {
    format!("kind-{kind}")
}

fn reference_to(kind: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{}", definition_name(kind)) })
}

fn pipeline_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "description": "The pipeline's name, for people." },
            "seed": {
                "type": "integer", "minimum": 0, "default": 0,
                "description": "Where every random number starts; a stage's own `seed` overrides it.",
            },
            "missing_inputs": {
                "type": "string",
                "description": "Where to get the data; shown when something under `[inputs]` is not there.",
            },
        },
        "additionalProperties": false,
    })
}

fn inputs_schema() -> Value {
    let path = json!({ "type": "string", "minLength": 1 });
    json!({
        "type": "object",
        "description": "Files and folders from outside, relative to this file or absolute.",
        "propertyNames": { "pattern": NAME_PATTERN },
        "additionalProperties": {
            "anyOf": [path, { "type": "array", "items": path, "minItems": 1, "uniqueItems": true }],
        },
    })
}

fn cache_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "dir": { "type": "string", "minLength": 1, "default": DEFAULT_CACHE_DIR, "description": "Where the store is." },
            "link": {
                "enum": ["copy", "hard"], "default": "copy",
                "description": "How `out/` is made: by reflink or copy, or by hard link (unsafe for root).",
            },
            "max_size": {
                "type": "string", "default": "20GB",
                "description": "Of results that neither a lock nor one of the last 20 runs needs, the least recently used are deleted until all blobs together fit; `none` for no limit.",
            },
            "max_age": {
                "type": "string", "default": "30d", "pattern": "^([0-9]+[hdw]|none)$",
                "description": "How long such a result stays without being used; `none` for ever.",
            },
            "remote": {
                "type": "object",
                "description": "Where results are shared with other machines.",
                "required": ["url"],
                "properties": {
                    "url": { "type": "string", "minLength": 1, "description": "A folder such as `/mnt/cache`, or `https://…`, `s3://…`, `gs://…`, `az://…`." },
                    "scope": { "type": "string", "default": "main", "description": "Where results are written, and looked up first." },
                    "read": {
                        "type": "array", "items": { "type": "string" }, "default": [],
                        "description": "The scopes where results are looked up after that, in this order.",
                    },
                    "keys": {
                        "type": "object",
                        "description": "By scope, or a pattern such as `pr-*`: the public keys that may write to it.",
                        "additionalProperties": { "type": "array", "items": { "type": "string", "pattern": "^(ed25519|hmac-sha256):[0-9a-f]{64}$" } },
                    },
                },
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
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
        "type": "object",
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

fn kind_schema(kind: &dyn Kind) -> Value {
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
pub fn of_every_stage(kind: &dyn Kind) -> Map<String, Value> {
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
    properties.insert("kind".to_owned(), json!({ "const": spec.name, "description": spec.summary }));
    if spec.seeded {
        let seed = json!({ "type": "integer", "minimum": 0, "description": "Instead of the pipeline's seed." });
        axes.insert("seed".to_owned(), axis_schema(&seed));
        properties.insert("seed".to_owned(), seed);
    }
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
    let variables = |description: &str| json!({ "type": "array", "items": { "type": "string", "minLength": 1 }, "description": description });
    properties
        .insert("env".to_owned(), variables("Variables of the environment that are passed and decide the result."));
    properties.insert(
        "secret_env".to_owned(),
        variables("Variables that are passed and neither keyed nor stored; their values are hidden in logs and messages, but for lines of fewer than 4 characters."),
    );
    let memory = json!({
        "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 1 }],
        "description": "What a job needs, such as `\"2GB\"`.",
    });
    properties.insert("memory".to_owned(), memory);
    let matrix = json!({
        "type": "object",
        "description": "One stage per combination of these values.",
        "properties": axes,
        "additionalProperties": !closed,
    });
    properties.insert("matrix".to_owned(), matrix);
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
