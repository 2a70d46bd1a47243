//! JSON for artifacts: keys sorted, so that the same content has the same bytes.

use hamflow_stage_api::StageError;
use serde::Serialize;
use serde_json::{Map, Value};

/// Writes a value for people and programs: indented, sorted keys, one line feed at the end.
pub fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, StageError> {
    let failed = |error: serde_json::Error| StageError::bug(format!("cannot write JSON: {error}"));
    let mut bytes = serde_json::to_vec_pretty(&sorted(serde_json::to_value(value).map_err(failed)?)).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
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
