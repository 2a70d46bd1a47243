//! Generic presentation of JSON values: facts first, then tables.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::layout::scroll;
use crate::plot::grouped;

/// Keys that are only meant for programs.
const HIDDEN: [&str; 3] = ["synthetic", "format", "version"];

/// Keys that identify a row of a table.
const NAMING: [&str; 5] = ["index", "label", "name", "class", "image_id"];

/// Keys that are shown first.
const FIRST: [&str; 3] = ["rows", "lesions", "groups"];

/// Renders an object's scalars as a list of facts and nested values as tables; `skip` lists keys that are shown elsewhere.
pub fn facts(value: &Value, skip: &[&str]) -> Markup {
    let Value::Object(object) = value else {
        return html! { p { (text(value)) } };
    };
    let mut shown: Vec<(&String, &Value)> = object
        .iter()
        .filter(|(key, value)| !skip.contains(&key.as_str()) && !HIDDEN.contains(&key.as_str()) && !value.is_null())
        .collect();
    shown.sort_by_key(|(key, _)| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    let (scalars, others): (Vec<_>, Vec<_>) = shown.into_iter().partition(|(_, value)| is_scalar(value));
    html! {
        @if !scalars.is_empty() {
            dl.facts {
                @for (key, value) in scalars {
                    div { dt { (words(key)) } dd { (text(value)) } }
                }
            }
        }
        div.blocks {
            @for (key, value) in others {
                (nested(&words(key), value))
            }
        }
    }
}

fn nested(title: &str, value: &Value) -> Markup {
    match value {
        Value::Array(items) if items.is_empty() => html! {},
        Value::Array(items) if items.iter().all(Value::is_object) => records(title, items),
        Value::Object(object) if object.is_empty() => html! {},
        Value::Object(object) if object.values().all(is_scalar) => pairs(title, object),
        Value::Object(object) if object.values().all(Value::is_object) => rows_by_key(title, object),
        Value::Object(object) => html! {
            div.block { h4 { (title) } @for (key, value) in object { (inner(key, value)) } }
        },
        other => html! { div.block { h4 { (title) } p { (text(other)) } } },
    }
}

fn inner(key: &str, value: &Value) -> Markup {
    if is_scalar(value) {
        html! { p { (words(key)) ": " (text(value)) } }
    } else {
        nested(&words(key), value)
    }
}

fn pairs(title: &str, object: &Map<String, Value>) -> Markup {
    let table = html! {
        table {
            caption { (title) }
            tbody { @for (key, value) in object { tr { th scope="row" { (words(key)) } (cell(value)) } } }
        }
    };
    html! { div.block { (scroll(title, &table)) } }
}

fn records(title: &str, items: &[Value]) -> Markup {
    let mut columns: Vec<&String> = Vec::new();
    for key in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    // Identifying columns come first.
    columns.sort_by_key(|key| NAMING.iter().position(|naming| naming == key).unwrap_or(NAMING.len()));
    let is_number = |column: &String| items.iter().any(|item| item.get(column.as_str()).is_some_and(Value::is_number));
    let table = html! {
        table {
            caption { (title) }
            thead {
                tr { @for column in &columns { th scope="col" .number[is_number(column)] { (words(column)) } } }
            }
            tbody {
                @for item in items { tr { @for column in &columns { (cell(item.get(column.as_str()).unwrap_or(&Value::Null))) } } }
            }
        }
    };
    html! { div.block.wide { (scroll(title, &table)) } }
}

fn rows_by_key(title: &str, object: &Map<String, Value>) -> Markup {
    let items: Vec<Value> = object
        .iter()
        .map(|(key, value)| {
            let mut row = value.as_object().cloned().unwrap_or_default();
            row.insert("name".to_owned(), Value::String(key.clone()));
            Value::Object(row)
        })
        .collect();
    records(title, &items)
}

fn cell(value: &Value) -> Markup {
    html! { td.number[value.is_number()] { (text(value)) } }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

/// A value in one line: integers with thousands separators, other numbers with at most four decimals.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(value)) => decimal(value),
            (None, None) => number.to_string(),
        },
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            object.iter().map(|(key, value)| format!("{}: {}", words(key), text(value))).collect::<Vec<_>>().join("; ")
        }
    }
}

fn decimal(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 {
        return format!("{value:e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A key as words: `best_epoch` becomes `best epoch`.
pub fn words(key: &str) -> String {
    key.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_formatted_for_people() {
        let values =
            [json!(10015), json!(51.863828077927295), json!(1e-5), json!(null), json!(true), json!([75, 100, 3])];
        assert_eq!(values.map(|value| text(&value)), ["10,015", "51.8638", "1e-5", "–", "yes", "75, 100, 3"]);
    }

    #[test]
    fn everything_is_escaped_and_program_keys_are_hidden() {
        let page =
            facts(&json!({"a_b": "<i>", "format": 1, "t": {"<k>": "<v>"}, "l": [{"x": "&"}]}), &[]).into_string();
        assert!(
            page.contains("a b")
                && page.contains("&lt;i&gt;")
                && page.contains("&lt;k&gt;")
                && page.contains("&lt;v&gt;")
        );
        assert!(page.contains("&amp;") && !page.contains("<i>") && !page.contains("format"));
    }
}
