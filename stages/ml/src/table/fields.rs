//! The fields of a table as parts of one text.

use hamflow_stage_api::StageError;

/// The fields of all rows, which share one text.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The text that the spans point into; for CSV, the whole file and then the fields with doubled quotes.
    pub text: String,
    /// The fields, row by row.
    pub spans: Vec<Span>,
    /// The number of spans of a row; at least the number of columns.
    pub stride: usize,
    /// For each field with doubled quotes, sorted: its start in `text`, and its start in the file.
    pub unescaped: Vec<(u32, u32)>,
}

/// The line and the character at the end of a text, both 1-based.
pub(super) fn position(before: &str) -> (u64, u64) {
    let (mut line, mut start) = (1, 0);
    for (place, byte) in before.bytes().enumerate() {
        let is_end = match byte {
            b'\n' => true,
            // The line end of an old Mac, among others.
            b'\r' => before.as_bytes().get(place + 1).is_none_or(|next| *next != b'\n'),
            _ => false,
        };
        if is_end {
            line += 1;
            start = place + 1;
        }
    }
    (line, 1 + before.get(start..).unwrap_or_default().chars().count() as u64)
}

/// A field as a part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first byte.
    pub start: u32,
    /// The number of bytes.
    pub length: u32,
}

impl Fields {
    /// The number of rows.
    pub fn height(&self) -> usize {
        self.spans.len().checked_div(self.stride).unwrap_or(0)
    }

    /// A field, if there is one.
    pub fn span(&self, row: usize, column: usize) -> Option<&Span> {
        self.spans.get(row * self.stride + column)
    }

    /// The line and the character of a field in its file, both 1-based. A quoted field begins with its quote.
    pub fn place(&self, span: &Span) -> (u64, u64) {
        let start = match self.unescaped.binary_search_by_key(&span.start, |(start, _)| *start) {
            Ok(found) => self.unescaped[found].1,
            Err(_) => span.start,
        };
        let before = self.text.get(..start as usize).unwrap_or_default();
        position(before.strip_suffix('"').unwrap_or(before))
    }
}

impl Span {
    /// A part of the text of the file `name`. Texts beyond 4 GiB are an error.
    pub fn new(name: &str, start: usize, end: usize) -> Result<Self, StageError> {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Ok(Self { start, length: end.saturating_sub(start) }),
            _ => Err(StageError::input(format!("`{name}` has more than 4 GiB of text")).hint("split it")),
        }
    }

    /// The part of `text`.
    pub fn of<'a>(&self, text: &'a str) -> &'a str {
        let start = self.start as usize;
        text.get(start..start + self.length as usize).unwrap_or_default()
    }

    /// Whether it has no characters.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}
