//! The metrics of a program that are not those of an evaluation.

use maud::{Markup, html};
use serde_json::Value;

use super::layout::scroll;

/// Renders the numbers by their path; `None` without any.
pub fn section(metrics: Option<&Value>) -> Option<Markup> {
    let mut rows = Vec::new();
    flatten("", metrics?, &mut rows);
    let table = html! {
        table {
            thead { tr { th scope="col" { "metric" } th.number scope="col" { "value" } } }
            tbody { @for (path, value) in &rows { tr { th scope="row" { (path) } td.number { (shown(*value)) } } } }
        }
    };
    (!rows.is_empty()).then(|| scroll("Metrics", &table))
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, Option<f64>)>) {
    match value {
        Value::Number(number) => rows.push((path.to_owned(), number.as_f64())),
        Value::Null => rows.push((path.to_owned(), None)),
        Value::Object(map) => {
            for (name, value) in map {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&below, value, rows);
            }
        }
        Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
    }
}

/// A number: whole ones without decimals, others with at least four digits.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "undefined".to_owned(),
        Some(value) if value == libm::trunc(value) && value.abs() < 1e15 => format!("{value:.0}"),
        Some(value) if value.abs() >= 1e-3 && value.abs() < 1e6 => format!("{value:.4}"),
        Some(value) => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_numbers_are_named_by_their_path() {
        let metrics = json!({"accuracy": 0.5, "train": {"loss": 1e-9, "n": 10, "note": "x", "auc": null}, "m": [[1]]});
        let table = section(Some(&metrics)).unwrap().into_string();
        for (name, value) in
            [("accuracy", "0.5000"), ("train.loss", "1.000e-9"), ("train.n", "10"), ("train.auc", "undefined")]
        {
            let row = format!("<tr><th scope=\"row\">{name}</th><td class=\"number\">{value}</td></tr>");
            assert!(table.contains(&row), "{name}: {table}");
        }
        assert!(!table.contains("note") && section(Some(&json!({}))).is_none() && section(None).is_none());
    }
}
