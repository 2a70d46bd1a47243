//! Reads JSON into values. Their spans are the beginning of the file: errors name the key.

use serde_json::Value as Json;

use super::diagnostic::{Mistake, Mistakes, Span};
use super::value::{Entry, Node, Table, Value};

/// Reads the text of a file, which must be an object.
pub(super) fn parse_document(source: usize, text: &str, mistakes: &mut Mistakes) -> Table {
    let start = Span { source, start: 0, end: 0 };
    let value = match serde_json::from_str::<Json>(text) {
        Ok(value) => value,
        Err(error) => {
            let before = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
            let at = before + error.column().saturating_sub(1);
            mistakes.push(Mistake::new(Span { source, start: at, end: at }, format!("not JSON: {error}")));
            return Table::default();
        }
    };
    match node(value, start) {
        Node { value: Value::Table(table), .. } => table,
        other => {
            let message = format!("the file must hold an object of parameters, not {}", other.describe());
            mistakes.push(Mistake::new(start, message));
            Table::default()
        }
    }
}

fn node(value: Json, span: Span) -> Node {
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Boolean(value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().map(|item| node(item, span)).collect()),
        Json::Object(entries) => {
            let entry = |(key, value)| Entry { key, key_span: span, node: node(value, span) };
            Value::Table(Table { entries: entries.into_iter().map(entry).collect() })
        }
    };
    Node { value, span }
}
