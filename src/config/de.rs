//! A serde deserializer over the spanned tree; its errors carry the path to the value at fault.

use std::fmt;

use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::diagnostic::Span;
use super::value::{Entry, Node, Value};

/// The tuple struct for which the deserializer hands out a span before the value; see [`Spanned`](super::spanned::Spanned).
pub(super) const SPANNED: &str = "$hamflow::Spanned";

/// One step from a table or a list to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// What is wrong with a value, whose words are found in the tree and in the schema.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the value has the wrong type")]
    Type,
    #[error("the value is not allowed")]
    Value,
    #[error("the list is empty")]
    Empty,
    #[error("unknown key `{key}`")]
    UnknownKey { key: String, known: &'static [&'static str] },
    #[error("`{key}` is missing")]
    MissingKey { key: &'static str },
    /// Words that follow the name of the value.
    #[error("the value {0}")]
    Other(String),
}

/// A value that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Error {
    pub(crate) problem: Problem,
    /// From the outermost value to the one at fault, in reverse.
    steps: Vec<Step>,
}

impl Error {
    fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The steps to the value at fault; for a key, to the table that has it or lacks it.
    pub(super) fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self { problem, steps: Vec::new() }
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem::Other(message.to_string()).into()
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Problem::Type.into()
    }

    fn invalid_value(value: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        match value {
            Unexpected::Str(_) => Problem::Value.into(),
            // A number out of range: the expected range says it all.
            _ => Problem::Type.into(),
        }
    }

    fn invalid_length(_: usize, _: &dyn de::Expected) -> Self {
        Problem::Empty.into()
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Problem::Value.into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Problem::UnknownKey { key: key.to_owned(), known }.into()
    }

    fn missing_field(key: &'static str) -> Self {
        Problem::MissingKey { key }.into()
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Null => visitor.visit_unit(),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Table(table) => visitor.visit_map(Entries { entries: table.entries.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(variant) => visitor.visit_enum(variant.as_str().into_deserializer()),
            _ => Err(Problem::Type.into()),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            SPANNED => visitor.visit_seq(SpanThenValue::new(self.span, self)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        map struct identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| error.below(Step::Index(index)))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.current = self.entries.next();
        self.current.map(|entry| seed.deserialize(Key(entry))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let entry = self.current.take().expect("serde asks for a value after its key");
        seed.deserialize(&entry.node).map_err(|error| error.below(Step::Key(entry.key.clone())))
    }
}

struct Key<'de>(&'de Entry);

impl<'de> de::Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(&self.0.key)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: StrDeserializer<'de, Error> = self.0.key.as_str().into_deserializer();
        match name {
            SPANNED => visitor.visit_seq(SpanThenValue::new(self.0.key_span, text)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        map struct identifier ignored_any option newtype_struct enum
    }
}

/// The three numbers of a span, then the value.
struct SpanThenValue<D> {
    numbers: std::array::IntoIter<usize, 3>,
    value: Option<D>,
}

impl<D> SpanThenValue<D> {
    fn new(Span { source, start, end }: Span, value: D) -> Self {
        Self { numbers: [source, start, end].into_iter(), value: Some(value) }
    }
}

impl<'de, D: de::Deserializer<'de, Error = Error>> SeqAccess<'de> for SpanThenValue<D> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if let Some(number) = self.numbers.next() {
            let number: U64Deserializer<Error> = (number as u64).into_deserializer();
            return seed.deserialize(number).map(Some);
        }
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}
