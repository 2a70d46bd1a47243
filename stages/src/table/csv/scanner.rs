//! Splits a text into rows of fields.

use std::iter::Peekable;
use std::str::Chars;

use hamflow_stage_api::StageError;

use super::{Field, Row};

/// The characters that may separate fields; the first wins in a tie.
const SEPARATORS: [char; 4] = [',', ';', '\t', '|'];

/// Reads a text from the front.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    name: &'a str,
    rest: Peekable<Chars<'a>>,
    line: u64,
    column: u64,
    pub separator: char,
    /// The number of comment lines so far.
    pub comments: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the first line, or after a `sep=` line.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        let (first, after) = text.split_once('\n').unwrap_or((text, ""));
        let declared = declared_separator(first.trim_end_matches('\r'));
        let (text, line) = if declared.is_some() { (after, 2) } else { (text, 1) };
        let separator = declared.unwrap_or_else(|| most_frequent_separator(text));
        Self { name, rest: text.chars().peekable(), line, column: 1, separator, comments: 0 }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(next)
    }

    /// Skips the end of a line, which may be the end of the text; returns whether there was one.
    fn line_end(&mut self) -> bool {
        let is_there = self.at_line_end();
        if is_there && self.next() == Some('\r') {
            if self.rest.peek() == Some(&'\n') {
                self.next();
            } else {
                // The line end of an old Mac, among others.
                self.line += 1;
                self.column = 1;
            }
        }
        is_there
    }

    fn at_line_end(&mut self) -> bool {
        matches!(self.rest.peek(), Some('\r' | '\n') | None)
    }

    /// The next row after a header of `count` fields. A line that starts with `#` is a row if it has as many fields.
    pub fn data_row(&mut self, count: usize) -> Result<Option<Row>, StageError> {
        loop {
            while self.rest.peek().is_some() && self.line_end() {}
            if self.rest.peek() != Some(&'#') {
                return self.row();
            }
            let mut ahead = self.clone();
            match ahead.fields() {
                Ok(row) if [count, count + 1].contains(&row.fields.len()) => {
                    *self = ahead;
                    return Ok(Some(row));
                }
                _ => self.skip_comment(),
            }
        }
    }

    fn skip_comment(&mut self) {
        self.comments += 1;
        while self.next().is_some_and(|character| character != '\n') {}
    }

    /// The next row that is neither an empty line nor a comment.
    pub fn row(&mut self) -> Result<Option<Row>, StageError> {
        loop {
            match self.rest.peek().copied() {
                None => return Ok(None),
                Some('#') => self.skip_comment(),
                Some(_) if self.line_end() => {}
                Some(_) => return self.fields().map(Some),
            }
        }
    }

    fn fields(&mut self) -> Result<Row, StageError> {
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if self.line_end() {
                return Ok(Row { fields });
            }
            // A field ends before a separator or at the end of a line.
            self.next();
        }
    }

    fn at_field_end(&mut self) -> bool {
        self.rest.peek() == Some(&self.separator) || self.at_line_end()
    }

    /// Skips spaces, and tabs unless they separate fields.
    fn skip_blanks(&mut self) {
        while self.rest.peek().is_some_and(|next| *next == ' ' || (*next == '\t' && self.separator != '\t')) {
            self.next();
        }
    }

    fn field(&mut self) -> Result<Field, StageError> {
        self.skip_blanks();
        let (line, column) = (self.line, self.column);
        if self.rest.peek() != Some(&'"') {
            let mut text = String::new();
            while !self.at_field_end() {
                text.extend(self.next());
            }
            return Ok(Field { text: text.trim().to_owned(), line, column });
        }
        let text = self.quoted(line, column)?;
        let (end_line, end_column) = (self.line, self.column);
        self.skip_blanks();
        if !self.at_field_end() {
            return Err(StageError::input("text after a closing quote").at(self.name, end_line, end_column));
        }
        Ok(Field { text: text.trim().to_owned(), line, column })
    }

    fn quoted(&mut self, line: u64, column: u64) -> Result<String, StageError> {
        let mut text = String::new();
        self.next();
        loop {
            match self.next() {
                Some('"') if self.rest.peek() == Some(&'"') => {
                    self.next();
                    text.push('"');
                }
                Some('"') => return Ok(text),
                Some(other) => text.push(other),
                None => return Err(StageError::input("unclosed quote").at(self.name, line, column)),
            }
        }
    }
}

/// The separator that a line such as `sep=;` declares, which spreadsheets write and read.
fn declared_separator(line: &str) -> Option<char> {
    let line = line.trim_matches('"');
    let (name, value) = line.split_at_checked(4)?;
    let separator = value.chars().next().filter(|separator| SEPARATORS.contains(separator))?;
    // Saved again, the line has as many separators as the table has columns.
    (name.eq_ignore_ascii_case("sep=") && value.trim_matches(separator).is_empty()).then_some(separator)
}

/// The separator that is most frequent in the header, outside of quotes.
fn most_frequent_separator(text: &str) -> char {
    let header = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    let mut counts = [0; SEPARATORS.len()];
    let mut is_quoted = false;
    for character in header.chars() {
        is_quoted ^= character == '"';
        if let Some(index) = SEPARATORS.iter().position(|separator| *separator == character && !is_quoted) {
            counts[index] += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let index = counts.iter().position(|count| *count == most).unwrap_or(0);
    SEPARATORS[index]
}
