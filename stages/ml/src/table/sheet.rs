//! A table of texts as a file holds it, with the place of each field for messages.

use hamflow_stage_api::{StageError, near_miss};

use super::column::as_text;
use super::csv::{self, Csv};
use super::fields::{Fields, Span};
use super::parquet_read;

/// The rows and columns of a CSV or Parquet file, as texts.
#[derive(Debug)]
pub struct Sheet {
    name: String,
    /// The column names. A column of row names may have none.
    pub header: Vec<String>,
    fields: Fields,
    /// How the file was written.
    pub source: Source,
}

/// How the file of a [`Sheet`] was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// As CSV.
    Csv {
        /// The character between fields.
        separator: char,
        /// The number of lines that start with `#`.
        comments: usize,
    },
    /// As Parquet.
    Parquet,
}

impl Sheet {
    /// Reads a CSV or Parquet file called `name`.
    pub fn read(name: &str, bytes: Vec<u8>) -> Result<Self, StageError> {
        if bytes.starts_with(b"PAR1") {
            return Self::read_parquet(name, bytes);
        }
        let Csv { header, fields, separator, comments } = csv::parse(name, bytes)?;
        Ok(Self { name: name.to_owned(), header, fields, source: Source::Csv { separator, comments } })
    }

    fn read_parquet(name: &str, bytes: Vec<u8>) -> Result<Self, StageError> {
        let frame = parquet_read::read_bytes(name, bytes, None, &[])?;
        if frame.height() == 0 {
            return Err(StageError::input(format!("`{name}` has no rows")));
        }
        let header: Vec<String> = frame.get_column_names().iter().map(|column| column.to_string()).collect();
        let mut fields = Fields { stride: header.len(), ..Fields::default() };
        fields.spans.resize(header.len() * frame.height(), Span { start: 0, length: 0 });
        for (index, column) in header.iter().enumerate() {
            for (row, value) in as_text(&frame, column)?.into_iter().enumerate() {
                let value = value.unwrap_or_default();
                let start = fields.text.len();
                fields.text.push_str(value.trim());
                fields.spans[row * header.len() + index] = Span::new(name, start, fields.text.len())?;
            }
        }
        Ok(Self { name: name.to_owned(), header, fields, source: Source::Parquet })
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.fields.height()
    }

    /// A field without spaces around it; empty if there is none.
    pub fn text(&self, row: usize, column: usize) -> &str {
        self.fields.span(row, column).map_or("", |span| span.of(&self.fields.text))
    }

    /// Whether a comma may be the decimal point.
    pub fn has_decimal_commas(&self) -> bool {
        matches!(self.source, Source::Csv { separator, .. } if separator != ',')
    }

    /// The index of a column, if there is one. If none has exactly this name, case, spaces, dots and hyphens do not
    /// count.
    pub fn find(&self, column: &str) -> Option<usize> {
        let exact = self.header.iter().position(|name| name == column);
        exact.or_else(|| {
            let mut alike = self.alike(column);
            alike.next().filter(|_| alike.next().is_none())
        })
    }

    /// The index of a column, if there is one. Several that are alike are an error.
    pub fn optional_column(&self, column: &str) -> Result<Option<usize>, StageError> {
        let found = self.find(column);
        let alike: Vec<&str> = self.alike(column).map(|index| &self.header[index][..]).collect();
        if found.is_some() || alike.is_empty() {
            return Ok(found);
        }
        let error = StageError::input(format!("`{}` has several columns `{}`", self.name, alike.join("`, `")));
        Err(self.in_header(error).hint(format!("name one of them `{column}`")))
    }

    fn alike(&self, column: &str) -> impl Iterator<Item = usize> {
        let wanted = plain_name(column);
        (0..self.header.len()).filter(move |index| plain_name(&self.header[*index]) == wanted)
    }

    /// The index of a column; the hint of the error suggests the closest one.
    pub fn column(&self, column: &str) -> Result<usize, StageError> {
        self.optional_column(column)?.ok_or_else(|| {
            let error = self.in_header(StageError::input(format!("`{}` has no column `{column}`", self.name)));
            match (self.header.len(), &self.source) {
                (1, _) if self.header[0].contains(' ') => {
                    error.hint("separate the fields with commas, semicolons or tabs")
                }
                (_, Source::Csv { comments: 1.., .. }) => {
                    error.hint("lines that start with `#` are skipped; remove the `#` if one of them is the header")
                }
                _ => StageError { hint: near_miss::hint(column, self.header.iter().map(String::as_str)), ..error },
            }
        })
    }

    /// Places an error in the header.
    pub fn in_header(&self, error: StageError) -> StageError {
        match self.source {
            Source::Csv { .. } => error.at(&self.name, 1, 0),
            Source::Parquet => error,
        }
    }

    /// An error in a field.
    pub fn error(&self, row: usize, column: usize, message: impl Into<String>) -> StageError {
        let error = StageError::input(message);
        match (&self.source, self.fields.span(row, column)) {
            (Source::Csv { .. }, Some(span)) => {
                let (line, character) = self.fields.place(span);
                error.at(&self.name, line, character)
            }
            _ => error,
        }
    }

    /// What a message calls a row: `line 5` of CSV, `row 4` of Parquet.
    pub fn row_name(&self, row: usize) -> String {
        match (&self.source, self.fields.span(row, 0)) {
            (Source::Csv { .. }, Some(span)) => format!("line {}", self.fields.place(span).0),
            _ => format!("row {}", row + 1),
        }
    }
}

fn plain_name(name: &str) -> String {
    name.to_lowercase().replace([' ', '-', '.'], "_")
}
