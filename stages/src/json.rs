//! JSON for artifacts: a fixed order of keys, so that the same content has the same bytes.

use hamflow_stage_api::StageError;
use serde::Serialize;
use serde_json::{Map, Value};

/// Writes a value with sorted keys, [indented](indented).
pub fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, StageError> {
    indented(&sorted(serde_json::to_value(value).map_err(|error| failed(&error))?))
}

/// Writes a value for people and programs: indented, fields in the order of their declaration, one line feed at the end.
pub fn indented<T: Serialize>(value: &T) -> Result<Vec<u8>, StageError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(&error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn failed(error: &serde_json::Error) -> StageError {
    StageError::bug(format!("cannot write JSON: {error}"))
}

/// The same value with the keys of every object sorted.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().map(|(name, value)| (name, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let text = write(&json!({"b": [{"z": 1, "a": 2.5}], "a": null})).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.split_whitespace().collect::<String>(), r#"{"a":null,"b":[{"a":2.5,"z":1}]}"#);
        assert!(text.ends_with("}\n"));
    }
}
