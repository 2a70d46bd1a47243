//! The values of the file with their spans, in the order of the file.

use std::ops::Range;

use hamflow_stage_api::Params;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Mistake, Mistakes, Span};

/// A value and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// For a table of its own, its header.
    pub(crate) span: Span,
}

/// A value. Dates are rejected while parsing, because no parameter is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Only in files of parameters: TOML has none.
    Null,
    Array(Vec<Node>),
    Table(Table),
}

/// A table in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Entry {
    /// The span for messages about the whole entry: a table's header, else the key.
    pub(crate) fn header(&self) -> Span {
        let Span { source, start, end } = self.node.span;
        let around = source == self.key_span.source && start < self.key_span.start && self.key_span.end < end;
        if around { self.node.span } else { self.key_span }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Replaces the entry of the same key in its place, or adds it at the end.
    pub(crate) fn insert(&mut self, entry: Entry) {
        match self.get_mut(&entry.key) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The table as JSON, sorted by key.
    pub(crate) fn to_params(&self) -> Params {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.into_iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
    }
}

/// Equal values, wherever they are written.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.node == other.node
    }
}

impl Node {
    /// Moves every span inside to another source with the same text.
    pub(crate) fn set_source(&mut self, source: usize) {
        self.span.source = source;
        match &mut self.value {
            Value::Array(items) => items.iter_mut().for_each(|item| item.set_source(source)),
            Value::Table(table) => {
                for entry in &mut table.entries {
                    entry.key_span.source = source;
                    entry.node.set_source(source);
                }
            }
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Null => {}
        }
    }

    /// The value's type, for messages: `a string`.
    pub(crate) fn describe(&self) -> &'static str {
        match self.value {
            Value::String(_) => "a string",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(_) => "a boolean",
            Value::Null => "nothing",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::String(text) => Json::from(text.as_str()),
            Value::Integer(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Boolean(value) => Json::from(*value),
            Value::Null => Json::Null,
            Value::Array(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(table) => Json::Object(table.to_params()),
        }
    }
}

/// `params` with the keys of every object sorted, whatever map the build of `serde_json` uses.
pub(crate) fn sorted(params: Params) -> Params {
    let mut entries: Vec<(String, Json)> = params.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().map(|(key, value)| (key, sorted_value(value))).collect()
}

fn sorted_value(value: Json) -> Json {
    match value {
        Json::Object(object) => Json::Object(sorted(object)),
        Json::Array(items) => items.into_iter().map(sorted_value).collect(),
        other => other,
    }
}

/// A scalar as an axis label: strings verbatim, numbers in the shortest form that parses back.
pub(crate) fn label(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Float(number) => {
            let plain = *number == 0.0 || (1e-5..1e16).contains(&number.abs());
            Some(if plain { format!("{number}") } else { format!("{number:e}") })
        }
        Value::Null | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Reads the text of a file (or of the left side of a `--set` with a dummy value).
pub(crate) fn parse_document(source: usize, text: &str, mistakes: &mut Mistakes) -> Table {
    // A value of several lines must not depend on the line ends of the editor.
    let line_ends = LineEnds::of(text);
    let unix = text.replace("\r\n", "\n");
    let (table, errors) = DeTable::parse_recoverable(&unix);
    if errors.is_empty() {
        return Reader { source, offset: 0, line_ends, mistakes }.table(table.into_inner());
    }
    // One mistake often causes several parser errors on the same line; the first is the clearest.
    let mut last_line = None;
    for error in errors {
        let range = line_ends.original(error.span().unwrap_or_default());
        let line = text.get(..range.start).map(|before| before.matches('\n').count());
        if last_line != Some(line) {
            // For `epochs =` without a value, the parser's message is about quotes.
            let missing = range.is_empty() && error.message().starts_with("string values must be quoted");
            let message = if missing { "a value is missing" } else { error.message() };
            mistakes.push(Mistake::new(Span { source, start: range.start, end: range.end }, message));
        }
        last_line = Some(line);
    }
    Table::default()
}

/// Parses one value at `offset` of its source. None if it is not TOML or has an unsupported type.
pub(crate) fn parse_value(source: usize, offset: usize, text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut mistakes = Mistakes::default();
    let line_ends = LineEnds::default();
    let node = Reader { source, offset, line_ends, mistakes: &mut mistakes }.node("value", value)?;
    mistakes.is_empty().then_some(node)
}

/// Where a text with the line ends of Unix has a carriage return less than the original.
#[derive(Debug, Default)]
struct LineEnds {
    /// The positions of these line feeds in the text with the line ends of Unix.
    shortened: Vec<usize>,
}

impl LineEnds {
    fn of(original: &str) -> Self {
        let returns = original.match_indices("\r\n").enumerate();
        Self { shortened: returns.map(|(before, (position, _))| position - before).collect() }
    }

    /// A range of the original text.
    fn original(&self, range: Range<usize>) -> Range<usize> {
        let moved = |position: usize| position + self.shortened.partition_point(|line_feed| *line_feed < position);
        moved(range.start)..moved(range.end)
    }
}

struct Reader<'m> {
    source: usize,
    offset: usize,
    line_ends: LineEnds,
    mistakes: &'m mut Mistakes,
}

impl Reader<'_> {
    fn span(&self, range: Range<usize>) -> Span {
        let range = self.line_ends.original(range);
        Span { source: self.source, start: self.offset + range.start, end: self.offset + range.end }
    }

