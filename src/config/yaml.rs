//! Reads YAML 1.2 into values with spans.

use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};

use super::diagnostic::{Mistake, Mistakes, Span};
use super::value::{Entry, Node, Table, Value};

/// Reads the text of a file, which must be one mapping; an empty file has no values.
pub(crate) fn parse_document(source: usize, text: &str, mistakes: &mut Mistakes) -> Table {
    let documents = match MarkedYaml::load_from_str(text) {
        Ok(documents) => documents,
        Err(error) => {
            let at = Positions::of(text).byte(error.marker().index());
            let message = format!("not YAML: {}", error.info());
            mistakes.push(Mistake::new(Span { source, start: at, end: at }, message));
            return Table::default();
        }
    };
    let mut reader = Reader { source, positions: Positions::of(text), mistakes };
    match documents.into_iter().next().and_then(|document| reader.node("the file", document)) {
        Some(Node { value: Value::Table(table), .. }) => table,
        None | Some(Node { value: Value::Null, .. }) => Table::default(),
        Some(other) => {
            let message = format!("the file must hold a mapping of parameters, not {}", other.describe());
            mistakes.push(Mistake::new(other.span, message));
            Table::default()
        }
    }
}

/// From the characters that the parser counts to bytes.
struct Positions {
    bytes: Vec<usize>,
    len: usize,
}

impl Positions {
    fn of(text: &str) -> Self {
        Self { bytes: text.char_indices().map(|(byte, _)| byte).collect(), len: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).copied().unwrap_or(self.len)
    }
}

struct Reader<'m> {
    source: usize,
    positions: Positions,
    mistakes: &'m mut Mistakes,
}

impl Reader<'_> {
    fn span(&self, start: Marker, end: Marker) -> Span {
        let byte = |marker: Marker| self.positions.byte(marker.index());
        Span { source: self.source, start: byte(start), end: byte(end) }
    }

    fn node(&mut self, key: &str, yaml: MarkedYaml<'_>) -> Option<Node> {
        let span = self.span(yaml.span.start, yaml.span.end);
        let value = match yaml.data {
            YamlData::Value(Scalar::Null) => Value::Null,
            YamlData::Value(Scalar::Boolean(value)) => Value::Boolean(value),
            YamlData::Value(Scalar::Integer(number)) => Value::Integer(number),
            YamlData::Value(Scalar::FloatingPoint(number)) if number.is_finite() => Value::Float(number.into_inner()),
            YamlData::Value(Scalar::FloatingPoint(_)) => {
                return self.refuse(span, format!("`{key}` is not a finite number"));
            }
            YamlData::Value(Scalar::String(text)) => Value::String(text.into_owned()),
            YamlData::Sequence(items) => {
                Value::Array(items.into_iter().filter_map(|item| self.node(key, item)).collect())
            }
            YamlData::Mapping(entries) => {
                let entries = entries.into_iter().filter_map(|(key, value)| self.entry(key, value));
                Value::Table(merged(Table { entries: entries.collect() }))
            }
            YamlData::Tagged(_, inner) => return self.node(key, *inner),
            YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
                return self.refuse(span, format!("`{key}` has a value that cannot be read"));
            }
        };
        Some(Node { value, span })
    }

    fn entry(&mut self, key: MarkedYaml<'_>, value: MarkedYaml<'_>) -> Option<Entry> {
        let key_span = self.span(key.span.start, key.span.end);
        let key = match key.data {
            YamlData::Value(Scalar::String(text)) => text.into_owned(),
            YamlData::Value(Scalar::Integer(number)) => number.to_string(),
            YamlData::Value(Scalar::Boolean(value)) => value.to_string(),
            _ => {
                self.refuse(key_span, "a key must be a string".to_owned());
                return None;
            }
        };
        let node = self.node(&key, value)?;
        Some(Entry { key, key_span, node })
    }

    fn refuse(&mut self, span: Span, message: String) -> Option<Node> {
        self.mistakes.push(Mistake::new(span, message));
        None
    }
}

/// Replaces the merge key `<<` by the entries of its value that have no value yet.
fn merged(mut table: Table) -> Table {
    let Some(merge) = table.remove("<<") else { return table };
    let sources = match merge.node.value {
        Value::Array(items) => items,
        _ => vec![merge.node],
    };
    for source in sources {
        let Value::Table(source) = source.value else { continue };
        for entry in source.entries {
            if table.get(&entry.key).is_none() {
                table.insert(entry);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Sources;

    fn parse(text: &str) -> Result<String, Vec<String>> {
        let mut mistakes = Mistakes::default();
        let table = parse_document(0, text, &mut mistakes);
        if mistakes.is_empty() {
            return Ok(serde_json::to_string(&table.to_params()).unwrap());
        }
        Err(mistakes.into_diagnostics(&Sources::new("p.yaml", text)).iter().map(|d| d.render()).collect())
    }

    #[test]
    fn values_have_the_types_of_yaml_1_2() {
        let text = "# é\na: 1\nb: 1.5e-3\nc: yes\nd: true\ne: '1'\nf: [1, x]\ng: {h: null}\ni: |\n  j\n  k\n1: z\n";
        let expected =
            r#"{"1":"z","a":1,"b":0.0015,"c":"yes","d":true,"e":"1","f":[1,"x"],"g":{"h":null},"i":"j\nk\n"}"#;
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("# nothing\n").unwrap(), "{}");
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let text = "base: &base {lr: 0.1, size: 3}\nfit:\n  <<: *base\n  lr: 0.2\n";
        assert_eq!(parse(text).unwrap(), r#"{"base":{"lr":0.1,"size":3},"fit":{"lr":0.2,"size":3}}"#);
    }

    #[test]
    fn mistakes_show_their_place() {
        let errors = parse("é: 1\nlr: .nan\n").unwrap_err();
        assert_eq!(
            errors,
            ["error: `lr` is not a finite number\n  --> p.yaml:2:5\n   |\n 2 | lr: .nan\n   |     ^^^^"]
        );
        assert!(parse("a: [1\nb: 2\n").unwrap_err()[0].starts_with("error: not YAML: "));
        assert!(parse("- 1\n").unwrap_err()[0].contains("must hold a mapping of parameters, not a list"));
        assert!(parse("a: 1\na: 2\n").unwrap_err()[0].contains("p.yaml:2:1"));
    }
}
