//! A strict CSV parser (RFC 4180, UTF-8) whose errors name the line.

use hamflow_stage_api::{StageError, near_miss};

/// A CSV file with a header. Every row has as many fields as the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    name: String,
    /// The column names.
    pub header: Vec<String>,
    /// The rows, without empty lines.
    pub rows: Vec<Row>,
}

/// A row of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The fields.
    pub fields: Vec<Field>,
}

/// A field with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The content without quotes.
    pub text: String,
    /// The line, 1-based.
    pub line: u64,
    /// The character of that line at which it starts, 1-based.
    pub column: u64,
}

impl Csv {
    /// Parses a file called `name`. A byte order mark, and carriage returns before line feeds, are ignored.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, StageError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
            StageError::input(format!("`{name}` is not UTF-8")).at(name, line, 0).hint("save it as UTF-8")
        })?;
        let mut scanner = Scanner::new(name, text.strip_prefix('\u{feff}').unwrap_or(text));
        let Some(header) = scanner.row()? else { return Err(StageError::input(format!("`{name}` is empty"))) };
        let mut rows = Vec::new();
        while let Some(row) = scanner.row()? {
            if row.fields.len() != header.fields.len() {
                return Err(wrong_length(name, &row, &header));
            }
            rows.push(row);
        }
        let header: Vec<String> = header.fields.into_iter().map(|field| field.text).collect();
        if let Some(twice) = header.iter().enumerate().find(|(i, column)| header[..*i].contains(column)) {
            return Err(StageError::input(format!("duplicate column `{}` in `{name}`", twice.1)).at(name, 1, 0));
        }
        if rows.is_empty() {
            return Err(StageError::input(format!("`{name}` has a header but no rows")).at(name, 1, 0));
        }
        Ok(Self { name: name.to_owned(), header, rows })
    }

    /// The index of a column; the hint of the error suggests the closest one.
    pub fn column(&self, column: &str) -> Result<usize, StageError> {
        self.header.iter().position(|name| name == column).ok_or_else(|| {
            let error = StageError::input(format!("`{}` has no column `{column}`", self.name)).at(&self.name, 1, 0);
            let separator =
                [";", "\t"].into_iter().find(|other| self.header.len() == 1 && self.header[0].contains(other));
            match separator {
                Some(";") => error.hint("the fields are separated by `;`; expected commas"),
                Some(_) => error.hint("the fields are separated by tabs; expected commas"),
                None => StageError { hint: near_miss::hint(column, self.header.iter().map(String::as_str)), ..error },
            }
        })
    }

    /// An error at the position of a field.
    pub fn error(&self, field: &Field, message: impl Into<String>) -> StageError {
        StageError::input(message).at(&self.name, field.line, field.column)
    }
}

fn wrong_length(name: &str, row: &Row, header: &Row) -> StageError {
    let (found, wanted) = (row.fields.len(), header.fields.len());
    let line = row.fields.first().map_or(0, |field| field.line);
    let fields = if found == 1 { "1 field".to_owned() } else { format!("{found} fields") };
    let error = StageError::input(format!("line {line} has {fields}, but the header has {wanted}")).at(name, line, 0);
    if found < wanted {
        error.hint("the file may be truncated")
    } else {
        error.hint("fields with a comma must be quoted")
    }
}

struct Scanner<'a> {
    name: &'a str,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: u64,
    column: u64,
}