    fn table(&mut self, table: DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .filter_map(|(key, value)| {
                let key_span = self.span(key.span());
                let key = key.into_inner().into_owned();
                let node = self.node(&key, value)?;
                Some(Entry { key, key_span, node })
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Table { entries }
    }

    fn node(&mut self, key: &str, value: Spanned<DeValue<'_>>) -> Option<Node> {
        let span = self.span(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => return self.refuse(span, format!("`{key}` is a number of more than 64 bits"), None),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                _ => return self.refuse(span, format!("`{key}` is not a finite number"), None),
            },
            DeValue::Datetime(_) => {
                return self.refuse(
                    span,
                    format!("`{key}` is a date, but no setting takes a date"),
                    Some("put it in quotes if it is meant as a string"),
                );
            }
            DeValue::Array(items) => Value::Array(items.into_iter().filter_map(|item| self.node(key, item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Some(Node { value, span })
    }

    fn refuse(&mut self, span: Span, message: String, hint: Option<&str>) -> Option<Node> {
        self.mistakes.push(Mistake::new(span, message).hint(hint.map(str::to_owned)));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Sources;

    fn parse(text: &str) -> Result<Table, Vec<String>> {
        let mut mistakes = Mistakes::default();
        let table = parse_document(0, text, &mut mistakes);
        if mistakes.is_empty() {
            return Ok(table);
        }
        Err(mistakes.into_diagnostics(&Sources::new("p", text)).iter().map(|d| d.render()).collect())
    }

    #[test]
    fn tables_keep_the_order_of_the_file_and_headers_are_found() {
        let text = "[stages.b]\nx = 1\n[stages.a]\ny.z = 1.5\n[stages.c.d]\n";
        let table = parse(text).unwrap();
        let Value::Table(stages) = &table.get("stages").unwrap().node.value else { panic!() };
        assert_eq!(stages.keys().collect::<Vec<_>>(), ["b", "a", "c"]);
        let header = stages.get("a").unwrap().header();
        assert_eq!(&text[header.start..header.end], "[stages.a]");
        // `c` has no header of its own.
        let header = stages.get("c").unwrap().header();
        assert_eq!(&text[header.start..header.end], "c");
    }

    #[test]
    fn integers_and_floats_stay_what_they_are() {
        let table = parse("a = 0x10\nb = 1e-3\nc = 1_000\nd = 2.0\n").unwrap();
        assert_eq!(serde_json::to_string(&table.to_params()).unwrap(), r#"{"a":16,"b":0.001,"c":1000,"d":2.0}"#);
    }

    #[test]
    fn line_ends_do_not_matter() {
        let unix = "# é\n[stages.a]\nrun = \"\"\"\na\nb\\\n  c\n\"\"\"\nx = \"\\r\\n\"\n\n[stages.b]\ny = 1\n";
        let windows = unix.replace('\n', "\r\n");
        let params = |text: &str| serde_json::to_string(&parse(text).unwrap().to_params()).unwrap();
        assert_eq!(params(&windows), params(unix));
        assert!(
            params(unix).contains(r#""run":"a\nbc\n""#) && params(unix).contains(r#""x":"\r\n""#),
            "{}",
            params(unix)
        );
        let table = parse(&windows).unwrap();
        let Value::Table(stages) = &table.get("stages").unwrap().node.value else { panic!() };
        let header = stages.get("b").unwrap().header();
        assert_eq!(&windows[header.start..header.end], "[stages.b]");
        let errors = |text: &str| parse(text).unwrap_err().join("\n").replace('\r', "");
        assert_eq!(errors("a = 1\r\n\r\nb = 2024-01-01\r\nc =\r\n"), errors("a = 1\n\nb = 2024-01-01\nc =\n"));
    }

    #[test]
    fn unsupported_values_are_rejected_with_their_location() {
        let errors = parse("a = 2024-01-01\nb = [nan]\nc = 99999999999999999999\n").unwrap_err();
        assert_eq!(
            errors,
            [
                "error: `a` is a date, but no setting takes a date\n  --> p:1:5\n   |\n 1 | a = 2024-01-01\n   |     ^^^^^^^^^^\n\
                 hint: put it in quotes if it is meant as a string",
                "error: `b` is not a finite number\n  --> p:2:6\n   |\n 2 | b = [nan]\n   |      ^^^",
                "error: `c` is a number of more than 64 bits\n  --> p:3:5\n   |\n 3 | c = 99999999999999999999\n   \
                 |     ^^^^^^^^^^^^^^^^^^^^",
            ]
        );
    }

    #[test]
    fn a_slip_in_the_syntax_shows_its_place() {
        let errors = parse("[stages.a]\nx = \n").unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("--> p:2:"), "{errors:?}");
        let errors = parse("a = 1\na = 2\n").unwrap_err();
        assert_eq!(errors, ["error: duplicate key\n  --> p:2:1\n   |\n 2 | a = 2\n   | ^"]);
    }

    #[test]
    fn numbers_get_their_shortest_label() {
        let label = |value| label(&Node { value, span: Span::default() }).unwrap();
        assert_eq!(label(Value::Float(1e-3)), "0.001");
        assert_eq!(label(Value::Float(2.0)), "2");
        assert_eq!(label(Value::Float(-0.25)), "-0.25");
        assert_eq!(label(Value::Float(3e-7)), "3e-7");
        assert_eq!(label(Value::Integer(50)), "50");
        assert_eq!(label(Value::Boolean(true)), "true");
    }
}
