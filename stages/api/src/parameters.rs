//! Parameters of a kind as one struct: strict parsing, defaults, JSON Schema.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ParamError, Params, near_miss};

/// Serialises parameters with all defaults, keys sorted.
pub(crate) fn to_json<P: Serialize>(params: &P) -> Result<Params, ParamError> {
    match serde_json::to_value(params).map(sorted) {
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

/// Parses parameters and rejects numbers out of the ranges that their fields declare.
pub fn resolve<P: Serialize + DeserializeOwned + JsonSchema + 'static>(params: &Params) -> Result<P, ParamError> {
    let parsed = parse(params)?;
    check_ranges::<P>(&to_json(&parsed)?)?;
    Ok(parsed)
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

/// The schemas that [`check_ranges`] has generated.
static SCHEMAS: Mutex<BTreeMap<TypeId, Arc<Value>>> = Mutex::new(BTreeMap::new());

/// Rejects numbers outside of the ranges that the fields of `P` declare with `#[schemars(range(min = …, max = …))]`, or with
/// `#[schemars(extend("exclusiveMinimum" = …))]`.
pub(crate) fn check_ranges<P: JsonSchema + 'static>(params: &Params) -> Result<(), ParamError> {
    let schema = {
        let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(schemas.entry(TypeId::of::<P>()).or_insert_with(|| Arc::new(schema::<P>())))
    };
    check_properties(&schema, params, &mut Vec::new())
}

fn check_properties(schema: &Value, values: &Params, path: &mut Vec<String>) -> Result<(), ParamError> {
    for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let Some(value) = values.get(name) else { continue };
        path.push(name.clone());
        check_value(schema, value, path)?;
        path.pop();
    }
    Ok(())
}

fn check_value(schema: &Value, value: &Value, path: &mut Vec<String>) -> Result<(), ParamError> {
    match value {
        Value::Number(number) => check_number(schema, number.as_f64().unwrap_or(f64::NAN), path)?,
        Value::Object(values) => check_properties(schema, values, path)?,
        _ => return Ok(()),
    }
    // At most one of the choices is for a value of this type.
    let choices = schema.get("anyOf").and_then(Value::as_array);
    choices.into_iter().flatten().try_for_each(|choice| check_value(choice, value, path))
}

fn check_number(schema: &Value, value: f64, path: &[String]) -> Result<(), ParamError> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (least, above, most) = (bound("minimum"), bound("exclusiveMinimum"), bound("maximum"));
    if least.is_none_or(|least| value >= least)
        && above.is_none_or(|above| value > above)
        && most.is_none_or(|most| value <= most)
    {
        return Ok(());
    }
    let wanted = match (above, least, most) {
        (Some(above), _, Some(most)) => format!("greater than {above} and at most {most}"),
        (Some(above), _, None) => format!("greater than {above}"),
        (None, Some(least), Some(most)) => format!("between {least} and {most}"),
        (None, Some(least), None) => format!("at least {least}"),
        (None, None, most) => format!("at most {}", most.unwrap_or(f64::INFINITY)),
    };
    let name = path.join(".");
    Err(ParamError { path: path.to_owned(), message: format!("`{name}` must be {wanted}, not {value}"), hint: None })
}

/// The same value with the keys of every object sorted.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().map(|(name, value)| (name, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
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
        #[schemars(range(min = 1, max = 1000))]
        epochs: u32,
        /// How.
        strategy: Strategy,
        /// How much.
        fractions: Fractions,
        #[schemars(range(max = 10), extend("exclusiveMinimum" = 0))]
        rate: f32,
        switch: Option<Fractions>,
        group: Option<String>,
    }

    impl Default for Toy {
        fn default() -> Self {
            Self {
                epochs: 3,
                strategy: Strategy::Mean,
                fractions: Fractions::default(),
                rate: 0.001,
                switch: None,
                group: None,
            }
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
        #[schemars(range(max = 1.0))]
        test: f64,
    }

    fn params(value: Value) -> Params {
        value.as_object().unwrap().clone()
    }

    fn refused(value: Value) -> ParamError {
        parse::<Toy>(&params(value)).unwrap_err()
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
        let resolve = |params: &Params| to_json(&parse::<Toy>(params).unwrap()).unwrap();
        let resolved = resolve(&Params::new());
        assert_eq!(resolved.len(), 6);
        assert_eq!(resolve(&resolved), resolved);
        let names: Vec<&String> = resolved.keys().collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn a_number_out_of_range_is_reported_with_its_range() {
        let refused = |value: Value| check_ranges::<Toy>(&params(value)).unwrap_err();
        assert_eq!(refused(json!({"epochs": 0})).message, "`epochs` must be between 1 and 1000, not 0");
        assert_eq!(refused(json!({"rate": 0.0})).message, "`rate` must be greater than 0 and at most 10, not 0");
        let error = refused(json!({"fractions": {"test": 1.5}}));
        assert_eq!(error.path, ["fractions", "test"]);
        assert_eq!(error.message, "`fractions.test` must be at most 1, not 1.5");
        assert_eq!(refused(json!({"switch": {"test": 2}})).path, ["switch", "test"]);
        assert!(check_ranges::<Toy>(&params(json!({"epochs": 1000, "rate": 10.0, "switch": null}))).is_ok());
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