impl<'a> Scanner<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, rest: text.chars().peekable(), line: 1, column: 1 }
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
        let mut ahead = self.rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some('\r'), Some('\n')) => {
                self.next();
                self.next();
                true
            }
            (Some('\n'), _) => {
                self.next();
                true
            }
            (None, _) => true,
            _ => false,
        }
    }

    fn row(&mut self) -> Result<Option<Row>, StageError> {
        while self.rest.peek().is_some() && self.line_end() {}
        if self.rest.peek().is_none() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if self.line_end() {
                return Ok(Some(Row { fields }));
            }
            // A field ends before a comma or at the end of a line.
            self.next();
        }
    }

    fn field(&mut self) -> Result<Field, StageError> {
        let (line, column) = (self.line, self.column);
        let mut text = String::new();
        if self.rest.peek() == Some(&'"') {
            self.next();
            loop {
                match self.next() {
                    Some('"') if self.rest.peek() == Some(&'"') => {
                        self.next();
                        text.push('"');
                    }
                    Some('"') => break,
                    Some(other) => text.push(other),
                    None => {
                        return Err(StageError::input("unclosed quote").at(self.name, line, column));
                    }
                }
            }
            let (end_line, end_column) = (self.line, self.column);
            if self.rest.peek() != Some(&',') && !self.at_line_end() {
                return Err(StageError::input("text after a closing quote").at(self.name, end_line, end_column));
            }
        } else {
            while self.rest.peek() != Some(&',') && !self.at_line_end() {
                text.extend(self.next());
            }
        }
        Ok(Field { text, line, column })
    }

    fn at_line_end(&self) -> bool {
        let mut ahead = self.rest.clone();
        match ahead.next() {
            Some('\r') => ahead.next() == Some('\n'),
            Some('\n') | None => true,
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<Vec<String>> {
        let csv = Csv::parse("a.csv", bytes).unwrap();
        csv.rows.into_iter().map(|row| row.fields.into_iter().map(|field| field.text).collect()).collect()
    }

    fn place(bytes: &[u8]) -> (String, u64, u64) {
        let error = Csv::parse("a.csv", bytes).unwrap_err();
        let place = error.place.unwrap();
        (error.message, place.line, place.column)
    }

    #[test]
    fn line_endings_byte_order_marks_and_empty_lines_are_ignored() {
        let plain = texts(b"a,b\n1,2\n3,\n");
        assert_eq!(plain, [["1", "2"], ["3", ""]]);
        assert_eq!(texts(b"a,b\r\n1,2\r\n3,\r\n"), plain);
        assert_eq!(texts(b"\xef\xbb\xbfa,b\n1,2\n3,"), plain);
        assert_eq!(texts(b"a,b\n\n1,2\n3,\n\n\r\n"), plain);
    }

    #[test]
    fn quoted_fields_may_contain_commas_quotes_and_line_ends() {
        assert_eq!(texts(b"a,b\n\"1,\"\"x\"\"\",\"2\n3\"\n"), [["1,\"x\"", "2\n3"]]);
        let csv = Csv::parse("a.csv", b"a,b\n\"1\n\",2\n3,4\n").unwrap();
        assert_eq!(csv.rows[1].fields[1], Field { text: "4".to_owned(), line: 4, column: 3 });
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(place(b"a,b\n1,2\n3\n"), ("line 3 has 1 field, but the header has 2".to_owned(), 3, 0));
        assert_eq!(place(b"a,b\n1,2,3\n"), ("line 2 has 3 fields, but the header has 2".to_owned(), 2, 0));
        assert_eq!(place(b"a,b\n1,\"2\n3,4\n"), ("unclosed quote".to_owned(), 2, 3));
        assert_eq!(place(b"a,b\n\"1\"x,2\n"), ("text after a closing quote".to_owned(), 2, 4));
        assert_eq!(place(b"a,b\n1,2\n\xff,2\n"), ("`a.csv` is not UTF-8".to_owned(), 3, 0));
        assert_eq!(place(b"a,a\n1,2\n"), ("duplicate column `a` in `a.csv`".to_owned(), 1, 0));
        assert_eq!(place(b"a,b\n").0, "`a.csv` has a header but no rows");
        assert_eq!(Csv::parse("a.csv", b"").unwrap_err().message, "`a.csv` is empty");
        assert_eq!(Csv::parse("a.csv", b"\xef\xbb\xbf\n\n").unwrap_err().message, "`a.csv` is empty");
    }

    #[test]
    fn a_missing_column_is_reported_with_the_closest_name() {
        let csv = Csv::parse("a.csv", b"lesion,image_id\n1,2\n").unwrap();
        assert_eq!(csv.column("image_id").unwrap(), 1);
        let error = csv.column("image_ids").unwrap_err();
        assert_eq!(error.message, "`a.csv` has no column `image_ids`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `image_id`?"));
        let csv = Csv::parse("a.csv", b"lesion;image_id\n1;2\n").unwrap();
        let hint = csv.column("image_id").unwrap_err().hint.unwrap();
        assert_eq!(hint, "the fields are separated by `;`; expected commas");
    }
}
