//! JSON for artifacts: a fixed order of keys, so that the same content has the same bytes.

use hamflow_stage_api::StageError;
pub use hamflow_stage_api::parameters::sorted;
use serde::Serialize;

/// Writes a value with sorted keys, as [`indented`] does.
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
