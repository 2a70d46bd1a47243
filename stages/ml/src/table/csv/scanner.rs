//! Splits a text into rows of fields.

use hamflow_stage_api::StageError;

use super::super::fields::{Span, position};

/// The characters that may separate fields; the first wins in a tie.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Reads a text from the front.
pub(super) struct Scanner<'a> {
    name: &'a str,
    text: &'a str,
    /// The next byte.
    at: usize,
    /// The character between fields.
    pub separator: u8,
    /// The number of comment lines so far.
    pub comments: usize,
    /// The fields with doubled quotes, unescaped. Their spans start behind the text.
    pub extra: String,
    /// The start of each of those fields, and its start in the text.
    pub unescaped: Vec<(u32, u32)>,
}

impl<'a> Scanner<'a> {
    /// Starts at the first line, or after a `sep=` line.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        let first = text.split('\n').next().unwrap_or_default();
        let declared = declared_separator(first.trim_end_matches('\r'));
        let at = if declared.is_some() { (first.len() + 1).min(text.len()) } else { 0 };
        let separator = declared.unwrap_or_else(|| most_frequent_separator(&text[at..]));
        Self { name, text, at, separator, comments: 0, extra: String::new(), unescaped: Vec::new() }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips the end of a line, which may be the end of the text; returns whether there was one.
    fn line_end(&mut self) -> bool {
        let is_there = self.at_line_end();
        if is_there && self.peek().is_some() {
            let is_pair = self.text.as_bytes()[self.at..].starts_with(b"\r\n");
            self.at += if is_pair { 2 } else { 1 };
        }
        is_there
    }

    fn at_line_end(&self) -> bool {
        matches!(self.peek(), Some(b'\r' | b'\n') | None)
    }

    /// Appends the next row after a header of `count` fields, and returns the index of its first span. A line that starts
    /// with `#` is a row if it has as many fields.
    pub fn data_row(&mut self, count: usize, spans: &mut Vec<Span>) -> Result<Option<usize>, StageError> {
        let first = spans.len();
        loop {
            while self.peek().is_some() && self.line_end() {}
            if self.peek() != Some(b'#') {
                return Ok(self.row(spans)?.then_some(first));
            }
            let (at, extra, unescaped) = (self.at, self.extra.len(), self.unescaped.len());
            if self.fields(spans).is_ok() && [count, count + 1].contains(&(spans.len() - first)) {
                return Ok(Some(first));
            }
            self.at = at;
            self.extra.truncate(extra);
            self.unescaped.truncate(unescaped);
            spans.truncate(first);
            self.skip_comment();
        }
    }

    fn skip_comment(&mut self) {
        self.comments += 1;
        let rest = &self.text.as_bytes()[self.at..];
        self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |place| place + 1);
    }

    /// Appends the next row that is neither an empty line nor a comment; returns whether there was one.
    pub fn row(&mut self, spans: &mut Vec<Span>) -> Result<bool, StageError> {
        loop {
            match self.peek() {
                None => return Ok(false),
                Some(b'#') => self.skip_comment(),
                Some(_) if self.line_end() => {}
                Some(_) => return self.fields(spans).map(|()| true),
            }
        }
    }

    fn fields(&mut self, spans: &mut Vec<Span>) -> Result<(), StageError> {
        loop {
            spans.push(self.field()?);
            if self.line_end() {
                return Ok(());
            }
            // A field ends before a separator or at the end of a line.
            self.at += 1;
        }
    }

    /// Skips spaces, and tabs unless they separate fields.
    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|next| next == b' ' || (next == b'\t' && self.separator != b'\t')) {
            self.at += 1;
        }
    }

    fn field(&mut self) -> Result<Span, StageError> {
        self.skip_blanks();
        if self.peek() == Some(b'"') {
            return self.quoted();
        }
        let start = self.at;
        let rest = self.text.as_bytes()[start..].iter();
        self.at += rest.take_while(|byte| **byte != self.separator && **byte != b'\n' && **byte != b'\r').count();
        self.trimmed(start, self.at)
    }

    /// The span of a part of the text without spaces around it.
    fn trimmed(&self, start: usize, end: usize) -> Result<Span, StageError> {
        let part = &self.text[start..end];
        let start = start + part.len() - part.trim_start().len();
        Span::new(self.name, start, start + part.trim().len())
    }

    fn quoted(&mut self) -> Result<Span, StageError> {
        let start = self.at + 1;
        let mut is_escaped = false;
        self.at = start;
        loop {
            let Some(quote) = memchr::memchr(b'"', &self.text.as_bytes()[self.at..]) else {
                return Err(self.error("unclosed quote", start - 1));
            };
            self.at += quote + 1;
            if self.peek() != Some(b'"') {
                break;
            }
            is_escaped = true;
            self.at += 1;
        }
        let end = self.at - 1;
        self.skip_blanks();
        if !self.at_line_end() && self.peek() != Some(self.separator) {
            return Err(self.error("text after a closing quote", end + 1));
        }
        if !is_escaped {
            return self.trimmed(start, end);
        }
        let text = self.text[start..end].replace("\"\"", "\"");
        let from = self.text.len() + self.extra.len();
        self.extra.push_str(text.trim());
        let span = Span::new(self.name, from, self.text.len() + self.extra.len())?;
        self.unescaped.push((span.start, Span::new(self.name, start, end)?.start));
        Ok(span)
    }

    fn error(&self, message: &str, place: usize) -> StageError {
        let (line, column) = position(&self.text[..place]);
        StageError::input(message).at(self.name, line, column)
    }
}

/// The separator that a line such as `sep=;` declares, which spreadsheets write and read.
fn declared_separator(line: &str) -> Option<u8> {
    let line = line.trim_matches('"');
    let (name, value) = line.split_at_checked(4)?;
    let separator = value.bytes().next().filter(|separator| SEPARATORS.contains(separator))?;
    // Saved again, the line has as many separators as the table has columns.
    (name.eq_ignore_ascii_case("sep=") && value.trim_matches(char::from(separator)).is_empty()).then_some(separator)
}

/// The separator that is most frequent in the header, outside of quotes.
fn most_frequent_separator(text: &str) -> u8 {
    let header = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    let mut counts = [0; SEPARATORS.len()];
    let mut is_quoted = false;
    for byte in header.bytes() {
        is_quoted ^= byte == b'"';
        if let Some(index) = SEPARATORS.iter().position(|separator| *separator == byte && !is_quoted) {
            counts[index] += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let index = counts.iter().position(|count| *count == most).unwrap_or(0);
    SEPARATORS[index]
}
