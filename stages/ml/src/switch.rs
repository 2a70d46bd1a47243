//! A parameter that is a table, or `false` to disable it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A table of options, or `None`, written as `false`. `true` selects the defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Switch<T>(pub Option<T>);

impl<T: Default> Default for Switch<T> {
    fn default() -> Self {
        Self(Some(T::default()))
    }
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(options) => options.serialize(serializer),
            None => serializer.serialize_bool(false),
        }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TableOrBool(PhantomData))
    }
}

struct TableOrBool<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for TableOrBool<T> {
    type Value = Switch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Switch(value.then(T::default)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|options| Switch(Some(options)))
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Switch", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [table, { "type": "boolean" }] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::augment::Augmentation;

    #[test]
    fn a_switch_is_a_table_or_a_bool() {
        let read = |value| serde_json::from_value::<Switch<Augmentation>>(value).map_err(|error| error.to_string());
        assert_eq!(read(json!(false)).unwrap(), Switch(None));
        assert_eq!(read(json!(true)).unwrap(), Switch::default());
        assert_eq!(read(json!({ "zoom": 0.5 })).unwrap().0.unwrap().zoom, 0.5);
        assert!(read(json!({ "zooom": 0.5 })).unwrap_err().contains("unknown field `zooom`"));
        assert!(read(json!(3)).unwrap_err().contains("a table or false"));
        assert_eq!(serde_json::to_value(Switch::<Augmentation>(None)).unwrap(), json!(false));
    }
}
