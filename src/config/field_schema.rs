//! The JSON Schema that a section's struct derives, and what it says of one of its fields.

use hamflow_stage_api::near_miss::joined;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::de::Step;

/// The keyword with the hint for a value that does not fit; editors show it too.
const HINT: &str = "errorMessage";

/// The schema of a section, without references and without anything that TOML does not have.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Value::Object(root) = &mut schema {
        root.remove("$schema");
        root.remove("title");
    }
    clean(&mut schema);
    schema
}

/// The properties of a section's schema.
pub(super) fn properties_of<T: JsonSchema>() -> Map<String, Value> {
    match schema_of::<T>()["properties"].take() {
        Value::Object(properties) => properties,
        _ => Map::new(),
    }
}

/// Takes out the null of optional fields and the width of integers.
fn clean(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("format");
            object.retain(|key, value| !(key == "default" && value.is_null()));
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| branch["type"] != "null");
                if let [Value::Object(only)] = &branches[..] {
                    let only = only.clone();
                    object.remove("anyOf");
                    only.into_iter().for_each(|(key, value)| _ = object.entry(key).or_insert(value));
                }
            }
            object.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

/// The schema of the value at a path.
pub(super) fn schema_at<'s>(schema: &'s Value, path: &[Step]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |schema, step| match step {
        Step::Key(key) => {
            let property = schema.get("properties").and_then(|properties| properties.get(key));
            property.or_else(|| schema.get("additionalProperties"))
        }
        Step::Index(_) => {
            let branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
            std::iter::once(schema).chain(branches).find_map(|branch| branch.get("items"))
        }
    })
}

/// What a field takes, in the words of a message: `a list of strings`.
pub(super) fn expected(schema: &Value) -> String {
    if let Some(title) = schema["title"].as_str() {
        return format!("a {title}");
    }
    if let Some(branches) = schema["anyOf"].as_array() {
        return joined(&branches.iter().map(expected).collect::<Vec<_>>(), "or");
    }
    if let Some(values) = schema["enum"].as_array() {
        return joined(&values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>(), "or");
    }
    match schema["type"].as_str() {
        Some("integer") => match schema["minimum"].as_u64() {
            Some(minimum) => format!("a whole number from {minimum}"),
            None => "a whole number".to_owned(),
        },
        Some("number") => "a number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => match expected(&schema["items"]).strip_prefix("a ") {
            Some(one) => format!("a list of {one}s"),
            None => "a list".to_owned(),
        },
        Some("object") => "a table".to_owned(),
        _ => "a string".to_owned(),
    }
}

/// The hint for a field with an invalid value.
pub(super) fn hint(schema: &Value) -> Option<String> {
    if let Some(hint) = schema[HINT].as_str() {
        return Some(hint.to_owned());
    }
    let choices = schema["oneOf"].as_array()?.iter();
    let choices = choices.filter_map(|choice| match (choice["const"].as_str()?, choice["description"].as_str()) {
        (value, Some(meaning)) => Some(format!("`{value}` ({})", clause(meaning))),
        (value, None) => Some(format!("`{value}`")),
    });
    Some(joined(&choices.collect::<Vec<_>>(), "or"))
}

/// A sentence as part of another.
fn clause(sentence: &str) -> String {
    let mut letters = sentence.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
