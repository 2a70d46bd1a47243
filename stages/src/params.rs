//! Parameters of a kind as one struct: strict parsing, resolved defaults, JSON Schema.
//!
//! A kind's struct derives `Serialize`, `Deserialize`, `Default` and `JsonSchema`, with
//! `#[serde(default, deny_unknown_fields)]` and a documented default per field.

use hamflow_stage_api::{ParamError, Params, near_miss};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::sorted;

/// Parses the parameters of a kind and serialises them with all defaults.
pub fn resolve<P: DeserializeOwned + Serialize>(params: &Params) -> Result<Params, ParamError> {
    resolve_checked(params, |_: &P| Ok(()))
}

/// Like [`resolve`], with a validation of the values before they are serialised.
pub fn resolve_checked<P: DeserializeOwned + Serialize>(
    params: &Params,
    check: impl FnOnce(&P) -> Result<(), ParamError>,
) -> Result<Params, ParamError> {
    let parsed: P = parse(params)?;
    check(&parsed)?;
    match serde_json::to_value(&parsed).map(sorted) {
        Ok(Value::Object(resolved)) => Ok(resolved),
        Ok(_) => Err(ParamError::new("", "the parameters of a kind must be one struct")),
        // For example, a number that JSON cannot represent.
        Err(error) => Err(ParamError::new("", format!("cannot serialise the parameters: {error}"))),
    }
}

/// Parses the parameters of a kind. The error for an unknown name or a wrong type contains the path to the parameter.
pub fn parse<P: DeserializeOwned>(params: &Params) -> Result<P, ParamError> {
    serde_path_to_error::deserialize(Value::Object(params.clone())).map_err(|error| explain(&error))
}

/// The JSON Schema of a parameter struct, self-contained.
pub fn schema<P: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<P>().to_value();
    if let Value::Object(object) = &mut schema {
        // The engine embeds it in the schema of the whole file, which declares the dialect.
        object.remove("$schema");
        object.remove("title");
    }
    sorted(schema)
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> ParamError {
    use serde_path_to_error::Segment;
    let mut path: Vec<String> = error
        .path()
        .iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    let text = error.inner().to_string();
    // serde quotes names in backticks: first the unknown one, then the known ones.
    let mut names = text.split('`').skip(1).step_by(2);
    if text.starts_with("unknown field") {
        let name = names.next().unwrap_or_default().to_owned();
        let hint = near_miss::hint(&name, names);
        if path.last() != Some(&name) {
            path.push(name.clone());
        }
        ParamError { path, message: format!("unknown parameter `{name}`"), hint }
    } else if text.starts_with("unknown variant") {
        let value = names.next().unwrap_or_default().to_owned();
        let message = format!("`{}` cannot be `{value}`", path.join("."));
        ParamError { hint: near_miss::hint(&value, names), message, path }
    } else {
        let message = if path.is_empty() { words(&text) } else { format!("`{}`: {}", path.join("."), words(&text)) };
        ParamError { path, message, hint: None }
    }
}

/// Replaces Rust type names in serde's message with plain words.
fn words(text: &str) -> String {
    let Some((found, expected)) = text.rsplit_once(", expected ") else { return text.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a non-negative integer",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "a table",
        other if other.starts_with("enum ") => "a name",
        other => other,
    };
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    format!("expected {expected}, found {found}")
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Toy {
        /// How often.
        epochs: u32,
        /// How.
        strategy: Strategy,
        /// How much.
        fractions: Fractions,
        rate: f32,
        group: Option<String>,
    }

    impl Default for Toy {
        fn default() -> Self {
            Self { epochs: 3, strategy: Strategy::Mean, fractions: Fractions::default(), rate: 0.001, group: None }
        }
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Strategy {
        Mean,
        GroupMean,
    }

    #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Fractions {
        train: f64,
        test: f64,
    }

    fn params(value: Value) -> Params {
        value.as_object().unwrap().clone()
    }

    fn refused(value: Value) -> ParamError {
        resolve::<Toy>(&params(value)).unwrap_err()
    }

    #[test]
    fn an_unknown_parameter_is_reported_with_the_closest_name() {
        let error = refused(json!({"epoch": 5}));
        assert_eq!(error.path, ["epoch"]);
        assert_eq!(error.message, "unknown parameter `epoch`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `epochs`?"));

        let error = refused(json!({"fractions": {"trian": 1}}));
        assert_eq!(error.path, ["fractions", "trian"]);
        assert_eq!(error.hint.as_deref(), Some("did you mean `train`?"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_reported_with_its_path() {
        let error = refused(json!({"epochs": "fifty"}));
        assert_eq!(error.path, ["epochs"]);
        assert_eq!(error.message, "`epochs`: expected a non-negative integer, found string \"fifty\"");

        let error = refused(json!({"fractions": {"train": true}}));
        assert_eq!(error.path, ["fractions", "train"]);
        assert_eq!(error.message, "`fractions.train`: expected a number, found boolean `true`");

        let error = refused(json!({"epochs": -1}));
        assert_eq!(error.message, "`epochs`: expected a non-negative integer, found integer `-1`");
    }

    #[test]
    fn an_unknown_enum_value_is_reported_with_the_closest_name() {
        let error = refused(json!({"strategy": "group_mean"}));
        assert_eq!(error.path, ["strategy"]);
        assert_eq!(error.message, "`strategy` cannot be `group_mean`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `group-mean`?"));
    }

    #[test]
    fn resolved_parameters_resolve_to_themselves() {
        let resolved = resolve::<Toy>(&Params::new()).unwrap();
        assert_eq!(resolved.len(), 5);
        assert_eq!(resolve::<Toy>(&resolved).unwrap(), resolved);
        let names: Vec<&String> = resolved.keys().collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn a_failed_validation_is_returned() {
        let check = |_: &Toy| Err(ParamError::new("epochs", "`epochs` must be odd"));
        assert_eq!(resolve_checked(&Params::new(), check).unwrap_err().path, ["epochs"]);
    }

    #[test]
    fn the_schema_is_self_contained_and_documents_every_parameter() {
        let schema = schema::<Toy>();
        assert_eq!(schema["properties"]["epochs"]["description"], "How often.");
        assert_eq!(schema["properties"]["fractions"]["properties"]["train"]["type"], "number");
        assert_eq!(schema["additionalProperties"], false);
        assert!(!schema.to_string().contains("$ref"));
    }
}
